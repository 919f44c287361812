"""How many requests a caller may make, over all workers and copies of the service together, and who counts as one.

The counters are in MongoDB, which is all that the processes share. A caller has one document, with
the counts of the current window and of the one before; the second counts for as much as it still
overlaps the last `rate.seconds` (a sliding window counter). One atomic update adds and reads, by the
database's clock, so that the clocks of the copies need not agree.
"""

import hashlib
import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pymongo
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from pymongo import ReturnDocument, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from core.api.errors import is_database_unavailable, refusal
from core.client import client_address
from core.identity import identity_of
from core.models import RequestCount
from core.mongodb.documents import collection_of

LOGIN_PATHS = frozenset({"/login", "/admin/login/"})
PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
# The part of a limit that a process may count by itself.
BATCHES = 100
COUNT_SECONDS = 2
PAUSE_SECONDS = 5.0
# About 2 MB in each process.
MAX_TALLIES = 10_000


@dataclass(frozen=True)
class Rate:
    limit: int
    period: str

    @property
    def seconds(self) -> int:
        return PERIODS[self.period]

    def __str__(self) -> str:
        return f"{self.limit} per {self.period}"


@cache
def rate_of(setting: str) -> Rate | None:
    """The rate that a setting such as `600/minute` means; None for an empty one. Raises `ValueError`."""
    if not setting:
        return None
    limit, _, period = setting.partition("/")
    if period not in PERIODS or not limit.isdecimal() or not int(limit):
        raise ValueError(f"{setting!r} is not a rate. Write 600/minute: a number, then second, minute, hour or day.")
    return Rate(int(limit), period)


class TooManyRequests(Exception):
    """A caller is over a rate; `wait` is the number of seconds until one more request passes."""

    def __init__(self, rate: Rate, wait: float) -> None:
        self.wait = max(1, math.ceil(wait))
        super().__init__(f"Too many requests: at most {rate} are allowed. Send fewer, and wait before the next one.")


@dataclass(frozen=True)
class Count:
    """A caller's requests, and which part of the current window is over (0 to 1)."""

    current: int
    previous: int
    elapsed: float

    @property
    def total(self) -> float:
        """The estimate for the time of one window up to now."""
        return self.previous * (1 - self.elapsed) + self.current

    def wait(self, rate: Rate) -> float:
        """Seconds until one request more is within the rate, if there are none in between."""
        if self.current < rate.limit:
            # The window before has to recede.
            free_at = 1 - (rate.limit - 1 - self.current) / self.previous if self.previous else 0.0
        else:
            # So does the current one, once it is over.
            free_at = 2 - (rate.limit - 1) / self.current
        return max(0.0, free_at - self.elapsed) * rate.seconds


@dataclass
class Tally:
    """What a process knows of a caller: the total at the last answer of the database, and what it counted since."""

    shared: float = 0.0
    pending: int = 0
    refused_until: float = 0.0


