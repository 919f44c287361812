"""Texts of other people on a line of a terminal or a log."""


def escaped(text: str) -> str:
    """Escape the characters that end a line, move the cursor, or that no encoding has."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
