"""Totals of searches, at a bounded cost.

A total of up to 200 is counted at each request. A greater one is stored in MongoDB, for one millisecond per document
and at most 30 s. Totals beyond 1,000 are counted up to 100,000, for at most 0.25 s; beyond that, the total is a lower
bound. A search never fails because of its total. Measurements are in docs/search.md.

All processes show the stored total until it expires, by the database's clock, so that they never contradict each
other. Each process caches it for the time that it has left. The first process to count afterwards stores the next one.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import bson
import pymongo
from cachetools import TLRUCache
from django.db import DatabaseError
from pymongo import ReturnDocument, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from core.metrics import count_look_up
from core.models import StoredTotal
from core.mongodb.documents import Document, collection_of
from core.mongodb.errors import database_cause
from core.mongodb.querysets import FilterableQuerySet
from core.versions import digest

MAX_UNCACHED = 200
FIRST_LIMIT = 1_000
SECOND_LIMIT = 100_000
# Seconds.
FIRST_TIME_LIMIT = 1.0
SECOND_TIME_LIMIT = 0.25
STORE_TIME_LIMIT = 0.5
CACHE_TIME_PER_DOCUMENT = 0.001
MAX_CACHE_TIME = 30
# About 2 MB in each process.
MAX_CACHED = 10_000
IS_VALID: Document = {"$gt": ["$expires_at", "$$NOW"]}
SHOWN: Document = {"number": 1, "is_exact": 1, "milliseconds": {"$subtract": ["$expires_at", "$$NOW"]}}


@dataclass(frozen=True)
class Total:
    """The number of something, or a lower bound of it; `10,000+` is the text of a lower bound."""

    number: int
    is_exact: bool = True

    @classmethod
    def up_to(cls, limit: int, counted: int) -> "Total":
        """Return the total where counting ended at the first document beyond the limit."""
        return cls(min(counted, limit), is_exact=counted <= limit)

    def __str__(self) -> str:
        return f"{self.number:,}" if self.is_exact else f"{self.number:,}+"

    @property
    def text(self) -> str:
        """The number in a sentence: of a lower bound, the round number that it exceeds."""
        if self.is_exact:
            return f"{self.number:,}"
        return f"more than {self.number if self.number % 1_000 == 0 else self.number - 1:,}"

    def at_least(self, number: int) -> "Total":
        """Return the total, raised to `number` if a cached total is lower than the documents seen."""
        return self if self.number >= number else Total(number, is_exact=False)


class Cached(NamedTuple):
    """A total and its expiry by this process's monotonic clock."""

    total: Total
    expires_at: float


cache: TLRUCache[str, Cached] = TLRUCache(MAX_CACHED, ttu=lambda _, cached, now: cached.expires_at)
lock = threading.Lock()


def total_of(queryset: FilterableQuerySet[Any]) -> Total:
    """Return the number of documents in a queryset. A number above 200 may be a stored one, as described above."""
    key = key_of(queryset)
    with lock:
        cached = cache.get(key)
    count_look_up("totals", is_hit=cached is not None)
    if cached:
        return cached.total
    if stored := stored_total(key):
        return stored
    total = counted(queryset)
    return store(key, total) if total.number > MAX_UNCACHED or not total.is_exact else total


def clear_totals() -> None:
    """Clear the cache of this process, for tests."""
    with lock:
        cache.clear()


def lifetime(total: Total) -> float:
    """Return the seconds for which a total is shown. Greater ones take longer to count, and tolerate more error."""
    return min(total.number * CACHE_TIME_PER_DOCUMENT, MAX_CACHE_TIME) if total.is_exact else MAX_CACHE_TIME


def stored_total(key: str) -> Total | None:
    """Return the stored total and cache it; None if there is none, or if reading it fails."""
    started = time.monotonic()
    try:
        with pymongo.timeout(STORE_TIME_LIMIT):
            document = totals().find_one({"_id": key, "$expr": IS_VALID}, SHOWN)
    except PyMongoError:
        return None
    return cached_until_expiry(key, document, started) if document else None


def store(key: str, total: Total) -> Total:
    """Store a total, unless another process has stored one meanwhile. Return the stored one, and cache it.

    If storing fails, this process shows its own total: that is better than to count it at each request.
    """
    started, seconds = time.monotonic(), lifetime(total)
    new = {"number": total.number, "is_exact": total.is_exact, "expires_at": {"$add": ["$$NOW", round(seconds * 1000)]}}
    update = [{"$set": {name: {"$cond": [IS_VALID, f"${name}", value]} for name, value in new.items()}}]
    try:
        with pymongo.timeout(STORE_TIME_LIMIT):
            document = totals().find_one_and_update(
                {"_id": key}, update, SHOWN, upsert=True, return_document=ReturnDocument.AFTER
            )
    except DuplicateKeyError:
        # Two processes stored a total at once, and the other one was first.
        return stored_total(key) or total
    except PyMongoError:
        document = {"number": total.number, "is_exact": total.is_exact, "milliseconds": seconds * 1000}
    assert document is not None
    return cached_until_expiry(key, document, started)


def cached_until_expiry(key: str, document: Document, started: float) -> Total:
    """Cache the total of a document. Its milliseconds are left at the latest since `started`, never longer."""
    total = Total(document["number"], document["is_exact"])
    with lock:
        cache[key] = Cached(total, started + document["milliseconds"] / 1000)
    return total


def totals() -> Collection[Document]:
    """Return the collection of stored totals. Only the primary acknowledges: a total may be lost in a failover."""
    return collection_of(StoredTotal).with_options(read_concern=ReadConcern("local"), write_concern=WriteConcern(w=1))


def counted(queryset: FilterableQuerySet[Any]) -> Total:
    few = count(queryset, FIRST_LIMIT + 1, FIRST_TIME_LIMIT)
    if few is None:
        return Total(0, is_exact=False)
    if few <= FIRST_LIMIT:
        return Total(few)
    many = count(queryset, SECOND_LIMIT + 1, SECOND_TIME_LIMIT)
    if many is None:
        return Total(few, is_exact=False)
    return Total.up_to(SECOND_LIMIT, many)


def count(queryset: FilterableQuerySet[Any], limit: int, seconds: float) -> int | None:
    """Return the number of documents up to `limit`, or None after the time limit."""
    try:
        with pymongo.timeout(seconds):
            return queryset.count_up_to(limit)
    except DatabaseError as error:
        cause = database_cause(error)
        if cause and cause.timeout:
            return None
        raise


def key_of(queryset: FilterableQuerySet[Any]) -> str:
    """Return a digest of the collection and the match document, which includes what the caller may see."""
    match = {"in": queryset.model._meta.db_table, "match": queryset.match_document()}
    return digest(bson.encode(match))
