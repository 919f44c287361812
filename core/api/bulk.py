"""Request bodies that hold many objects: all are stored, or none."""

from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from core.api.json_input import parsed, refuse_unstorable
from core.api.serializers import StrictSerializer

MAX_ITEMS = 10_000
# Further errors are counted, not listed.
MAX_LISTED = 100


class MalformedItem(NamedTuple):
    """A line that is not valid JSON, and the error message."""

    message: str


class JSONArrayParser(BaseParser):
    """Parses a JSON array."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        items = self.items(stream.read())
        if not 1 <= len(items) <= MAX_ITEMS:
            raise ValidationError(f"Send 1 to {MAX_ITEMS:,} objects in one request, not {len(items):,}.")
        return items

    def items(self, body: bytes) -> list[Any]:
        items = parsed(body)
        if not isinstance(items, list):
            raise ValidationError("Send a JSON array of objects, or NDJSON with Content-Type: application/x-ndjson.")
        return items


class NDJSONParser(JSONArrayParser):
    """Parses one JSON object per line (https://github.com/ndjson/ndjson-spec). Blank lines are skipped."""

    media_type = "application/x-ndjson"

    def items(self, body: bytes) -> list[Any]:
        return [parse_line(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]


class JSONLinesParser(NDJSONParser):
    """Parses JSON Lines (https://jsonlines.org), another name of NDJSON."""

    media_type = "application/jsonl"


def parse_line(number: int, line: bytes) -> Any:
    try:
        return parsed(line, f"Line {number}")
    except (ParseError, ValidationError) as error:
        (message,) = error.detail if isinstance(error, ValidationError) else (error.detail,)
        return MalformedItem(str(message))


def validated(items: Iterable[Any], kind: type[StrictSerializer]) -> list[dict[str, Any]]:
    """Return the validated fields of each item. Raises one `ValidationError` with all errors, by position."""
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
    if isinstance(item, MalformedItem):
        raise ValidationError(item.message)
    refuse_unstorable(item)
    return kind.validated(item)


def errors_of(refused: list[tuple[int, ValidationError]], sent: int) -> Iterator[tuple[str, Any]]:
    listed = f" The errors of the first {MAX_LISTED} are listed." if len(refused) > MAX_LISTED else ""
    yield "non_field_errors", [f"{len(refused):,} of {sent:,} objects are not valid. No object was stored.{listed}"]
    for position, error in refused[:MAX_LISTED]:
        yield str(position), error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
