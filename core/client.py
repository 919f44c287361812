"""The current request: its id, its work until now, and its client's address and kind of authentication."""

import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from uuid_utils.compat import uuid7

REQUEST_ID = "X-Request-ID"
# A client's request id must not be able to look like anything else in a log.
SANE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


@dataclass(eq=False)
class Work:
    """The work on one request until now: its commands to MongoDB, and their duration in seconds."""

    id: str
    started_at: float = field(default_factory=time.monotonic)
    commands: int = 0
    command_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """The duration of the request until now."""
        return time.monotonic() - self.started_at


current_request: ContextVar[HttpRequest | None] = ContextVar("current_request", default=None)
current_work: ContextVar[Work | None] = ContextVar("current_work", default=None)
# The id of the trace that records the current request or background task, if one does (driftwatch/tracing.py).
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)


class CurrentRequestMiddleware:
    """Makes the current request, its id and its work available to code below the views, such as the audit trail.

    The response names the id.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        work = Work(id_of(request))
        of_request, of_work = current_request.set(request), current_work.set(work)
        try:
            response: HttpResponseBase = self.get_response(request)
            if isinstance(response, StreamingHttpResponse):
                assert not response.is_async
                response.streaming_content = in_this_context(response.streaming_content)  # type: ignore[arg-type]
        finally:
            current_request.reset(of_request)
            current_work.reset(of_work)
        response[REQUEST_ID] = work.id
        return response


def id_of(request: HttpRequest) -> str:
    """Return the request id that the client or a proxy chose, if it is sane, else a new one."""
    sent: str = request.META.get("HTTP_X_REQUEST_ID", "")
    return sent if SANE_ID.fullmatch(sent) else new_request_id()


def new_request_id() -> str:
    return uuid7().hex


def in_this_context(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of a streamed response. The code that makes them still sees the current request."""
    context, rest = copy_context(), iter(parts)

    def generated() -> Iterator[bytes]:
        while (part := context.run(next, rest, None)) is not None:
            yield part

    return generated()


def request_id() -> str | None:
    """Return the id of the current request; None outside a request."""
    work = current_work.get()
    return work.id if work else None


def seconds_since_start() -> float:
    """Return the duration of the current request until now, in seconds; 0 outside a request."""
    work = current_work.get()
    return work.seconds if work else 0.0


def client_address(request: HttpRequest | Request) -> str | None:
    """Return the client's IP address, as the outermost trusted proxy saw it, or None if it is malformed.

    Each of the `settings.TRUSTED_PROXIES` proxies appends its client's address to X-Forwarded-For. Entries
    to the left of theirs can be forged. A header with fewer entries did not pass through all proxies, and
    is ignored.
    """
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    proxies = settings.TRUSTED_PROXIES
    forwarded = parsed(hops[-proxies]) if 0 < proxies <= len(hops) else None
    return forwarded or peer_address(request)


def peer_address(request: HttpRequest | Request) -> str | None:
    """Return the IP address at the other end of the connection; None without one, as of a Unix socket."""
    return parsed(request.META.get("REMOTE_ADDR", ""))


@lru_cache(maxsize=1_000)
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
