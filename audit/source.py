"""Request metadata (address, user agent, authentication) for audit events."""

from dataclasses import dataclass

from django.db import models
from django.http import HttpRequest

from core.client import bears_token, client_address, current_request

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


def source() -> Source:
    """The metadata of the current request, or those of the command line."""
    request = current_request.get()
    return source_of(request) if request else COMMAND_LINE


def source_of(request: HttpRequest) -> Source:
    return Source(
        way=Way.BEARER if bears_token(request) else Way.SESSION,
        address=client_address(request),
        user_agent=request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
    )
