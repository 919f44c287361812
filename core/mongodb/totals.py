"""Totals of searches, at a bounded cost.

A total of up to 200 is counted at each request. A greater one is cached in this process, for one
millisecond per document and at most 30 s. Totals beyond 1,000 are counted up to 100,000, for at most
0.25 s; beyond that, the total is a lower bound. A search never fails because of its total.
Measurements are in docs/search.md.
"""

import threading
from dataclasses import dataclass
from typing import Any

import bson
import pymongo
from cachetools import TLRUCache
from django.db import DatabaseError

from core.mongodb.errors import database_cause
from core.mongodb.querysets import FilterableQuerySet
from core.versions import digest

MAX_UNCACHED = 200
FIRST_LIMIT = 1_000
SECOND_LIMIT = 100_000
# Seconds.
FIRST_TIME_LIMIT = 1.0
SECOND_TIME_LIMIT = 0.25
CACHE_TIME_PER_DOCUMENT = 0.001
MAX_CACHE_TIME = 30
# About 2 MB in each process.
MAX_CACHED = 10_000


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


def expires_at(key: str, total: Total, now: float) -> float:
    """Return when a cached total expires. Greater totals take longer to count, and tolerate a greater error."""
    return now + (min(total.number * CACHE_TIME_PER_DOCUMENT, MAX_CACHE_TIME) if total.is_exact else MAX_CACHE_TIME)


cache: TLRUCache[str, Total] = TLRUCache(MAX_CACHED, expires_at)
lock = threading.Lock()


def total_of(queryset: FilterableQuerySet[Any]) -> Total:
    """Return the number of documents in a queryset. A number above 200 may be cached, as described above."""
    key = key_of(queryset)
    with lock:
        total = cache.get(key)
    if total is None:
        total = counted(queryset)
        if total.number > MAX_UNCACHED or not total.is_exact:
            with lock:
                cache[key] = total
    return total


def clear_totals() -> None:
    """Clear the cache of this process, for tests."""
    with lock:
        cache.clear()


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
