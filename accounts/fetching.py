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

MAX_RESPONSE_BYTES = 1_000_000
# The requests of a process that may wait for one issuer. All other threads stay free while it does not respond.
MAX_WAITING = 16
WAIT_SECONDS = 0.4
deadline: ContextVar[float] = ContextVar("deadline")


class IssuerUnavailable(Exception):
    """A trusted issuer did not provide what the check of a token needs. A retry may succeed."""


class IssuerRefused(IssuerUnavailable):
    """The issuer responded with 401 or 403."""


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
    """A cached value from the network. Fetches have a bounded rate, whether they succeed or fail."""

    fetch: Callable[[], Any]
    waiting: WaitingRequests
    value: Any = None
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")
    failure: IssuerUnavailable | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, *, newer: bool = False) -> Any:
        """Return the value. With `newer`, fetch it again unless the last attempt is too recent.

        Raises `IssuerUnavailable` if no fetch has succeeded yet.
        """
        # While one thread fetches, the others use the cached value or the last failure. They wait for the first only.
        is_first = self.value is None and self.failure is None
        if self.lock.acquire(blocking=False) or (is_first and self._wait_for_lock()):
            try:
                self._refresh(newer)
            finally:
                self.lock.release()
        if self.value is None:
            raise self.failure or IssuerUnavailable("The issuer is slow to respond.")
        return self.value

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
            self.value, self.failure = self.fetch(), None
            self.fetched_at = now
        except IssuerUnavailable as failure:
            self.failure = failure


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the total time of all fetches inside."""
    previous = deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline.reset(previous)


def fetch_json(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Fetch a JSON object from an issuer, before the deadline and without redirects. Raises `IssuerUnavailable`."""
    try:
        if not is_safe_url(url):
            raise IssuerUnavailable(f"{url} is not an https address.")
        # Bandit does not recognize a computed timeout.
        response = requests.get(  # nosec B113
            url,
            headers={"Accept": "application/json", **(headers or {})},
            timeout=seconds_left(url),
            allow_redirects=False,
            stream=True,
        )
        with response:
            body = read_body(response, url)
        document = json.loads(body) if response.status_code == 200 else None
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
        raise IssuerUnavailable(f"{url} did not respond as expected: {error}.") from error
    if response.status_code in (401, 403):
        raise IssuerRefused(f"{url} responded with {response.status_code}.")
    if not isinstance(document, dict) or len(body) > MAX_RESPONSE_BYTES:
        raise IssuerUnavailable(f"{url} responded with {response.status_code}, not with a JSON object.")
    return document


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
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1"))
