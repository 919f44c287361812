"""The time of a run in searches: `observed_at`, or `created_at` for a run of schema 1.0.0, which stores no other.

Stored runs are upgraded while the service serves, and an older copy of the service may still write runs of 1.0.0.
Therefore a condition on `observed_at` is a condition on either column, and a sort merges both kinds of runs. Without
runs of 1.0.0, the second kind takes one key of an index.
"""

import datetime
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from core.filters.language import LOGICAL
from core.mongodb.match import Match, MatchAny, Mql
from core.mongodb.order import Order
from core.mongodb.querysets import FilterableQuerySet, both

Runs = TypeVar("Runs", bound=FilterableQuerySet[Any])
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
    """A match document that names `observed_at`, for runs with that time or without it."""

    def __init__(self, document: Mql) -> None:
        self.with_time = Match(both(document, HAS_TIME))
        self.without_time = Match(both(on_fallback(document), HAS_NO_TIME))
        super().__init__([self.with_time.rhs, self.without_time.rhs])


def of_kind(runs: Runs, *, with_time: bool) -> Runs:
    """Return those of the runs that have `observed_at`, or the others. A condition on that time then has one part."""
    found = replaced(runs, lambda match: match.with_time if with_time else match.without_time)
    return found.where(Match(HAS_TIME if with_time else HAS_NO_TIME))


def for_other_sorts(runs: Runs) -> Runs:
    """Return the runs with conditions on `observed_at` that suit a sort by another column.

    The index that finds runs without that time has no other order. With alternatives at the root, MongoDB would read
    and sort all runs that match, instead of comparing runs in the order of another index.
    """
    return replaced(runs, lambda match: Match(match.rhs))


def replaced(runs: Runs, replacement: Callable[[ObservedMatch], Match]) -> Runs:
    found = runs.all()
    where = found.query.where
    children: list[Any] = [replacement(each) if isinstance(each, ObservedMatch) else each for each in where.children]
    where.children = children
    return found


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


def first_of_both(
    runs: FilterableQuerySet[Any], order: Order, limit: int, after: Sequence[Any] | None, shape: Sequence[Mql]
) -> list[Mql]:
    """Return the pipeline of the first runs of both kinds in an order by `observed_at`, on the collection of runs.

    `after` and `shape` are those of `FilterableQuerySet.sorted_slice`. The pipeline ends with the sort. Queries the
    times of the first runs that have one.
    """
    with_time, without = of_kind(runs, with_time=True), of_kind(runs, with_time=False)
    # Runs beyond the page of those with a time are left out: MongoDB would skip all upgraded runs to find them.
    times = [{"$project": {COLUMN: 1}}]
    page, _ = FilterableQuerySet.sorted_slice(with_time, order, limit, after=after, shape=times)
    if len(page) == limit:
        without = without.where(Match(fallback_up_to(page[-1][COLUMN], order)))
    filled: Mql = {"$set": {COLUMN: f"${FALLBACK}"}}
    sources: list[tuple[FilterableQuerySet[Any], Order, list[Mql]]] = [
        (with_time, order, []),
        (without, by_fallback(order), [filled]),
    ]
    pipelines: list[list[Mql]] = [
        [{"$match": kind.match_document(at)}, {"$sort": own.sort}, {"$limit": limit}, *fill, *shape]
        for kind, own, fill in sources
        for at in (own.after(after) if after is not None else [{}])
    ]
    first, *others = pipelines
    unions = [{"$unionWith": {"coll": runs.model._meta.db_table, "pipeline": other}} for other in others]
    return [*first, *unions, {"$sort": order.sort}]


NEWEST_OBSERVED = order_by(COLUMN, is_descending=True)