class Limiter:
    """Counts the requests that reach this process, and refuses those above a rate.

    An *exact* count asks the database at every request. Otherwise the process adds to the shared
    counter in batches of 1 % of the limit, and asks at every request once its caller is near the
    limit: each process lets at most one batch less one through that it should not. A limit
    below 200 is exact. Who is refused is refused without asking until there is room again.
    """

    def __init__(self) -> None:
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        self._lock = threading.Lock()
        self._paused_until = 0.0

    def count(self, scope: str, caller: str, rate: Rate, *, exact: bool) -> None:
        """Count one request. Raises `TooManyRequests`.

        While the database is away an exact count fails with the driver's error: what it guards
        (logins, tokens) needs the database anyway, and must not be tried without being counted. The
        others let everything through, without waiting for the database each time: what needs it says
        so itself, and what does not is served.
        """
        key = key_of(scope, caller, rate)
        number = self._due(key, rate, 1 if exact else max(1, rate.limit // BATCHES))
        if not number or (not exact and time.monotonic() < self._paused_until):
            return
        try:
            found = add(key, rate, number)
        except (DatabaseError, PyMongoError) as error:
            if exact or not is_database_unavailable(error):
                raise
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            return
        self._judge(key, rate, found)

    def _due(self, key: str, rate: Rate, batch: int) -> int:
        """How many requests to add to the shared counter now, this one included; 0 for none yet."""
        with self._lock:
            tally = self._tally(key)
            left = tally.refused_until - time.monotonic()
            if left > 0:
                raise TooManyRequests(rate, left)
            tally.pending += 1
            if tally.pending < batch and tally.shared + tally.pending <= rate.limit:
                return 0
            number, tally.pending = tally.pending, 0
            return number

    def _judge(self, key: str, rate: Rate, found: Count) -> None:
        with self._lock:
            tally = self._tally(key)
            tally.shared = found.total
            if found.total > rate.limit:
                wait = found.wait(rate)
                tally.refused_until = time.monotonic() + wait
                raise TooManyRequests(rate, wait)

    def _tally(self, key: str) -> Tally:
        """The tally of a caller. Those seen longest ago are forgotten: addresses are many."""
        tally = self._tallies.setdefault(key, Tally())
        self._tallies.move_to_end(key)
        if len(self._tallies) > MAX_TALLIES:
            self._tallies.popitem(last=False)
        return tally


@cache
def limiter() -> Limiter:
    """The limiter of this process."""
    return Limiter()


def key_of(scope: str, caller: str, rate: Rate) -> str:
    """A digest, so that the counters tell nothing of who called, and fit any name."""
    return hashlib.sha256(f"{scope} {rate.seconds} {caller}".encode(errors="surrogatepass")).hexdigest()


def add(key: str, rate: Rate, number: int) -> Count:
    """Add to a shared counter and read it, in one atomic step."""
    span = rate.seconds * 1000
    now = {"$toLong": "$$NOW"}
    started = {"$subtract": [now, {"$mod": [now, span]}]}
    goes_on = {"$eq": ["$started", started]}
    was_before = {"$eq": ["$started", {"$subtract": [started, span]}]}
    update = {
        "started": started,
        "at": now,
        "count": {"$add": [number, {"$cond": [goes_on, "$count", 0]}]},
        "previous": {"$cond": [goes_on, "$previous", {"$cond": [was_before, "$count", 0]}]},
        "expires_at": {"$add": ["$$NOW", 2 * span]},
    }
    with pymongo.timeout(COUNT_SECONDS):
        try:
            found = upsert(key, update)
        except DuplicateKeyError:
            # Two made the counter at once: it is there now.
            found = upsert(key, update)
    return Count(found["count"], found["previous"], (found["at"] - found["started"]) / span)


def upsert(key: str, update: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] | None = counters().find_one_and_update(
        {"_id": key}, [{"$set": update}], upsert=True, return_document=ReturnDocument.AFTER
    )
    assert found is not None
    return found


def counters() -> Collection[dict[str, Any]]:
    """Acknowledged by the primary alone: counts that a failover loses are no loss."""
    return collection_of(RequestCount).with_options(write_concern=WriteConcern(w=1))


class RateLimits(BaseThrottle):
    """Counts an API request for the identity of its token, or without one for its address.

    What a view names in `login_throttled_actions` is counted as logins are, besides.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        identity = identity_of(request)
        caller = "" if identity.is_anonymous else f"{identity.issuer} {identity.subject}"
        try:
            if getattr(view, "action", None) in getattr(view, "login_throttled_actions", ()):
                count_login(address_of(request), caller)
            if caller:
                count("identity", caller, settings.RATE_LIMIT)
            else:
                count("address", address_of(request), settings.RATE_LIMIT_ANONYMOUS)
        except TooManyRequests as error:
            raise Throttled(error.wait, str(error)) from error
        return True


class LoginLimits:
    """Counts what is sent to the login pages, for its address and for the account that it names.

    Who is over the limit is refused whatever the password, so that guessing stops. Somebody else can
    keep an account out of password login that way; logins through a provider and tokens go on.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        if request.method != "POST" or request.path_info not in LOGIN_PATHS:
            return None
        # As the login form reads it: other spellings of a name are the same account.
        account = AbstractBaseUser.normalize_username(request.POST.get("username", "").strip())
        try:
            count_login(address_of(request), account)
        except TooManyRequests as error:
            refused = refusal(request, 429, str(error))
            refused["Retry-After"] = str(error.wait)
            return refused
        return None


def count(scope: str, caller: str, setting: str) -> None:
    if rate := rate_of(setting):
        limiter().count(scope, caller, rate, exact=False)


def count_login(address: str, account: str) -> None:
    """Count for both. An address that is refused is not counted for the account it tries."""
    if rate := rate_of(settings.RATE_LIMIT_LOGIN):
        limiter().count("login from", address, rate, exact=True)
        if account:
            limiter().count("login as", account, rate, exact=True)


def address_of(request: HttpRequest | Request) -> str:
    """Whom a request counts for: an IPv4 address, or the /64 network that an IPv6 host has to itself."""
    text = client_address(request)
    if text is None:
        return "unknown"
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address.packed, 64), strict=False))
