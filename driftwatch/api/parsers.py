"""Request bodies: JSON, and only values that can be stored and found again."""

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from driftwatch.api.exceptions import BodyTooLarge
from driftwatch.values import MAX_DEPTH, problems


class StrictJSONParser(BaseParser):
    """JSON in UTF-8, with finite numbers, 64-bit integers, bounded depth, and strings that are text."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise BodyTooLarge(f"The body is larger than {limit:,} bytes. Send less in one request.")
        try:
            value = json.loads(body.decode(), parse_constant=refuse_constant, parse_int=bounded_int)
        except RecursionError:
            raise ValidationError(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON in UTF-8: {error}.") from error
        for path, problem in problems(value):
            raise ValidationError({path: [problem]} if path else [problem])
        return value


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def bounded_int(digits: str) -> int:
    """Python takes long over very long integers; so many digits are out of bounds whatever comes after them."""
    return int(digits[:25])
