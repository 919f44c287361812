"""How the API responds: with JSON, whatever a client would rather have."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from django.http import HttpResponse
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

# What the library does not write by itself, as Django REST framework writes it.
otherwise = JSONEncoder().default


def json_of(value: Any) -> bytes:
    """JSON in UTF-8. Times, which are in UTC, are RFC 3339; UUIDs have dashes."""
    return orjson.dumps(value, default=otherwise, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


class JSONResponse(HttpResponse):
    """`data` as JSON, written at once: the library's own response is a template that looks for its renderer."""

    def __init__(self, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.data = data
        super().__init__(json_of(data), "application/json", status, headers=headers)


class NoContent(HttpResponse):
    """204, without a body."""

    def __init__(self) -> None:
        super().__init__(status=204)
        del self["Content-Type"]


class OneRenderer(DefaultContentNegotiation):
    """Each view responds in one way, whatever the request accepts (RFC 9110, section 12.1)."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)
