"""Request bodies: JSON, and only values that can be stored and found again."""

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from core.api.exceptions import BodyTooLarge
from core.json_values import MAX_DEPTH, problem_in


class StrictJSONParser(BaseParser):
    """JSON in UTF-8, with finite numbers, 64-bit integers, bounded depth, and strings that are text."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        value = parsed(read(stream, settings.DATA_UPLOAD_MAX_MEMORY_SIZE))
        refuse_unstorable(value)
        return value


def read(stream: IO[bytes], limit: int) -> bytes:
    body = stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(f"The body is larger than {limit:,} bytes. Send less in one request.")
    return body


def parsed(body: bytes, name: str = "The body") -> Any:
    """The value of a JSON text, which errors call `name`. Whether it can be stored is not looked at yet."""
    try:
        return decoder.decode(body.decode())
    except RecursionError:
        raise ValidationError(f"{name} is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise ParseError(f"{name} is not JSON in UTF-8: {error}.") from error


def refuse_unstorable(value: Any) -> None:
    """Raise `ValidationError` for the first part of it that cannot be stored and found again."""
    if found := problem_in(value):
        path, sentence = found
        raise ValidationError({path: [sentence]} if path else [sentence])


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def bounded_int(digits: str) -> int:
    """Python takes long over very long integers; so many digits are out of bounds whatever comes after them."""
    return int(digits[:25])


decoder = json.JSONDecoder(parse_constant=refuse_constant, parse_int=bounded_int)
