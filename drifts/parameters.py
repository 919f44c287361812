"""The parameters of a run, which are any JSON object: by path, and as a tree that a reader opens and closes."""

from collections.abc import Iterator
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

ROOT = "parameters"
# What is longer or deeper is told by its size.
SHOWN_PARTS = 200
SHOWN_LEVELS = 12


def leaves(value: Any, path: tuple[str, ...] = (ROOT,)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The names on the way to each value, and the value: all but an object that holds something."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, value


def tree(value: Any, level: int = 0) -> SafeString:
    """A JSON value as HTML: an object or a list by its parts, each below its name or place."""
    match value:
        case dict() if value:
            return nested(list(value.items()), f"{len(value):,} named values", level)
        case list() if value:
            return nested(list(enumerate(value)), f"{len(value):,} values", level)
        case bool() | None:
            return format_html("<code>{}</code>", {True: "true", False: "false", None: "null"}[value])
        case str():
            return format_html("{}", value)
        case _:
            return format_html("<code>{}</code>", value)


def nested(parts: list[tuple[Any, Any]], size: str, level: int) -> SafeString:
    if level == SHOWN_LEVELS:
        return format_html("{}, too deep to be shown", size)
    rows = format_html_join(
        "", "<dt>{}</dt><dd>{}</dd>", ((name, tree(part, level + 1)) for name, part in parts[:SHOWN_PARTS])
    )
    left = len(parts) - SHOWN_PARTS
    more = format_html("<p>and {} more</p>", f"{left:,}") if left > 0 else ""
    shown = format_html('<dl class="tree">{}</dl>{}', rows, more)
    return shown if level == 0 else format_html("<details><summary>{}</summary>{}</details>", size, shown)
