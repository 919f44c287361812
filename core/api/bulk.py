"""Bodies that hold many objects, of which all are taken or none."""

from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from django.conf import settings
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from core.api.json_input import parsed, read, refuse_unstorable
from core.api.serializers import StrictSerializer

MAX_ITEMS = 10_000
# Errors beyond these are counted, not listed.
MAX_LISTED = 100


class Unreadable(NamedTuple):
    """Stands for an object whose JSON is broken; the sentence says how."""

    sentence: str


class JSONArrayParser(BaseParser):
    """A JSON array."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        items = self.items(read(stream, settings.MAX_BULK_BYTES))
        if not 1 <= len(items) <= MAX_ITEMS:
            raise ValidationError(f"Send from 1 to {MAX_ITEMS:,} objects in one request: these are {len(items):,}.")
        return items

    def items(self, body: bytes) -> list[Any]:
        items = parsed(body)
        if not isinstance(items, list):
            raise ValidationError("Send a JSON array of objects, or NDJSON with Content-Type: application/x-ndjson.")
        return items


class NDJSONParser(JSONArrayParser):
    """A JSON object on each line (https://github.com/ndjson/ndjson-spec); blank lines are skipped."""

    media_type = "application/x-ndjson"

    def items(self, body: bytes) -> list[Any]:
        return [readable(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]


class JSONLinesParser(NDJSONParser):
    """The same by its other name (https://jsonlines.org)."""

    media_type = "application/jsonl"


def readable(number: int, line: bytes) -> Any:
    try:
        return parsed(line, f"Line {number}")
    except (ParseError, ValidationError) as error:
        (sentence,) = error.detail if isinstance(error, ValidationError) else (error.detail,)
        return Unreadable(str(sentence))


def validated(items: Iterable[Any], kind: type[StrictSerializer]) -> list[dict[str, Any]]:
    """The fields of each item. Raises one `ValidationError` with the errors of all, by position."""
    taken: list[dict[str, Any]] = []
    refused: list[tuple[int, ValidationError]] = []
    for position, item in enumerate(items):
        try:
            taken.append(validated_one(item, kind))
        except ValidationError as error:
            refused.append((position, error))
    if refused:
        raise ValidationError(dict(errors_of(refused, len(taken) + len(refused))))
    return taken


def validated_one(item: Any, kind: type[StrictSerializer]) -> dict[str, Any]:
    if isinstance(item, Unreadable):
        raise ValidationError(item.sentence)
    refuse_unstorable(item)
    return kind.validated(item)


def errors_of(refused: list[tuple[int, ValidationError]], sent: int) -> Iterator[tuple[str, Any]]:
    listed = f" The first {MAX_LISTED} are listed." if len(refused) > MAX_LISTED else ""
    yield "non_field_errors", [f"{len(refused):,} of {sent:,} are not valid, and none was stored.{listed}"]
    for position, error in refused[:MAX_LISTED]:
        yield str(position), error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
