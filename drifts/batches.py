"""Batches of stored runs that background work completes again: in the current schema, by the present rules."""

import datetime
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import pymongo
from django.db import DatabaseError
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from core.background import ShouldStop
from core.mongodb.documents import WORK_SECONDS, Document, collection_of, with_django_errors
from core.mongodb.errors import is_database_unavailable
from core.mongodb.order import Order
from core.mongodb.querysets import both
from drifts import schema
from drifts.models import Drift, DriftQuerySet, update_between, upgraded_document
from experiments.access import AccessControlled
from experiments.models import Experiment

T = TypeVar("T")
logger = logging.getLogger(__name__)
BATCH_SIZE = 200
OLDEST_FIRST = Order.by("created_at", is_descending=False)
# Seconds to wait for a database that is unavailable.
LONGEST_OUTAGE = 120
LONGEST_WAIT = 5
LONGEST_PAUSE = 2


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


def completed_batch(experiment_id: uuid.UUID, after: Position, until: datetime.datetime) -> Batch | None:
    """Complete the next runs of an experiment again, those created before `until`.

    Return None if there are none, or if the experiment is deleted: its runs are purged.
    """
    for span in OLDEST_FIRST.after(after):
        runs = Drift.objects.matching(both({"experiment_id": experiment_id.hex}, span, {"created_at": {"$lt": until}}))
        if batch := completed(experiment_id, runs):
            return batch
    return None


def completed(experiment_id: uuid.UUID, matching: DriftQuerySet) -> Batch | None:
    """Complete the first of the runs. If some change meanwhile, read them again: older copies do not complete them."""
    changed = 0
    # Pages have a bounded size: runs may have megabytes.
    while runs := matching.sorted_slice(OLDEST_FIRST, BATCH_SIZE)[0]:
        # The rules are read last, so that they are as new as those that have completed the runs.
        experiment = Experiment.objects.reference_to(experiment_id)
        if experiment is None:
            return None
        updates = [update for run in runs if (update := completing_update(run, experiment))]
        written = write(updates) if updates else 0
        changed += written
        if written == len(updates):
            return Batch(len(runs), changed, Position(runs[-1]["created_at"], runs[-1]["_id"]))
    return None


@with_django_errors
def write(updates: list[UpdateOne]) -> int:
    """Write the runs that are still as they were read, and return their number."""
    with pymongo.timeout(WORK_SECONDS):
        return collection_of(Drift).bulk_write(updates, ordered=False).matched_count


def completing_update(run: Document, experiment: AccessControlled) -> UpdateOne | None:
    """Return the write that completes a stored run again; None if it is complete.

    Its condition is the whole run as it was read, so that no change by a client is overwritten. A transaction could
    hold that too, but if its process is killed, MongoDB locks all runs of the batch for a minute or more.
    """
    try:
        update = update_between(run, upgraded_document(run, experiment))
    except Exception:
        # A damaged record must not hold up all others.
        logger.exception("Run %s of experiment %s cannot be upgraded. It stays as it is.", run["_id"], experiment.pk)
        return None
    absent = dict.fromkeys(schema.added_fields())
    as_read = {name: {"$eq": value} for name, value in {**absent, **run}.items()}
    return UpdateOne(as_read, update, hint="_id_") if update else None


@contextmanager
def unhurried() -> Iterator[None]:
    """Wait as long as the block took, so that requests have half of the time for themselves."""
    started = time.monotonic()
    yield
    # A longer pause would delay a stop.
    time.sleep(min(time.monotonic() - started, LONGEST_PAUSE))


def persistent(work: Callable[[], T], should_stop: ShouldStop) -> T:
    """Do the work, again while the database is unavailable. Raises its error after `LONGEST_OUTAGE` seconds."""
    deadline, wait = time.monotonic() + LONGEST_OUTAGE, 0.1
    while True:
        try:
            return work()
        except (DatabaseError, PyMongoError) as error:
            if not is_database_unavailable(error) or should_stop() or time.monotonic() > deadline:
                raise
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
