"""Batches of stored runs that background work completes again: in the current schema, by the present rules."""

import datetime
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import pymongo
from bson.raw_bson import RawBSONDocument
from django.db import DatabaseError
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from core.background import ShouldStop
from core.filters.paths import is_plain
from core.mongodb.documents import WORK_SECONDS, collection_of, decoded, raw_within, with_django_errors
from core.mongodb.errors import TOO_LARGE, UPDATED_TOO_LARGE, is_database_unavailable, is_unconfirmed
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.mongodb.querysets import MAX_PAGE_BYTES, both
from drifts import schema
from drifts.cached import drop_cached
from drifts.documents import update_between, upgraded_document
from drifts.models import Drift
from experiments.access import AccessControlled
from experiments.models import Experiment

T = TypeVar("T")
logger = logging.getLogger(__name__)
BATCH_SIZE = 200
# The attempts to write a batch whose runs change after they are read.
ATTEMPTS = 5
OLDEST_FIRST = Order.by("created_at", is_descending=False)
# Seconds to wait for a database that is unavailable: in all, and between two attempts.
LONGEST_OUTAGE = 120
LONGEST_WAIT = 5
# The most seconds between two batches. A longer pause would delay a stop.
LONGEST_PAUSE = 2


class Stopped(Exception):
    """Raised if asked to stop before a batch is complete. Nothing has stored its place."""


class Position(NamedTuple):
    """The creation time and the id of a run, in the order of `OLDEST_FIRST`."""

    created_at: datetime.datetime
    id: str = ""


START = Position(datetime.datetime.min)


class Batch(NamedTuple):
    """The number of runs in a batch, how many of them changed, and the last of them."""

    visited: int
    changed: int
    last: Position


def completed_batch(
    experiment_id: uuid.UUID, after: Position, until: datetime.datetime, should_stop: ShouldStop
) -> Batch | None:
    """Complete the next runs of an experiment again, those created before `until`.

    Return None if there are none, or if the experiment is deleted: the upgrade visits all of its runs again if it is
    restored. Raises `Stopped`.
    """
    for span in OLDEST_FIRST.after(after):
        match = both({"experiment_id": experiment_id.hex}, span, {"created_at": {"$lt": until}})
        if batch := completed(experiment_id, match, should_stop):
            return batch
    return None


def completed(experiment_id: uuid.UUID, match: Mql, should_stop: ShouldStop) -> Batch | None:
    """Complete the first of the runs. If some change meanwhile, read them again: older copies do not complete them.

    Runs that are still not written after `ATTEMPTS` must not hold up all others. They are logged, and stay as they are.
    """
    changed = 0
    for attempt in range(ATTEMPTS):
        if attempt and should_stop():
            raise Stopped
        if not (runs := first_runs(match)):
            return None
        # The rules are read last, so that they are as new as those that have completed the runs.
        if (experiment := Experiment.objects.reference_to(experiment_id)) is None:
            return None
        updates = {run["_id"]: update for run in runs if (update := completing_update(run, experiment))}
        written = write(list(updates.values())) if updates else 0
        changed += written
        if written:
            drop_cached(experiment_id)
        if written == len(updates):
            break
    else:
        logger.error("Runs of experiment %s cannot be upgraded and stay as they are: %s", experiment_id, list(updates))
    return Batch(len(runs), changed, Position(runs[-1]["created_at"], runs[-1]["_id"]))


def first_runs(match: Mql) -> list[RawBSONDocument]:
    """Return the oldest runs that match. Their size is bounded, because runs may have megabytes."""
    pipeline: list[Mql] = [{"$match": match}, {"$sort": OLDEST_FIRST.sort}, {"$limit": BATCH_SIZE}]
    return raw_within(Drift, pipeline, MAX_PAGE_BYTES)[0]


@with_django_errors
def write(updates: list[UpdateOne]) -> int:
    """Write the runs that are still as they were read, and return their number. A run may have become too large."""
    try:
        with pymongo.timeout(WORK_SECONDS):
            return collection_of(Drift).bulk_write(updates, ordered=False).matched_count
    except BulkWriteError as error:
        codes = {each["code"] for each in error.details["writeErrors"]}
        if is_unconfirmed(error) or not codes <= {TOO_LARGE, UPDATED_TOO_LARGE}:
            raise
        return int(error.details["nMatched"])


def completing_update(run: RawBSONDocument, experiment: AccessControlled) -> UpdateOne | None:
    """Return the write that completes a stored run again; None if it is complete.

    Its condition is the whole run as it is stored, so that no change by a client is overwritten: two changes may have
    the same `updated_at`. A transaction could hold that too, but if its process is killed, MongoDB locks all runs of
    the batch for a minute or more.
    """
    try:
        (stored,) = decoded([run.raw])
        update = update_between(stored, upgraded_document(stored, experiment))
    except Exception:
        # A damaged record must not hold up all others.
        logger.exception("Run %s of experiment %s cannot be upgraded. It stays as it is.", run["_id"], experiment.pk)
        return None
    absent = dict.fromkeys(schema.added_fields())
    # A condition cannot have a name with a dot or a dollar. No release stores such a field.
    as_read = {name: {"$eq": value} for name, value in {**absent, **run}.items() if is_plain(name)}
    return UpdateOne(as_read, update, hint="_id_") if update else None


@contextmanager
def unhurried() -> Iterator[None]:
    """Wait as long as the block took, up to `LONGEST_PAUSE`, so that requests have time for themselves."""
    started = time.monotonic()
    yield
    time.sleep(min(time.monotonic() - started, LONGEST_PAUSE))


def persistent(work: Callable[[], T], should_stop: ShouldStop) -> T:
    """Do the work, again while the database is unavailable. Raises its error after `LONGEST_OUTAGE` seconds.

    Raises `Stopped` if asked to stop meanwhile.
    """
    deadline, wait = time.monotonic() + LONGEST_OUTAGE, 0.1
    while True:
        try:
            return work()
        except (DatabaseError, PyMongoError) as error:
            if not is_database_unavailable(error) or time.monotonic() > deadline:
                raise
            if should_stop():
                raise Stopped from error
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
