"""Strict parsing of JSON bodies, limited to values that MongoDB can store and filters can find."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from core.turns import in_turn

MAX_DEPTH = 50  # MongoDB stores 100 levels, including those of the document and the update around the value.
# The most values of one stored object. Each costs memory and time at every read, a short list as much as a long text.
MAX_VALUES = 500_000
TOO_MANY_VALUES = (
    f"holds more than {MAX_VALUES:,} values: each object, list, text, number, true, false and null counts. "
    "Store a summary, or split it."
)
MAX_NAME = 1_000
NOT_JSON = "is not a JSON number. Send null or leave it out."
REPEATED = "The name {} stands twice. Send it once (a filter joins conditions by $and)."
INT64 = range(-(2**63), 2**63)
CONTAINERS = (dict, list)
# Bytes of a text whose decoding and checks take 10 ms or more.
LARGE = 200_000
# The parts of a text that matter for the number of its values. A string without an end takes the rest of the text.
TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|\[\s*+\]|\{\s*+\}|[,\[\]{}]', re.DOTALL)
SURROGATE = re.compile("[\ud800-\udfff]")


class StrictJSONParser(BaseParser):
    """Parses JSON in UTF-8 with unique names, finite numbers, 64-bit integers, bounded depth and valid Unicode."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read()
        value = parsed(body)
        with in_turn(len(body) > LARGE):
            refuse_unstorable(value)
        return value


def parsed(body: bytes, name: str = "The body") -> Any:
    """Return the value of a JSON text, called `name` in errors. See `refuse_unstorable` for the check of values."""
    with in_turn(len(body) > LARGE), explained_errors(body, name):
        text = text_of(body)
        if may_have_more_values(text) and number_of_values(text) > MAX_VALUES:
            raise ValidationError(f"{name} {TOO_MANY_VALUES}")
        return decoder.decode(text)


@contextmanager
def explained_errors(body: bytes, name: str) -> Iterator[None]:
    """Turn the errors of the decoder into those of the API."""
    try:
        yield
    except RecursionError:
        raise ValidationError(f"{name} is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise ParseError(f"{name} is not JSON in UTF-8: {error}.") from error


def text_of(body: bytes) -> str:
    """Decode UTF-8 and ignore a byte order mark, as RFC 8259, section 8.1 allows. Raises `UnicodeDecodeError`."""
    return body.decode("utf-8-sig")


def may_have_more_values(text: str, most: int = MAX_VALUES) -> bool:
    """Return whether a JSON text may have more values: each but the first follows a comma or an opening bracket.

    The brackets and commas in strings are counted too, which takes a hundredth of the time of `number_of_values`.
    """
    return sum(map(text.count, ",[{")) >= most


def number_of_values(text: str, start: int = 0) -> int:
    """Return the number of values of the JSON value at `start`, itself included; at most `MAX_VALUES` + 1.

    Values are counted before they are decoded: no other thread would run meanwhile. Names are not counted.
    """
    number, depth = 1, 0
    for found in TOKEN.finditer(text, start):
        match found[0]:
            case "[" | "{":
                number += 1
                depth += 1
            case "," if depth:
                number += 1
            case "]" | "}" if depth > 1:
                depth -= 1
            case "]" | "}" | ",":
                break
        if number > MAX_VALUES:
            break
    return number


def refuse_unstorable(value: Any) -> None:
    """Raise an error for the first part of a value that cannot be stored and found again.

    That is a `ParseError` for a part that JSON does not have (`Constant`), and a `ValidationError` for others.
    """
    if found := problem_in(value):
        if found.is_syntax:
            raise ParseError(f"{found.path}: {found.sentence}".removeprefix(": "))
        raise ValidationError({found.path: [found.sentence]} if found.path else [found.sentence])


class Problem(NamedTuple):
    """The problem of a part of a value. `is_syntax` is true if JSON has no such part."""

    path: str
    sentence: str
    is_syntax: bool = False


class Constant(float):
    """`NaN`, `Infinity` or `-Infinity`, which JSON does not have, in the place where a text has it."""


class Ambiguous(dict[str, Any]):
    """An object in which a name stands twice. `repeated` is such a name."""

    repeated: str


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these names and values. `refuse_unstorable` refuses an `Ambiguous` one, with its path."""
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    ambiguous = Ambiguous(value)
    ambiguous.repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
    return ambiguous


def bounded_int(digits: str) -> int:
    """Parse the first 25 digits: they already exceed 64 bits, and very long integers take Python long."""
    return int(digits[:25])


decoder = json.JSONDecoder(parse_constant=Constant, parse_int=bounded_int, object_pairs_hook=object_of)


def problem_in(value: Any, path: str = "", depth: int = 0) -> Problem | None:
    """Return the problem of the first part that cannot be stored, or None."""
    if isinstance(value, dict):
        return problem_of_object(value, path) or problem_of_items(value.items(), path, depth)
    if isinstance(value, list):
        return problem_of_items(enumerate(value), path, depth)
    return problem_of_scalar(value, path)


def problem_of_object(value: dict[str, Any], path: str) -> Problem | None:
    # First, so that the other sentences quote only names that a response can hold.
    for name in value:
        if sentence := text_problem(name):
            return Problem(path, f"In a key: {sentence}")
    if isinstance(value, Ambiguous):
        return Problem(path, REPEATED.format(json.dumps(value.repeated, ensure_ascii=False)))
    if value.get("$db", ...) is None and "$ref" in value and "$id" in value:
        return Problem(path, "MongoDB reads an object with $ref and $id as a reference. Leave out a $db that is null.")
    for name in value:
        if len(name) > MAX_NAME:
            named = f"{path}.{name}" if path else name
            return Problem(named, f"A name must have at most {MAX_NAME:,} characters.")
    return None


def problem_of_items(items: Iterable[tuple[str | int, Any]], path: str, depth: int) -> Problem | None:
    """Find the first problem. Paths are built for nested and refused items only, since most items are neither."""
    for key, item in items:
        if depth == MAX_DEPTH:
            return Problem(path.split(".", 1)[0], f"Nested deeper than {MAX_DEPTH} levels.")
        if isinstance(item, CONTAINERS):
            found = problem_in(item, f"{path}.{key}" if path else str(key), depth + 1)
        else:
            found = problem_of_scalar(item, f"{path}.{key}" if path else str(key)) if scalar_problem(item) else None
        if found:
            return found
    return None


def problem_of_scalar(value: str | float | None, path: str) -> Problem | None:
    sentence = scalar_problem(value)
    return Problem(path, sentence, isinstance(value, Constant)) if sentence else None


def scalar_problem(value: str | float | None) -> str | None:
    """Return why a string, number, boolean or null cannot be stored, or None."""
    if isinstance(value, str):
        return text_problem(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else problem_of_infinite(value)
    if isinstance(value, int) and value not in INT64:
        return "An integer must fit 64 bits. Send it as a string or a float."
    return None


def problem_of_infinite(value: float) -> str:
    if isinstance(value, Constant):
        return f"{json.dumps(value)} {NOT_JSON}"
    return "A number must be finite. Send null or leave it out."


def text_problem(text: str) -> str | None:
    """Return why MongoDB cannot store the string (NUL, lone surrogate), or None."""
    if "\0" in text:
        return "A string must not hold the character NUL (U+0000)."
    if not text.isascii() and SURROGATE.search(text):
        return "A string must not hold a lone surrogate (U+D800 to U+DFFF)."
    return None
