"""Runs that never end: a Running run becomes Failed once its time-out is over.

The time-out counts from the creation of the run, or from its last heartbeat. A run's own time-out wins over that of
its experiment; a run without either is never overdue. All times are compared by the database's clock.
"""

import logging
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Self

import pymongo

from audit.models import Action
from audit.trail import record
from core.background import ShouldStop, described
from core.mongodb.documents import WORK_SECONDS, Document, aggregate, find_one, instance_of
from core.mongodb.errors import is_database_unavailable, is_write_conflict
from core.mongodb.match import Mql
from core.mongodb.transaction import in_transaction
from drifts.batches import Stopped, persistent
from drifts.fields import MAX_NOTE
from drifts.models import Drift
from drifts.verdict import JobStatus
from experiments.models import DeletedExperiment, Experiment

logger = logging.getLogger(__name__)
# The most runs of an experiment that are made Failed before those of others have their turn.
AT_ONCE = 100
# The most runs that the two metrics count, from keys of an index and from runs, and the most seconds for it.
MAX_RUNNING = 100_000
MAX_OVERDUE = 10_000
METRIC_SECONDS = 1.0
RUNNING: Mql = {"job_status": JobStatus.RUNNING.value}
HAS_TIMEOUT: Mql = {"run_timeout": {"$gt": 0}}


class RunKey(NamedTuple):
    """The ids of a run and of its experiment, as stored."""

    experiment_id: str
    run_id: str

    @classmethod
    def of(cls, document: Document) -> Self:
        return cls(document["experiment_id"], document["_id"])


def fail_overdue_runs(should_stop: ShouldStop) -> None:
    """Make overdue runs Failed, one after the other, until none is left or asked to stop. Experiments take turns.

    Any number of processes may do so at once. A run that cannot be written is logged, and the others follow.
    """
    with suppress(Stopped):
        while failed := sum(failed_runs(should_stop)):
            logger.info("Runs made Failed because their time-out was over: %s.", f"{failed:,}")


def failed_runs(should_stop: ShouldStop) -> Iterator[bool]:
    """Make the next overdue runs Failed, and tell for each whether it was still overdue."""
    for key in persistent(overdue_runs, should_stop):
        if should_stop():
            return
        yield persistent(partial(failed_or_logged, key), should_stop)


def overdue_runs() -> list[RunKey]:
    """Find overdue runs of experiments that are not deleted, at most `AT_ONCE` of each."""
    with pymongo.timeout(WORK_SECONDS):
        return [RunKey.of(run) for run in aggregate(Experiment, overdue(AT_ONCE))]


def failed_or_logged(key: RunKey) -> bool:
    """Make a run Failed if it is overdue, and return whether it was. Raises the errors of an unavailable database."""
    try:
        return fail_if_overdue(key)
    except Exception as error:
        experiment, run = (uuid.UUID(pk) for pk in key)
        if is_write_conflict(error):
            # MongoDB keeps the lock of a process that was killed in a transaction for a minute. Others need not wait.
            logger.warning("Run %s of experiment %s is locked. It is made Failed later.", run, experiment)
            return False
        if is_database_unavailable(error):
            raise
        logger.error("Run %s of experiment %s cannot be made Failed: %s", run, experiment, described(error))  # noqa: TRY400
        return False


@in_transaction
def fail_if_overdue(key: RunKey) -> bool:
    """Make a run Failed if it is overdue, add the reason to its note, and record the event. Return whether it was.

    If a client or another process writes the run meanwhile, MongoDB refuses this write. The transaction is repeated
    then, and reads what they have written.
    """
    experiment = find_one(Experiment, {"_id": key.experiment_id}, projection={"run_timeout": 1})
    if experiment is None:
        return False
    timeout = {"$ifNull": ["$run_timeout", experiment.get("run_timeout")]}
    named = {"_id": key.run_id, "experiment_id": key.experiment_id}
    stored = find_one(Drift, {**named, **RUNNING, "$expr": is_over(timeout)})
    if stored is None:
        return False
    run = instance_of(Drift, stored)
    before = recorded_values(run)
    note = note_with_reason(run.note, run.run_timeout or experiment["run_timeout"])
    run.update(job_status=JobStatus.FAILED.value, note=note, overdue=True)
    record(Action.RUN_OVERDUE, None, run, before=before, after=recorded_values(run))
    return True


