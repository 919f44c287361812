"""Tags: the limits `MAX_TAG` characters each and `MAX_TAGS` on one object, and their text in forms."""

import re

MAX_TAG = 20
MAX_TAGS = 50
UNREADABLE = (
    'Write the tags in one line, separated by commas. A tag with a comma stands in double quotes: "a, b". '
    "Close the quotes, and put a comma after them. Inside them, write a double quote twice."
)
# A tag in quotes, in which quotes are doubled, or without them; then the comma or the end. The quantifiers are
# possessive: a text of many spaces would else take quadratic time.
WRITTEN = re.compile(r'[ \t]*+(?:"((?:[^"]|"")*+)"[ \t]*+|([^", \t\r\n][^,\r\n]*+)?)(?:,|\Z)')


def written_tags(tags: list[str]) -> str:
    """Write tags in one line, with quotes around those that hold a comma, quotes, or spaces at an end."""
    quoted = ('"{}"'.format(tag.replace('"', '""')) for tag in tags)
    return ", ".join(text if needs_quotes(tag) else tag for tag, text in zip(tags, quoted, strict=True))


def needs_quotes(tag: str) -> bool:
    return tag != tag.strip() or not {",", '"', "\n", "\r"}.isdisjoint(tag)


def tags_of(text: str) -> list[str]:
    """Read tags as `written_tags` writes them. Empty ones are left out. Raises `ValueError`."""
    tags, at = [], 0
    while at < len(text):
        found = WRITTEN.match(text, at)
        if found is None:
            raise ValueError(UNREADABLE)
        quoted, plain = found.groups()
        tags.append((plain or "").strip() if quoted is None else quoted.replace('""', '"'))
        at = found.end()
    return [tag for tag in tags if tag]
