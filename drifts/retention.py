"""Retention: runs are removed for good, some days after the time of their data. docs/retention.md explains it.

The days are those of the experiment or of `RETENTION_DAYS`, whichever are fewer. Runs that are still Running stay. A
new number of days counts once the background task has known it for a day, so that a mistake can be undone.
"""

import datetime
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pymongo
from django.conf import settings
from django.db import DatabaseError, transaction

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.background import ShouldStop, milliseconds
from core.metrics import REMOVED_RUNS
from core.mongodb.documents import WORK_SECONDS, Document, aggregate, collection_of, find_one, instance_of, mongodb
from core.mongodb.errors import is_write_conflict
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.mongodb.transaction import LONG, in_transaction
from core.totals import Total, counted
from core.totals import count as count_up_to
from drifts import observed
from drifts.batches import Stopped, persistent, unhurried
from drifts.cached import drop_cached
from drifts.models import Drift, DriftQuerySet
from drifts.verdict import JobStatus
from experiments.models import Experiment

logger = logging.getLogger(__name__)
# The wait before a new number of days counts.
GRACE = datetime.timedelta(days=1)
# The most runs that one transaction removes, and their most bytes: MongoDB keeps them in memory until it ends.
BATCH_SIZE = 1_000
BATCH_BYTES = 32_000_000
OLDEST_OBSERVED = observed.order_by(observed.COLUMN, is_descending=False)
ENDED: Mql = {"job_status": {"$ne": JobStatus.RUNNING.value}}
# The most runs that a preview counts, and the most seconds. A search counts fewer: here, people decide by the number.
MAX_COUNTED = 1_000_000
COUNT_SECONDS = 2.0
Count = Callable[[DriftQuerySet], Total]


@dataclass(frozen=True)
class Kind:
    """Runs with `observed_at`, or older records without: their order by time, and the index that has this order."""

    with_time: bool
    order: Order
    index: str

    def of(self, runs: DriftQuerySet) -> DriftQuerySet:
        return observed.of_kind(runs, with_time=self.with_time)


WITH_TIME = Kind(True, OLDEST_OBSERVED, "drift_observed")
OLDER_RECORDS = Kind(False, observed.by_fallback(OLDEST_OBSERVED), "drift_newest")


def days_that_count(days: int | None, of_service: int | None = None) -> int | None:
    """Return the fewer of an experiment's days and those of the service; None if neither is set.

    The days of the service are `RETENTION_DAYS`, unless others are to be tried.
    """
    return min(filter(None, (days, of_service or settings.RETENTION_DAYS)), default=None)


def present() -> datetime.datetime:
    """Return the earlier of the times of this process and of the database.

    A clock that is ahead must not remove runs that are still to be kept.
    """
    of_database: datetime.datetime = mongodb().database.command("hello")["localTime"]
    return min(timestamps.now(), of_database.replace(tzinfo=datetime.UTC))


def cutoff_of(days: int, now: datetime.datetime) -> datetime.datetime:
    """Return the time before which runs are too old."""
    return now - datetime.timedelta(days=days)


def older(experiment_id: uuid.UUID, cutoff: datetime.datetime) -> DriftQuerySet:
    """Return the runs of an experiment from before the cutoff, with those that are still Running."""
    return Drift.objects.matching({"experiment_id": experiment_id.hex}).matching({observed.COLUMN: {"$lt": cutoff}})


def expired(experiment_id: uuid.UUID, cutoff: datetime.datetime) -> DriftQuerySet:
    """Return the runs of an experiment that retention removes."""
    return older(experiment_id, cutoff).matching(ENDED)


# The preview.


@dataclass(frozen=True)
class Preview:
    """The days that count, the time before which runs are too old, and the number of runs to remove.

    Without days, nothing is removed.
    """

    days: int | None
    cutoff: datetime.datetime | None
    runs: Total


def within_limits(runs: DriftQuerySet) -> Total:
    """Count the runs, for requests. A number that takes too long is a lower bound."""
    number = count_up_to(runs, MAX_COUNTED + 1, COUNT_SECONDS)
    return counted(runs) if number is None else Total.up_to(MAX_COUNTED, number)


def exactly(runs: DriftQuerySet) -> Total:
    """Count the runs, for commands: this may take half a minute."""
    with pymongo.timeout(WORK_SECONDS):
        return Total(collection_of(Drift).count_documents(runs.match_document()))


def preview_of(experiment_id: uuid.UUID, days: int | None, count: Count = within_limits) -> Preview:
    """Return what retention removes of an experiment if these days count. The limits of `count` bound its time."""
    if days is None:
        return Preview(None, None, Total(0))
    cutoff = cutoff_of(days, present())
    return Preview(days, cutoff, expired_total(experiment_id, cutoff, count))


def expired_total(experiment_id: uuid.UUID, cutoff: datetime.datetime, count: Count) -> Total:
    """Return the number of runs that retention removes, or a lower bound of it.

    An index alone counts the runs from before the cutoff. The few that are Running, and older records, are read.
    """
    runs = WITH_TIME.of(older(experiment_id, cutoff))
    running = count(runs.matching({"job_status": JobStatus.RUNNING.value}))
    records = count(OLDER_RECORDS.of(expired(experiment_id, cutoff)))
    if not running.is_exact:
        return Total(records.number, is_exact=False)
    in_all = count(runs)
    number = max(in_all.number - running.number, 0) + records.number
    return Total(number, is_exact=in_all.is_exact and records.is_exact)


