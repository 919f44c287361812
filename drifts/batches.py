"""Batches of stored runs that background work completes again: in the current schema, by the present rules."""

import datetime
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from django.db import DatabaseError
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from core.background import ShouldStop
from core.mongodb.documents import Document, collection_of, find_one, mongodb
from core.mongodb.errors import is_database_unavailable
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.mongodb.querysets import both
from core.mongodb.transaction import LONG, in_transaction
from drifts.models import Drift, update_between, upgraded_document
from experiments.access import AccessControlled
from experiments.models import Experiment

T = TypeVar("T")
logger = logging.getLogger(__name__)
# A batch takes about 0.05 s. While it is written, a change of one of its runs waits.
BATCH_SIZE = 200
OLDEST_FIRST = Order.by("created_at", is_descending=False)
# MongoDB ends the transaction of a killed process after 60 to 90 seconds. Until then, its runs cannot be written.
LONGEST_OUTAGE = 120
LONGEST_WAIT = 5


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
        match = both({"experiment_id": experiment_id.hex}, span, {"created_at": {"$lt": until}})
        # Most experiments have no new runs, and need no transaction.
        if find_one(Drift, match, projection={"_id": 1}) and (batch := complete(experiment_id, match)):
            return batch
    return None


def complete_once(experiment_id: uuid.UUID, match: Mql) -> Batch | None:
    experiment = Experiment.objects.reference_to(experiment_id)
    if experiment is None:
        return None
    # A page has a bounded size: runs may have megabytes.
    runs, _ = Drift.objects.matching(match).sorted_slice(OLDEST_FIRST, BATCH_SIZE)
    if not runs:
        return None
    updates = [update for run in runs if (update := completing_update(run, experiment))]
    if updates:
        collection_of(Drift).bulk_write(updates, ordered=False, session=mongodb().session)
    return Batch(len(runs), len(updates), Position(runs[-1]["created_at"], runs[-1]["_id"]))


# A change or deletion of one of the runs at the same time is a write conflict, so that neither overwrites the other.
complete = in_transaction(complete_once, LONG)


def completing_update(run: Document, experiment: AccessControlled) -> UpdateOne | None:
    """Return the write that completes a stored run again; None if it is complete."""
    try:
        update = update_between(run, upgraded_document(run, experiment))
    except Exception:
        # A damaged record must not hold up all others.
        logger.exception("Run %s of experiment %s cannot be upgraded. It stays as it is.", run["_id"], experiment.pk)
        return None
    return UpdateOne({"_id": run["_id"], "experiment_id": experiment.pk.hex}, update) if update else None


@contextmanager
def unhurried() -> Iterator[None]:
    """Wait as long as the block took, so that requests have half of the time for themselves."""
    started = time.monotonic()
    yield
    time.sleep(time.monotonic() - started)


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
