"""The time of a run in searches: `observed_at`, or `created_at` for a run of schema 1.0.0, which stores no other.

Stored runs are upgraded while the service serves, and an older copy of the service may still write runs of 1.0.0.
Therefore a condition on `observed_at` is a condition on either column, and a sort merges both kinds of runs. Without
runs of 1.0.0, the second part reads one key of an index.
"""

import datetime
from collections.abc import Collection

from core.filters.language import LOGICAL
from core.mongodb.match import MatchAny, Mql
from core.mongodb.order import Order
from core.mongodb.querysets import both

COLUMN, FALLBACK = "observed_at", "created_at"
# Unlike `$exists`, a comparison with the earliest time is answered by an index alone.
HAS_TIME: Mql = {COLUMN: {"$gte": datetime.datetime.min}}
HAS_NO_TIME: Mql = {COLUMN: {"$exists": False}}
# The aggregation expression of the time of a run.
EXPRESSION: Mql = {"$ifNull": [f"${COLUMN}", f"${FALLBACK}"]}


def order_by(name: str, is_descending: bool) -> Order:
    """Return the order of runs by a name that a search sorts by. Runs of equal `observed_at` are ordered by id."""
    return Order((COLUMN, "_id"), is_descending) if name == COLUMN else Order.by(name, is_descending=is_descending)


def by_fallback(order: Order) -> Order:
    """Return the same order for runs without `observed_at`."""
    return Order((FALLBACK, "_id"), order.is_descending)


def fallback_up_to(time: datetime.datetime, order: Order) -> Mql:
    """Return the condition on runs without `observed_at` that they do not come after a time in this order."""
    return {FALLBACK: {"$gte" if order.is_descending else "$lte": time}}


class ObservedMatch(MatchAny):
    """A match document that names `observed_at`, for both kinds of runs."""

    def __init__(self, document: Mql) -> None:
        super().__init__([both(document, HAS_TIME), both(on_fallback(document), HAS_NO_TIME)])


def names_any(names: Collection[str], document: Mql, within: Collection[str] = LOGICAL) -> bool:
    """Return whether a match document has a condition on one of the columns, also `within` these operators."""
    return any(
        name in names or (name in within and any(names_any(names, each, within) for each in conditions))
        for name, conditions in document.items()
    )


def on_fallback(document: Mql) -> Mql:
    """Return the match document with the conditions on `observed_at` as conditions on `created_at`."""
    conditions: list[Mql] = []
    for name, condition in document.items():
        if name in LOGICAL:
            conditions.append({name: [on_fallback(part) for part in condition]})
        else:
            conditions.append({FALLBACK if name == COLUMN else name: condition})
    return both(*conditions)


NEWEST_OBSERVED = order_by(COLUMN, is_descending=True)
