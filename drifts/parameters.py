"""The parameters of a run, which are any JSON object: by path, as text, and as a tree."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

ROOT = "parameters"
# The most values that a tree shows.
MAX_VALUES = 2_000


def leaves(value: Any, path: tuple[str, ...] = (ROOT,)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The path and the value of each leaf. A leaf is any value but a non-empty object."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, value


def text_of(value: Any) -> str:
    """Return a string as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tree(value: Any) -> SafeString | None:
    """Return a JSON value as nested HTML lists; None if it holds more than `MAX_VALUES` values."""
    return None if len(list(islice(branches(value), MAX_VALUES + 1))) > MAX_VALUES else branch(value)


def branch(value: Any) -> SafeString:
    if not (parts := parts_of(value)):
        return format_html("{}", text_of(value))
    rows = format_html_join("", "<dt>{}</dt><dd>{}</dd>", ((name, branch(part)) for name, part in parts))
    return format_html('<dl class="tree">{}</dl>', rows)


def branches(value: Any) -> Iterator[Any]:
    """The values that a tree shows, without those that contain others. Each element of a list counts."""
    parts = parts_of(value)
    for _, part in parts:
        yield from branches(part)
    if not parts:
        yield from value if isinstance(value, list) and value else [value]


def parts_of(value: Any) -> Sequence[tuple[Any, Any]]:
    """The parts of an object by name, or of a list by index if it contains objects or lists; else none."""
    if isinstance(value, dict):
        return list(value.items())
    is_nested = isinstance(value, list) and any(isinstance(part, dict | list) for part in value)
    return list(enumerate(value)) if is_nested else []
