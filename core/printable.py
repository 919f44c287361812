"""Texts of other people, for responses, logs and terminals."""


def encodable(text: str) -> str:
    """Replace lone surrogates by their escapes, such as `\\ud800`: refusals quote requests, and UTF-8 has none."""
    return text.encode(errors="backslashreplace").decode()


def escaped(text: str) -> str:
    """Escape the characters that end a line, move the cursor, or that no encoding has."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
