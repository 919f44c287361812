"""How many a search finds, at a cost that has a bound.

A total of up to 200 is counted at each request that needs it. A greater one is kept by this process
for as many milliseconds as it counts documents, at most for half a minute. Beyond 1,000 it is counted
up to 100,000 and for a quarter of a second at most: what is beyond is a lower bound. A search never
fails by its total. Measurements are in docs/search.md.
"""

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

import bson
import pymongo
from cachetools import TLRUCache
from django.db import DatabaseError

from core.api.errors import database_cause
from core.mongodb.querysets import FilterableQuerySet

COUNTED_ANEW = 200
COUNTED_FIRST = 1_000
COUNTED_AT_MOST = 100_000
# Seconds.
PATIENCE = 1.0
PATIENCE_BEYOND = 0.25
KEPT_FOR_EACH = 0.001
KEPT_AT_MOST = 30
# About 2 MB in each process.
MAX_KEPT = 10_000


@dataclass(frozen=True)
class Total:
    """How many there are, or if that is not exact, how many there are at least."""

    number: int
    is_exact: bool

    def at_least(self, number: int) -> "Total":
        """The total, once that many were seen: one that was kept may be less."""
        return self if self.number >= number else Total(number, is_exact=False)


def end_of(key: bytes, total: Total, now: float) -> float:
    """Until when a total is kept: the more there are, the less a few of them matter, and the longer counting takes."""
    return now + (min(total.number * KEPT_FOR_EACH, KEPT_AT_MOST) if total.is_exact else KEPT_AT_MOST)


kept: TLRUCache[bytes, Total] = TLRUCache(MAX_KEPT, end_of)
lock = threading.Lock()


def total_of(queryset: FilterableQuerySet[Any]) -> Total:
    """How many documents a queryset has. Beyond 200 it may be some time old, as said above."""
    key = key_of(queryset)
    with lock:
        total = kept.get(key)
    if total is None:
        total = counted(queryset)
        if total.number > COUNTED_ANEW or not total.is_exact:
            with lock:
                kept[key] = total
    return total


def forget_totals() -> None:
    with lock:
        kept.clear()


def counted(queryset: FilterableQuerySet[Any]) -> Total:
    few = count(queryset, COUNTED_FIRST + 1, PATIENCE)
    if few is None:
        return Total(0, is_exact=False)
    if few <= COUNTED_FIRST:
        return Total(few, is_exact=True)
    many = count(queryset, COUNTED_AT_MOST + 1, PATIENCE_BEYOND)
    if many is None:
        return Total(few, is_exact=False)
    return Total(min(many, COUNTED_AT_MOST), is_exact=many <= COUNTED_AT_MOST)


def count(queryset: FilterableQuerySet[Any], limit: int, seconds: float) -> int | None:
    """How many there are, at most `limit`; None if that takes longer."""
    try:
        with pymongo.timeout(seconds):
            return queryset.count_up_to(limit)
    except DatabaseError as error:
        cause = database_cause(error)
        if cause and cause.timeout:
            return None
        raise


def key_of(queryset: FilterableQuerySet[Any]) -> bytes:
    """A digest of what is counted: the collection, the filter, and what the caller may see."""
    match = {"in": queryset.model._meta.db_table, "match": queryset.match_document()}
    return hashlib.blake2b(bson.encode(match), digest_size=16).digest()
