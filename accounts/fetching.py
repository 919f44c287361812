"""Requests to OpenID providers: limits of time, size and number, and cached responses."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from django.conf import settings

from accounts.exceptions import IssuerUnavailable

MAX_RESPONSE_BYTES = 1_000_000
# The requests of a process that may wait for one issuer. All other threads stay free while it does not respond.
MAX_WAITING = 16
WAIT_SECONDS = 0.4
deadline: ContextVar[float] = ContextVar("deadline")


class WaitingRequests:
    """Bounds the requests of this process that wait for one issuer."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(MAX_WAITING)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count the block as a waiting request. Raises `IssuerUnavailable` if there are too many for a moment."""
        if not self._free.acquire(timeout=WAIT_SECONDS):
            raise IssuerUnavailable("The issuer is slow, and many requests wait for it.")
        try:
            yield
        finally:
            self._free.release()


@dataclass
class Fetched:
    """A cached value from the network. Fetches have a bounded rate, whether they succeed or fail.

    A failure is kept as text: an exception that is raised again and again keeps the variables of each caller.
    """

    fetch: Callable[[], Any]
    waiting: WaitingRequests
    value: Any = None
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")
    failure: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, *, newer: bool = False) -> Any:
        """Return the value. With `newer`, fetch it again unless the last attempt is too recent.

        Raises `IssuerUnavailable` if no fetch has succeeded for a day (`OIDC_KEYS_MAX_AGE`).
        """
        # While one thread fetches, the others use the cached value or the last failure. They wait for the first only.
        must_wait = not self.is_usable and not self.failure
        if self.lock.acquire(blocking=False) or (must_wait and self._wait_for_lock()):
            try:
                self._refresh(newer)
            finally:
                self.lock.release()
        if not self.is_usable:
            raise IssuerUnavailable(self.failure or "The issuer is slow to respond.")
        return self.value

    @property
    def is_usable(self) -> bool:
        return time.monotonic() - self.fetched_at <= settings.OIDC_KEYS_MAX_AGE

    def _wait_for_lock(self) -> bool:
        with self.waiting.admit():
            return self.lock.acquire(timeout=settings.OIDC_TIMEOUT)

    def _refresh(self, newer: bool) -> None:
        now = time.monotonic()
        stale = newer or now - self.fetched_at > settings.OIDC_KEYS_LIFETIME
        if not stale or now - self.tried_at < settings.OIDC_REFETCH_INTERVAL:
            return
        self.tried_at = now
        try:
            self.value, self.failure = self.fetch(), ""
            self.fetched_at = now
        except IssuerUnavailable as failure:
            self.failure = str(failure)


@dataclass(frozen=True)
class Response:
    """A response of an issuer, of any status."""

    url: str
    status: int
    content_type: str
    body: bytes

    def json_object(self) -> dict[str, Any]:
        """Return the JSON object of a successful response. Raises `IssuerUnavailable` for any other response."""
        try:
            document = json.loads(self.body) if self.status == 200 else None
        except (ValueError, RecursionError) as error:
            raise IssuerUnavailable(f"{self.url} did not respond as expected: {error}.") from error
        if not isinstance(document, dict):
            raise IssuerUnavailable(f"{self.url} responded with {self.status}, not with a JSON object.")
        return document


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the total time of all fetches inside."""
    previous = deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline.reset(previous)


def fetch(url: str, method: str = "GET", headers: dict[str, str] | None = None, **options: Any) -> Response:
    """Send a request to an issuer, before the deadline and without redirects. Raises `IssuerUnavailable`."""
    try:
        if not is_safe_url(url):
            raise IssuerUnavailable(f"{url} is not an https address.")
        response = requests.request(
            method,
            url,
            headers={"Accept": "application/json", **(headers or {})},
            timeout=seconds_left(url),
            allow_redirects=False,
            stream=True,
            **options,
        )
        with response:
            body = read_body(response, url)
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise IssuerUnavailable(f"{url} did not respond as expected: {error}.") from error
    if len(body) > MAX_RESPONSE_BYTES:
        raise IssuerUnavailable(f"{url} responded with more than {MAX_RESPONSE_BYTES:,} bytes.")
    return Response(url, response.status_code, response.headers.get("Content-Type", ""), body)


def read_body(response: requests.Response, url: str) -> bytes:
    """Read the body up to the size limit, in pieces, so that a slow issuer cannot exceed the deadline."""
    body = b""
    while len(body) <= MAX_RESPONSE_BYTES and (piece := response.raw.read1(MAX_RESPONSE_BYTES, decode_content=True)):
        body += piece
        seconds_left(url)
    return body


def seconds_left(url: str) -> float:
    seconds = deadline.get(float("inf")) - time.monotonic()
    if seconds <= 0:
        raise IssuerUnavailable(f"{url} takes too long.")
    return min(seconds, settings.OIDC_TIMEOUT)


def is_safe_url(url: str) -> bool:
    """Return whether a URL uses https, or http on this machine (for development and tests)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if not url.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1"))
