"""Request metadata (address, user agent, authentication) for audit events."""

from dataclasses import dataclass

from django.db import models
from django.http import HttpRequest

from core.client import bears_token, client_address, current_request

MAX_USER_AGENT = 300


class Way(models.TextChoices):
    """The way in which the actor authenticated."""

    BEARER = "bearer", "Token"
    SESSION = "session", "Browser"
    COMMAND = "command", "Command line"


@dataclass(frozen=True)
class Source:
    """The origin of an event: by default the command line."""

    way: Way = Way.COMMAND
    address: str | None = None
    user_agent: str = ""


COMMAND_LINE = Source()


def source() -> Source:
    """Return the metadata of the current request, or of the command line outside a request."""
    request = current_request.get()
    return source_of(request) if request else COMMAND_LINE


def source_of(request: HttpRequest) -> Source:
    return Source(
        way=Way.BEARER if bears_token(request) else Way.SESSION,
        address=client_address(request),
        user_agent=request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
    )
