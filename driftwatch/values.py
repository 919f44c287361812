"""Which JSON values can be stored and found again."""

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 50  # MongoDB stores 100 levels, of which a document and an update take some.
INT64 = range(-(2**63), 2**63)


def problems(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """What keeps a parsed JSON value from being stored: pairs of the path and a sentence."""
    if depth > MAX_DEPTH:
        yield path.split(".", 1)[0], f"Nested deeper than {MAX_DEPTH} levels."
    elif isinstance(value, dict):
        if {"$ref", "$id", "$db"} <= value.keys() and value["$db"] is None:
            yield path, "An object with $ref and $id is a reference to MongoDB: leave out a $db that is null."
        for key, item in value.items():
            if problem := text_problem(key):
                yield path, f"In a key: {problem}"
            yield from problems(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from problems(item, f"{path}.{index}" if path else str(index), depth + 1)
    elif problem := scalar_problem(value):
        yield path, problem


def scalar_problem(value: str | float | None) -> str | None:
    if isinstance(value, str):
        return text_problem(value)
    if isinstance(value, int) and value not in INT64:
        return "An integer must fit 64 bits. Send it as a string or a float."
    if isinstance(value, float) and not math.isfinite(value):
        return "A number must be finite."
    return None


def text_problem(text: str) -> str | None:
    if "\0" in text:
        return "A string must not hold the character NUL (U+0000)."
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "A string must not hold a lone surrogate (U+D800 to U+DFFF)."
    return None
