"""Request metadata (address, user agent, authentication) for audit events."""

from dataclasses import dataclass

from django.db import models
from django.http import HttpRequest

from core.client import client_address, current_request, request_id
from core.identity import Identity

MAX_USER_AGENT = 300


class Way(models.TextChoices):
    """The way in which the actor authenticated."""

    BEARER = "bearer", "Token"
    SESSION = "session", "Browser"
    COMMAND = "command", "Command line"


@dataclass(frozen=True)
class Source:
    """The origin of an event: by default the command line."""

    address: str | None = None
    user_agent: str = ""
    request_id: str | None = None


COMMAND_LINE = Source()


def source() -> Source:
    """Return the metadata of the current request, or of the command line outside a request."""
    request = current_request.get()
    return source_of(request) if request else COMMAND_LINE


def source_of(request: HttpRequest) -> Source:
    return Source(
        address=client_address(request),
        user_agent=request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
        request_id=request_id(),
    )


def way_of(identity: Identity | None) -> Way:
    """Return how the identity authenticated. A request of nobody is a login that failed, from the login page."""
    if current_request.get() is None:
        return Way.COMMAND
    return Way.BEARER if identity and identity.by_token else Way.SESSION
