"""Counters of requests by caller, over all workers and instances of the service together.

The counters are in MongoDB, the only store that the processes share. A caller has one document, with the counts of the
current window and of the one before. The previous count is weighted by the share of its window within the last
`rate.seconds` (a sliding window counter). One atomic update adds and reads, by the database's clock, so the clocks of
the instances need not agree. Requests above the rate are not added: they would put off the time that a refusal states.
"""

import hashlib
import math
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import pymongo
from cachetools import LRUCache
from django.db import DatabaseError
from pymongo import WriteConcern
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from core.api.exceptions import RetryLater
from core.metrics import REFUSED_REQUESTS
from core.models import RequestCount
from core.mongodb.documents import collection_of, upserted
from core.mongodb.errors import is_database_unavailable
from core.mongodb.match import Mql

PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
BATCHES = 100
# The scopes of counts that are charged for time (core/api/throttling.py).
CHARGED_SCOPES = frozenset({"identity", "address"})
# The time limit of one addition to a shared counter, if the limit is exact or counted in batches.
EXACT_SECONDS, BATCH_SECONDS = 2.0, 0.5
PAUSE_SECONDS = 5.0
# About 2 MB in each process.
MAX_TALLIES = 10_000


@dataclass(frozen=True)
class Rate:
    """A number of requests in a period, such as 600 per minute."""

    limit: int
    period: str

    @property
    def seconds(self) -> int:
        return PERIODS[self.period]

    @property
    def batch(self) -> int:
        """The number of requests that a process counts by itself before it adds them to the shared counter."""
        return max(1, self.limit // BATCHES)

    @property
    def is_exact(self) -> bool:
        """True if each request is added to the shared counter."""
        return self.batch == 1

    def __str__(self) -> str:
        return f"{self.limit} per {self.period}"


@cache
def rate_of(setting: str) -> Rate | None:
    """Return the rate that a setting such as `600/minute` means; None for an empty one. Raises `ValueError`."""
    if not setting:
        return None
    limit, _, period = setting.partition("/")
    if period not in PERIODS or not limit.isdecimal() or not int(limit):
        raise ValueError(f"{setting!r} is not a rate.")
    return Rate(int(limit), period)


class TooManyRequests(RetryLater):
    """A caller is over a rate."""

    def __init__(self, scope: str, rate: Rate, wait: float) -> None:
        slow = " A slow request counts as several." if scope in CHARGED_SCOPES else ""
        super().__init__(max(1, math.ceil(wait)), f"Too many requests: at most {rate} are allowed.{slow}")


@dataclass(frozen=True)
class Count:
    """A caller's requests in the current window and the previous one; `elapsed` is the current one's age (0 to 1).

    `is_admitted` is False if the latest request was above the rate. It is then not in the counts.
    """

    current: int
    previous: int
    elapsed: float
    is_admitted: bool = True

    @property
    def total(self) -> float:
        """The estimated number of requests in the last `rate.seconds`."""
        return self.previous * (1 - self.elapsed) + self.current

    def wait(self, rate: Rate) -> float:
        """Return the seconds until one more request is within the rate, if none comes in between."""
        if self.current < rate.limit:
            # The share of the previous window shrinks.
            free_at = 1 - (rate.limit - 1 - self.current) / self.previous if self.previous else 0.0
        else:
            # The current window ends, and then its share shrinks.
            free_at = 2 - (rate.limit - 1) / self.current
        return max(0.0, free_at - self.elapsed) * rate.seconds


@dataclass
class Tally:
    """A process's own count of a caller: the last shared total, and the requests not yet added to it."""

    shared: float = 0.0
    pending: int = 0
    refused_until: float = 0.0


class Limiter:
    """Counts the requests that reach this process, and refuses those above a rate.

    The process adds to the shared counter in batches of 1 % of the limit, and at every request once its caller
    is near the limit. A process may therefore exceed the limit by one request less than a batch. A limit below 200
    is exact. Charges for time have no such bound. A refused caller is refused without a query until there is room.
    """

    def __init__(self) -> None:
        self._tallies: LRUCache[str, Tally] = LRUCache(MAX_TALLIES)
        self._lock = threading.Lock()
        self._paused_until = 0.0

    def count(self, scope: str, caller: str, rate: Rate) -> None:
        """Count one request. Raises `TooManyRequests`.

        While the database is unavailable, a limit that is counted in batches lets everything through, without
        waiting for the database each time. An exact limit fails with the driver's error: a request that it guards,
        such as a login, must not be tried uncounted.
        """
        key = key_of(scope, caller, rate)
        with self._lock:
            tally = self._tallies.setdefault(key, Tally())
            if (wait := tally.refused_until - time.monotonic()) > 0:
                raise refusal(scope, rate, wait)
            tally.pending += 1
            if tally.pending < rate.batch and tally.shared + tally.pending <= rate.limit:
                return
            number, tally.pending = tally.pending - 1, 0
        if not rate.is_exact and time.monotonic() < self._paused_until:
            return
        try:
            count = add(key, rate, number)
        except (DatabaseError, PyMongoError) as error:
            if rate.is_exact or not is_database_unavailable(error):
                raise
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            return
        with self._lock:
            tally.shared = count.total
            if not count.is_admitted:
                wait = count.wait(rate)
                tally.refused_until = time.monotonic() + wait
                raise refusal(scope, rate, wait)

    def charge(self, scope: str, caller: str, rate: Rate, number: int) -> None:
        """Count a request that has passed as `number` more. The caller's next request adds them to the counter."""
        with self._lock:
            self._tallies.setdefault(key_of(scope, caller, rate), Tally()).pending += number


@cache
def limiter() -> Limiter:
    """Return the limiter of this process."""
    return Limiter()


def refusal(scope: str, rate: Rate, wait: float) -> TooManyRequests:
    REFUSED_REQUESTS.labels("rate").inc()
    return TooManyRequests(scope, rate, wait)


def key_of(scope: str, caller: str, rate: Rate) -> str:
    """Return the id of a counter: a digest, which tells nothing of the caller and fits any name."""
    return hashlib.sha256(f"{scope} {rate.seconds} {caller}".encode(errors="surrogatepass")).hexdigest()


def add(key: str, rate: Rate, number: int) -> Count:
    """Add a number to a shared counter, and one request more if that is within the rate, in one atomic step."""
    window = rate.seconds * 1000
    now = {"$toLong": "$$NOW"}
    started = {"$subtract": [now, {"$mod": [now, window]}]}
    is_current = {"$eq": ["$started", started]}
    is_previous = {"$eq": ["$started", {"$subtract": [started, window]}]}
    counted = {
        "started": started,
        "at": now,
        "count": {"$add": [number, {"$cond": [is_current, "$count", 0]}]},
        "previous": {"$cond": [is_current, "$previous", {"$cond": [is_previous, "$count", 0]}]},
        "expires_at": {"$add": ["$$NOW", 2 * window]},
    }
    # The total is that of `Count`. The database decides by it, in the same step in which it counts.
    share = {"$subtract": [1, {"$divide": [{"$subtract": ["$at", "$started"]}, window]}]}
    total = {"$add": ["$count", {"$multiply": ["$previous", share]}]}
    update: list[Mql] = [
        {"$set": counted},
        {"$set": {"is_admitted": {"$lte": [{"$add": [total, 1]}, rate.limit]}}},
        {"$set": {"count": {"$add": ["$count", {"$cond": ["$is_admitted", 1, 0]}]}}},
    ]
    with pymongo.timeout(EXACT_SECONDS if rate.is_exact else BATCH_SECONDS):
        counter = upserted(counters(), key, update)
    elapsed = (counter["at"] - counter["started"]) / window
    return Count(counter["count"], counter["previous"], elapsed, counter["is_admitted"])


def counters() -> Collection[dict[str, Any]]:
    """Return the collection of counters. Only the primary acknowledges: a count may be lost in a failover."""
    return collection_of(RequestCount).with_options(write_concern=WriteConcern(w=1))
