"""The current request, and what it says of its client: the address, and whether it bears a token."""

import ipaddress
from collections.abc import Callable
from contextvars import ContextVar
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

current_request: ContextVar[HttpRequest | None] = ContextVar("current_request", default=None)


class CurrentRequestMiddleware:
    """Keeps the request while it is answered, for code far below the views that asks where a change comes from."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = current_request.set(request)
        try:
            return self.get_response(request)
        finally:
            current_request.reset(token)


def client_address(request: HttpRequest | Request) -> str | None:
    """The client's IP address, as the outermost trusted proxy saw it.

    Each of `settings.TRUSTED_PROXIES` appends to X-Forwarded-For whom it heard; what stands left of
    their entries anyone can have written. A header with fewer entries did not come through all of them.
    """
    hops = request.headers.get("X-Forwarded-For", "").split(",")
    proxies = settings.TRUSTED_PROXIES
    forwarded = parsed(hops[-proxies]) if 0 < proxies <= len(hops) else None
    return forwarded or parsed(request.META.get("REMOTE_ADDR", ""))


def parsed(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(without_port(text.strip()))
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def without_port(text: str) -> str:
    """Some proxies write `192.0.2.1:443` or `[2001:db8::1]:443`."""
    has_port = text.startswith("[") or text.count(":") == 1
    return urlsplit(f"//{text}").hostname or text if has_port else text


def bears_token(request: HttpRequest | Request) -> bool:
    """Whether a request is to be known by a bearer token, be it a good one or a bad one (RFC 6750, section 2.1)."""
    header: str = request.META.get("HTTP_AUTHORIZATION", "")
    return header[:6].lower() == "bearer"
