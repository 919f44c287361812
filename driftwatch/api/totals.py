"""How many a search finds, at a cost that has a bound.

A total of up to 1,000 is counted at each request that needs it. A greater one is kept for half a
minute by this process, and is counted up to 100,000 and for a quarter of a second at most: what is
beyond is a lower bound. A search never fails by its total. Measurements are in docs/search.md.
"""

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

import bson
import pymongo
from cachetools import TTLCache
from django.db import DatabaseError

from driftwatch.api.errors import database_cause
from driftwatch.mongodb.querysets import FilterableQuerySet

COUNTED_ALWAYS = 1_000
COUNTED_AT_MOST = 100_000
# Seconds.
PATIENCE = 1.0
PATIENCE_BEYOND = 0.25
KEPT = 30
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


kept: TTLCache[bytes, Total] = TTLCache(MAX_KEPT, KEPT)
lock = threading.Lock()


def total_of(queryset: FilterableQuerySet[Any]) -> Total:
    """How many documents a queryset has. Beyond 1,000 it may be half a minute old."""
    key = key_of(queryset)
    with lock:
        total = kept.get(key)
    if total is None:
        total = counted(queryset)
        if total.number > COUNTED_ALWAYS or not total.is_exact:
            with lock:
                kept[key] = total
    return total


def forget_totals() -> None:
    with lock:
        kept.clear()


def counted(queryset: FilterableQuerySet[Any]) -> Total:
    few = count(queryset, COUNTED_ALWAYS + 1, PATIENCE)
    if few is None:
        return Total(0, is_exact=False)
    if few <= COUNTED_ALWAYS:
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
