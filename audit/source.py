"""Where a deed comes from: known at the edge, recorded far below it."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from django.db import models
from django.http import HttpRequest, HttpResponse

from core.client import bears_token, client_address

MAX_USER_AGENT = 300


class Way(models.TextChoices):
    """How somebody came in."""

    BEARER = "bearer"
    SESSION = "session"
    COMMAND = "command"


@dataclass(frozen=True)
class Source:
    """Outside of a request it is the command line."""

    way: Way = Way.COMMAND
    address: str | None = None
    user_agent: str = ""


COMMAND_LINE = Source()
request_at_hand: ContextVar[HttpRequest | None] = ContextVar("request_at_hand", default=None)


def source() -> Source:
    """Where the deed at hand comes from."""
    request = request_at_hand.get()
    return source_of(request) if request else COMMAND_LINE


class SourceMiddleware:
    """Remembers the request while it is answered: few are for a deed, and only then it matters where it comes from."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = request_at_hand.set(request)
        try:
            return self.get_response(request)
        finally:
            request_at_hand.reset(token)


def source_of(request: HttpRequest) -> Source:
    return Source(
        way=Way.BEARER if bears_token(request) else Way.SESSION,
        address=client_address(request),
        user_agent=request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
    )
