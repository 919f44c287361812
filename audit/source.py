"""Where a deed comes from: known at the edge, recorded far below it."""

import ipaddress
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from django.conf import settings
from django.db import models
from django.http import HttpRequest, HttpResponse

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
source: ContextVar[Source] = ContextVar("source", default=COMMAND_LINE)


class SourceMiddleware:
    """Remembers, while a request is answered, where it comes from."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = source.set(source_of(request))
        try:
            return self.get_response(request)
        finally:
            source.reset(token)


def source_of(request: HttpRequest) -> Source:
    bears_token = request.headers.get("Authorization", "").lower().startswith("bearer")
    return Source(
        way=Way.BEARER if bears_token else Way.SESSION,
        address=client_address(request),
        user_agent=request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
    )


def client_address(request: HttpRequest) -> str | None:
    """The client's IP address, as the outermost trusted proxy saw it.

    Each proxy appends the address that it was called from; what stands further left is the
    client's own word. A header with fewer entries than proxies did not come through all of them.
    """
    hops = request.headers.get("X-Forwarded-For", "").split(",")
    proxies = settings.TRUSTED_PROXIES
    forwarded = parsed(hops[-proxies]) if 0 < proxies <= len(hops) else None
    return forwarded or parsed(request.META.get("REMOTE_ADDR", ""))


def parsed(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