def recorded_values(run: Drift) -> Document:
    return {"job_status": run.job_status, "note": run.note}


def note_with_reason(note: str | None, seconds: int) -> str:
    """Return the note with the reason on a line of its own. The end of a note that is too long is cut off."""
    reason = f"Failed by Drift Watch: no heartbeat or result within {seconds:,} s."
    return f"{note[: MAX_NOTE - len(reason) - 1]}\n{reason}" if note else reason


def running_count() -> int:
    """Return the number of Running runs, at most `MAX_RUNNING`, from indexes alone.

    Those of deleted experiments, which may be in the trash for long, do not count. Raises Django's database errors,
    also if a count takes longer than `METRIC_SECONDS`.
    """
    running = counted(Drift, [{"$match": RUNNING}], MAX_RUNNING)
    if not (deleted := DeletedExperiment.objects.ids()):
        return running
    # The index of Running runs does not have the experiment.
    of_deleted = {"$match": {**RUNNING, "experiment_id": {"$in": deleted}}}
    return max(0, running - counted(Drift, [of_deleted], MAX_RUNNING))


def overdue_count() -> int:
    """Return the number of overdue runs that are still Running, at most `MAX_OVERDUE`. Raises the same errors."""
    return counted(Experiment, overdue(MAX_OVERDUE), MAX_OVERDUE)


def counted(model: type[Drift] | type[Experiment], pipeline: list[Mql], limit: int) -> int:
    with pymongo.timeout(METRIC_SECONDS):
        found = aggregate(model, [*pipeline, {"$limit": limit}, {"$count": "runs"}])
    return int(found[0]["runs"]) if found else 0


def is_over(timeout: Mql | str) -> Mql:
    """Return the expression that is true if a time-out, an expression in seconds, is over. Null is never over."""
    alive_at = {"$max": ["$created_at", "$heartbeat_at"]}
    excess = {"$subtract": [{"$subtract": ["$$NOW", alive_at]}, {"$multiply": [timeout, 1000]}]}
    return {"$gt": [excess, 0]}


def overdue(limit: int) -> list[Mql]:
    """Return the pipeline that finds overdue runs, on the collection of experiments.

    At most `limit` runs of each experiment are found, and as many with a time-out of their own, without those of
    deleted experiments, whose ids this queries. Experiments and runs without a time-out are not read.
    """
    end: list[Mql] = [{"$limit": limit}, {"$project": {"experiment_id": 1}}]
    # The index `drift_running` begins with the runs that have one. For a condition on the stored field, MongoDB may
    # choose an index that begins with the experiment, and read all Running runs. So the condition is on a computed one:
    # as an expression, it would take 20 times as long for 5,000 deleted experiments.
    by_own_timeout: list[Mql] = [
        {"$match": {**RUNNING, **HAS_TIMEOUT, "$expr": is_over("$run_timeout")}},
        {"$project": {"experiment_id": {"$concat": ["$experiment_id"]}}},
        {"$match": {"experiment_id": {"$nin": DeletedExperiment.objects.ids()}}},
        *end,
    ]
    of_experiment: Mql = {
        "from": Drift._meta.db_table,
        "localField": "_id",
        "foreignField": "experiment_id",
        "let": {"timeout": "$run_timeout"},
        "pipeline": [{"$match": {**RUNNING, "run_timeout": None, "$expr": is_over("$$timeout")}}, *end],
        "as": "run",
    }
    return [
        {"$match": HAS_TIMEOUT},
        {"$project": {"run_timeout": 1}},
        {"$lookup": of_experiment},
        {"$unwind": "$run"},
        {"$replaceWith": "$run"},
        {"$unionWith": {"coll": Drift._meta.db_table, "pipeline": by_own_timeout}},
    ]
