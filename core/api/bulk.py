"""Request bodies that hold many objects: all are stored, or none."""

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from json import JSONDecodeError
from typing import IO, Any, NamedTuple

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from core.api.json_input import (
    LARGE,
    MAX_VALUES,
    TOO_MANY_VALUES,
    decoder,
    explained_errors,
    may_have_more_values,
    number_of_values,
    parsed,
    problem_in,
    text_of,
)
from core.api.serializers import StrictSerializer
from core.turns import in_turn

MAX_ITEMS = 10_000
# The objects after so many invalid ones are not checked.
MAX_INVALID = 100
LINE = re.compile(rb"\S[^\n]*")
SPACE = re.compile(r"[ \t\n\r]*")


class MalformedItem(NamedTuple):
    """An object that cannot be used, such as a line that is not valid JSON, and the detail of the error."""

    detail: Any


NOT_CHECKED = MalformedItem("This line was not checked.")


class JSONArrayParser(BaseParser):
    """Parses a JSON array."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read()
        with in_turn(len(body) > LARGE):
            items = self.items(body)
        if not items:
            raise ValidationError(f"Send 1 to {MAX_ITEMS:,} objects in one request, not 0.")
        return items

    def items(self, body: bytes) -> list[Any]:
        with explained_errors(body, "The body"):
            items = list(islice(elements(text_of(body)), MAX_ITEMS + 1))
        refuse_too_many(items)
        return items


class NDJSONParser(JSONArrayParser):
    """Parses one JSON object per line (https://github.com/ndjson/ndjson-spec). Blank lines are skipped."""

    media_type = "application/x-ndjson"

    def items(self, body: bytes) -> list[Any]:
        lines = list(islice(LINE.finditer(body), MAX_ITEMS + 1))
        refuse_too_many(lines)
        items: list[Any] = []
        number, counted, malformed = 1, 0, 0
        for line in lines:
            number += body.count(b"\n", counted, line.start())
            counted = line.start()
            items.append(parse_line(number, line[0]) if malformed < MAX_INVALID else NOT_CHECKED)
            malformed += isinstance(items[-1], MalformedItem)
        return items


class JSONLinesParser(NDJSONParser):
    """Parses JSON Lines (https://jsonlines.org), another name of NDJSON."""

    media_type = "application/jsonl"


def refuse_too_many(found: Collection[Any]) -> None:
    """Raise `ValidationError` for one object more than the limit. Those after it are not even counted."""
    if len(found) > MAX_ITEMS:
        raise ValidationError(f"Send 1 to {MAX_ITEMS:,} objects in one request, not {len(found):,} or more.")


def elements(text: str) -> Iterator[Any]:
    """Yield the elements of a JSON array, each parsed when it is needed. Raises `JSONDecodeError`.

    An element that cannot be stored is replaced by a `MalformedItem`. One with too many values is the last.
    """
    is_large = may_have_more_values(text)
    at = after_space(text, 0)
    if not text.startswith("[", at):
        if not is_large:
            decoder.decode(text)
        raise ValidationError("Send a JSON array of objects, or NDJSON with Content-Type: application/x-ndjson.")
    at = after_space(text, at + 1)
    is_at_end = text.startswith("]", at)
    while not is_at_end:
        if is_large and number_of_values(text, at) > MAX_VALUES:
            yield MalformedItem(f"The object {TOO_MANY_VALUES} The objects after it were not read.")
            return
        element, end = decoder.raw_decode(text, at)
        yield storable(element)
        at = after_space(text, end)
        is_at_end = text.startswith("]", at)
        if not is_at_end:
            if not text.startswith(",", at):
                raise JSONDecodeError("Expecting ',' delimiter", text, at)
            at = after_space(text, at + 1)
    if (at := after_space(text, at + 1)) < len(text):
        raise JSONDecodeError("Extra data", text, at)


def storable(item: Any) -> Any:
    """Return the item, or a `MalformedItem` if it cannot be stored and found again."""
    found = problem_in(item)
    if found is None:
        return item
    return MalformedItem({found.path: [found.sentence]} if found.path else [found.sentence])


def after_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def parse_line(number: int, line: bytes) -> Any:
    try:
        return storable(parsed(line, f"Line {number}"))
    except (ParseError, ValidationError) as error:
        (message,) = error.detail if isinstance(error, ValidationError) else (error.detail,)
        return MalformedItem(str(message))


def validated(items: Collection[Any], kind: type[StrictSerializer]) -> list[dict[str, Any]]:
    """Return the validated fields of each item. Raises one `ValidationError` with the first errors, by position."""
    taken: list[dict[str, Any]] = []
    refused: list[tuple[int, Any]] = []
    for position, item in enumerate(items):
        try:
            taken.append(validated_one(item, kind))
        except ValidationError as error:
            # The errors themselves would keep this frame and its items in memory.
            refused.append((position, error.detail))
            if len(refused) == MAX_INVALID:
                break
    if refused:
        is_all = len(taken) + len(refused) == len(items)
        raise ValidationError(dict(errors_of(refused, len(items), is_all)))
    return taken


def validated_one(item: Any, kind: type[StrictSerializer]) -> dict[str, Any]:
    if isinstance(item, MalformedItem):
        raise ValidationError(item.detail)
    return kind.validated(item)


def errors_of(refused: list[tuple[int, Any]], sent: int, is_all: bool) -> Iterator[tuple[str, Any]]:
    number = f"{len(refused):,} of {sent:,} objects are not valid"
    found = f"{number}." if is_all else f"At least {number}. The objects after these were not checked."
    yield "non_field_errors", [f"{found} No object was stored."]
    for position, detail in refused:
        yield str(position), detail if isinstance(detail, dict) else {"non_field_errors": detail}
