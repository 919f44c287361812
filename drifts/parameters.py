"""The parameters of a run, which are any JSON object, by path."""

from collections.abc import Iterator
from typing import Any

ROOT = "parameters"


def leaves(value: Any, path: tuple[str, ...] = (ROOT,)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The names on the way to each value, and the value: all but an object that holds something."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, value
