"""The parameters of a run, which are any JSON object: by path, as text, and as a tree."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from core.filters.expressions import LIST_INDEX
from core.mongodb.match import Mql

ROOT = "parameters"
# The most values and characters that a tree shows, and the most bytes of BSON that such a tree may have.
MAX_VALUES = 2_000
MAX_TEXT = 500_000
# The most characters of markup for a name or a value.
MARKUP = 40
MAX_BYTES = 1_000_000
# The most elements of a list whose objects have leaves. A longer list is a leaf.
MAX_ELEMENTS = 100
# Empty parameters stay, because such a run may be unsupported.
WITHOUT_PARAMETERS: Mql = {
    "$set": {ROOT: {"$cond": [{"$eq": [f"${ROOT}", {"$literal": {}}]}, {"$literal": {}}, "$$REMOVE"]}}
}
# Parameters that are too large to show become null. Reading them would take up to half a second.
WITHOUT_LARGE_PARAMETERS: Mql = {
    "$set": {ROOT: {"$cond": [{"$lte": [{"$bsonSize": f"${ROOT}"}, MAX_BYTES]}, f"${ROOT}", None]}}
}


def leaves(
    value: Any, path: tuple[str, ...] = (ROOT,), *, max_elements: int = MAX_ELEMENTS
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The names in the path, and the value, of each leaf.

    An object with parts is not a leaf, nor a list of at most `max_elements` values if one of them is an object. The
    name of an element is its index.
    """
    if isinstance(value, dict) and value:
        items: Iterable[tuple[str, Any]] = value.items()
    elif isinstance(value, list) and len(value) <= max_elements and any(isinstance(item, dict) for item in value):
        items = ((str(index), item) for index, item in enumerate(value))
    else:
        yield path, value
        return
    for name, item in items:
        yield from leaves(item, (*path, name), max_elements=max_elements)


def part_at(value: Any, names: Iterable[str]) -> Any:
    """Return the part of a value at the names in a path, or None. A number is a list index or a name, as in filters."""
    for name in names:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and LIST_INDEX.fullmatch(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def text_of(value: Any) -> str:
    """Return a string as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tree(parameters: Any) -> SafeString | None:
    """Return parameters as nested HTML lists; None for more than `MAX_VALUES` values or `MAX_TEXT` characters.

    None stands for parameters that were not read, because they have more than `MAX_BYTES`.
    """
    try:
        return None if parameters is None else Tree().branch(parameters)
    except TooLarge:
        return None


class TooLarge(Exception):
    """Raised for a value that is too large to show."""


class Tree:
    """Draws a value. Counts the values drawn, without those that contain others, and the characters of the HTML."""

    def __init__(self) -> None:
        self.values = 0
        self.characters = 0

    def branch(self, value: Any) -> SafeString:
        is_container = isinstance(value, dict | list)
        # Each part has at least one value, so that a long list is refused before its parts are drawn.
        if is_container and len(value) > MAX_VALUES - self.values:
            raise TooLarge
        if not (parts := parts_of(value)):
            self.values += max(1, len(value)) if is_container else 1
            return self.text(text_of(value))
        rows = format_html_join(
            "", "<dt>{}</dt><dd>{}</dd>", ((self.text(name), self.branch(part)) for name, part in parts)
        )
        return format_html('<dl class="tree">{}</dl>', rows)

    def text(self, text: Any) -> SafeString:
        escaped = format_html("{}", text)
        self.characters += len(escaped) + MARKUP
        if self.values > MAX_VALUES or self.characters > MAX_TEXT:
            raise TooLarge
        return escaped


def parts_of(value: Any) -> Sequence[tuple[Any, Any]]:
    """The parts of an object by name, or of a list by index if it contains objects or lists; else none."""
    if isinstance(value, dict):
        return list(value.items())
    is_nested = isinstance(value, list) and any(isinstance(part, dict | list) for part in value)
    return list(enumerate(value)) if is_nested else []
