"""The current request, its duration, and its client: the IP address, and whether it sent a bearer token."""

import ipaddress
import time
from collections.abc import Callable
from contextvars import ContextVar
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

current_request: ContextVar[HttpRequest | None] = ContextVar("current_request", default=None)
request_started: ContextVar[float] = ContextVar("request_started")


class CurrentRequestMiddleware:
    """Makes the current request and its start available to code below the views, such as the audit trail."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = current_request.set(request)
        request_started.set(time.monotonic())
        try:
            return self.get_response(request)
        finally:
            current_request.reset(token)


def seconds_since_start() -> float:
    """Return the duration of the current request until now, in seconds."""
    now = time.monotonic()
    return now - request_started.get(now)


def client_address(request: HttpRequest | Request) -> str | None:
    """Return the client's IP address, as the outermost trusted proxy saw it, or None if it is malformed.

    Each of the `settings.TRUSTED_PROXIES` proxies appends its client's address to X-Forwarded-For. Entries
    to the left of theirs can be forged. A header with fewer entries did not pass through all proxies, and
    is ignored.
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
    """Strip the port that some proxies add: `192.0.2.1:443`, `[2001:db8::1]:443`."""
    has_port = text.startswith("[") or text.count(":") == 1
    return urlsplit(f"//{text}").hostname or text if has_port else text


def bears_token(request: HttpRequest | Request) -> bool:
    """Return whether the request uses bearer authentication (RFC 6750, section 2.1), with a valid token or not."""
    header: str = request.META.get("HTTP_AUTHORIZATION", "")
    return header[:6].lower() == "bearer"