# The removal.


def remove_old_runs(should_stop: ShouldStop) -> None:
    """Remove the runs that are too old, the oldest first, until none is left or asked to stop.

    Any number of processes may do so at once.
    """
    with suppress(Stopped):
        persistent(see_days, should_stop)
        now = persistent(present, should_stop)
        for experiment_id, days in persistent(due_experiments, should_stop):
            removed = sum(removed_from(experiment_id, days, cutoff_of(days, now), should_stop))
            if removed:
                logger.info("Runs of experiment %s removed because of age: %s.", experiment_id, f"{removed:,}")


def see_days() -> None:
    """Store in each experiment the days that count, and since when, if they have changed."""
    # `$min` ignores null.
    days: Mql = {"$min": ["$retention_days", settings.RETENTION_DAYS or None]}
    are_new = {"$expr": {"$ne": [{"$ifNull": ["$retention_seen", None]}, days]}}
    seen = {"retention_seen": days, "retention_seen_at": "$$NOW"}
    with pymongo.timeout(WORK_SECONDS):
        collection_of(Experiment).update_many(are_new, [{"$set": seen}])


def due_experiments() -> list[tuple[uuid.UUID, int]]:
    """Return the ids of the experiments whose days have been known for long enough, with these days."""
    latest: Mql = {"$subtract": ["$$NOW", milliseconds(GRACE)]}
    is_due = {"retention_seen": {"$gt": 0}, "$expr": {"$lte": ["$retention_seen_at", latest]}}
    with pymongo.timeout(WORK_SECONDS):
        found = aggregate(Experiment, [{"$match": is_due}, {"$project": {"retention_seen": 1}}, {"$sort": {"_id": 1}}])
    return [(uuid.UUID(each["_id"]), each["retention_seen"]) for each in found]


def removed_from(
    experiment_id: uuid.UUID, days: int, cutoff: datetime.datetime, should_stop: ShouldStop
) -> Iterator[int]:
    """Remove the runs of an experiment from before the cutoff in batches, and yield the number of each.

    Each batch begins after the one before: runs that stay, because they are Running, are read once. Raises `Stopped`.
    """
    kinds = [WITH_TIME]
    if persistent(Drift.objects.matching({"experiment_id": experiment_id.hex}).has_older_records, should_stop):
        kinds.append(OLDER_RECORDS)
    for kind in kinds:
        runs = kind.of(expired(experiment_id, cutoff))
        after: list[Any] = [datetime.datetime.min, ""]
        while True:
            if should_stop():
                raise Stopped
            with unhurried():
                batch = persistent(partial(first_of, kind, runs, after), should_stop)
                if not batch:
                    break
                ids = [run["_id"] for run in batch]
                removed = persistent(partial(remove, experiment_id, days, cutoff, runs, ids), should_stop)
            if removed is None:
                return
            yield removed
            after = kind.order.position(batch[-1])


def first_of(kind: Kind, runs: DriftQuerySet, after: list[Any]) -> list[Document]:
    """Return the first of the runs after a position, with their size: at most `BATCH_SIZE` and `BATCH_BYTES`."""
    shape: Mql = {"$project": {kind.order.keys[0]: 1, "size": {"$bsonSize": "$$ROOT"}}}
    for span in kind.order.after(after):
        first: list[Mql] = [{"$match": runs.match_document(span)}, {"$sort": kind.order.sort}, {"$limit": BATCH_SIZE}]
        with pymongo.timeout(WORK_SECONDS):
            found = aggregate(Drift, [*first, shape], hint=kind.index)
        if found:
            return list(within(found, BATCH_BYTES))
    return []


def within(found: list[Document], room: int) -> Iterator[Document]:
    """Yield the runs that have room together, and the first in any case."""
    for number, run in enumerate(found):
        room -= run["size"]
        if number and room < 0:
            return
        yield run


def remove(
    experiment_id: uuid.UUID, days: int, cutoff: datetime.datetime, runs: DriftQuerySet, ids: list[str]
) -> int | None:
    """Remove those of these runs that are still too old, record their number, and return it.

    Return None if the experiment is deleted, its days have changed, or one of the runs is locked.
    """
    try:
        return in_transaction(removed_and_recorded, LONG)(experiment_id, days, cutoff, runs, ids)
    except DatabaseError as error:
        if not is_write_conflict(error):
            raise
        # MongoDB keeps the locks of a process that was killed in a transaction for a minute. Others need not wait.
        logger.warning("Runs of experiment %s are locked. They are removed later.", experiment_id)
        return None


def removed_and_recorded(
    experiment_id: uuid.UUID, days: int, cutoff: datetime.datetime, runs: DriftQuerySet, ids: list[str]
) -> int | None:
    # Both in one transaction, so that a process that is killed leaves neither runs without an event nor the reverse.
    found = find_one(Experiment, {"_id": experiment_id.hex}, projection={"name": 1, "retention_days": 1})
    if found is None or days_that_count(found.get("retention_days")) != days:
        return None
    match = runs.match_document({"_id": {"$in": ids}})
    removed = collection_of(Drift).delete_many(match, hint="_id_", session=mongodb().session).deleted_count
    if removed:
        after = {"runs": removed, "older_than": cutoff, "retention_days": days}
        record(Action.RUNS_REMOVED, None, instance_of(Experiment, found), after=after)
        transaction.on_commit(partial(REMOVED_RUNS.inc, removed))
        drop_cached(experiment_id)
    return removed
