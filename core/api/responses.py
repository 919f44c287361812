"""JSON responses, whatever the `Accept` header asks for."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from django.http import HttpResponse
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

# Types unknown to orjson are encoded as in Django REST framework.
encode_other = JSONEncoder().default


def json_of(value: Any) -> bytes:
    """Return JSON in UTF-8. Times must be in UTC, and become RFC 3339; UUIDs have dashes."""
    return orjson.dumps(value, default=encode_other, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


class JSONResponse(HttpResponse):
    """A response with `data` as JSON, rendered at once and without the library's renderers."""

    def __init__(self, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.data = data
        super().__init__(json_of(data), "application/json", status, headers=headers)


class NoContent(HttpResponse):
    """A 204 response."""

    def __init__(self) -> None:
        super().__init__(status=204)
        del self["Content-Type"]


class IgnoreClientContentNegotiation(DefaultContentNegotiation):
    """Uses each view's only renderer and ignores `Accept`, as RFC 9110, section 12.1 allows."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)
