"""Background tasks: work of the service outside requests, run by `manage.py work`.

Any number of processes may run the same tasks. The document of a task (`BackgroundTask`) has its state, and a lease
that one process holds while it runs the task. A process that is killed holds it until the lease ends; then another
process takes the task over. Leases and due times count by the database's clock.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TypeAlias

from pymongo.errors import PyMongoError

from core.models import BackgroundTask
from core.mongodb.documents import Document, collection_of, upserted
from core.mongodb.errors import database_cause, is_database_unavailable
from core.mongodb.lock import LEASE_SECONDS, renewed
from core.printable import encodable

log = logging.getLogger(__name__)

ShouldStop: TypeAlias = Callable[[], bool]
# The pause between two looks at a task. Such a look is one operation on one small document, without a write.
POLL_SECONDS = 1.0
# The pause after a failure. Each further failure in a row doubles it, up to the longest one.
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=10)
# A time further in the future than its longest distance and this is one of a clock that was set back.
SLACK = timedelta(minutes=1)
MAX_ERROR = 2_000


@dataclass(frozen=True)
class Task:
    """Work that is done again and again.

    `run` works in short batches, and keeps its place in the database. It returns when nothing is left, or when its
    argument returns true, which it calls before each batch. It must bear that two processes run it at once: a process
    that hangs may continue after its lease has ended.
    """

    name: str
    label: str
    every: timedelta
    run: Callable[[ShouldStop], None]


class Outcome(Enum):
    """The end of a run of a task. A stopped one has not done all of its work, and is due at once."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class Worker:
    """Runs tasks until `stop` is called, each in a thread of its own: a long one delays no other."""

    def __init__(self, tasks: Sequence[Task], lease_seconds: float = LEASE_SECONDS) -> None:
        self.tasks = tasks
        self.lease_seconds = lease_seconds
        self.holder = f"{socket.gethostname()}, process {os.getpid()} ({uuid.uuid4().hex[:8]})"
        self._is_stopping = threading.Event()

    def stop(self) -> None:
        """Have the tasks end after their current batches."""
        self._is_stopping.set()

    def run(self) -> None:
        """Run each task whenever it is due, until `stop` is called. No failure ends it."""
        threads = [threading.Thread(target=self._repeat, args=(task,), name=task.name) for task in self.tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def run_once(self) -> list[Task]:
        """Run the tasks that are due now, one after the other, and return those that failed."""
        return [task for task in self.tasks if self.run_if_due(task) is Outcome.FAILED]

    def _repeat(self, task: Task) -> None:
        is_reported = False
        while not self._is_stopping.is_set():
            try:
                self.run_if_due(task)
                is_reported = False
            except Exception as error:
                # The database may be unavailable. The task continues once it is back.
                if not is_reported:
                    is_expected = is_database_unavailable(error)
                    log.warning("Background task %s waits: %s", task.name, described(error), exc_info=not is_expected)
                is_reported = True
            self._is_stopping.wait(POLL_SECONDS)

    def run_if_due(self, task: Task) -> Outcome | None:
        """Run the task unless it is not due or another process holds it. Return None then.

        A failure of the task is logged and stored. Raises the driver's errors if the task cannot be claimed.
        """
        if self._is_stopping.is_set() or (claimed := self._claimed(task)) is None:
            return None
        started_at = time.monotonic()
        with renewed(task.name, lambda: self._renew(task), self.lease_seconds) as lost:
            try:
                task.run(lambda: lost.is_set() or self._is_stopping.is_set())
            except Exception as error:
                is_expected, text = is_database_unavailable(error), described(error)
                log.exception("Background task %s failed: %s", task.name, text, exc_info=not is_expected)
                outcome, changes = Outcome.FAILED, failed(claimed, text)
            else:
                is_stopped = lost.is_set() or self._is_stopping.is_set()
                outcome, changes = (Outcome.STOPPED, {}) if is_stopped else (Outcome.SUCCEEDED, succeeded(task))
        if lost.is_set():
            log.warning("Background task %s lost its lease: another process may run it now.", task.name)
        self._release(task, {**changes, "duration": time.monotonic() - started_at})
        return outcome

    def _claimed(self, task: Task) -> Document | None:
        """Claim the task, and return its document; None if it is not due or another process holds it.

        A missing time is before every other. A claim of this process whose response was lost is its own.
        """
        longest_lease = timedelta(seconds=max(self.lease_seconds, LEASE_SECONDS))
        is_own: Document = {"$eq": ["$holder", literal(self.holder)]}
        is_free = {"$or": [has_come("$lease_ends_at", longest_lease), is_own]}
        is_claimed = {"$and": [has_come("$due_at", max(task.every, LONGEST_PAUSE)), is_free]}
        claim = {"holder": literal(self.holder), "lease_ends_at": self._lease_end, "started_at": "$$NOW"}
        defaults = {"failures": 0, "failures_in_a_row": 0, "error": ""}
        update = {
            "label": literal(task.label),
            **{name: {"$cond": [is_claimed, value, f"${name}"]} for name, value in claim.items()},
            **{name: {"$ifNull": [f"${name}", value]} for name, value in defaults.items()},
        }
        document = upserted(collection_of(BackgroundTask), task.name, [{"$set": update}])
        return document if document.get("holder") == self.holder else None

    def _renew(self, task: Task) -> bool:
        return self._update(task, {"lease_ends_at": self._lease_end})

    def _release(self, task: Task, changes: Document) -> None:
        """Store the changes and end the lease. Without a database, try until it is back: a failure is not forgotten."""
        is_reported = False
        while True:
            try:
                self._update(task, {**changes, "holder": "", "lease_ends_at": None})
            except PyMongoError as error:
                if not is_reported:
                    log.warning("The end of background task %s is not stored: %s", task.name, described(error))
                is_reported = True
                if self._is_stopping.wait(POLL_SECONDS):
                    return
            else:
                return

    def _update(self, task: Task, changes: Document) -> bool:
        """Update the document of the task if this process holds it, and return whether it does."""
        held = {"_id": task.name, "holder": self.holder}
        return collection_of(BackgroundTask).update_one(held, [{"$set": changes}]).matched_count == 1

    @property
    def _lease_end(self) -> Document:
        return {"$add": ["$$NOW", round(self.lease_seconds * 1000)]}


def has_come(time: str, longest: timedelta) -> Document:
    """Return the expression that is true if a time has come.

    It is true too for a time much further away than `longest`: since it was stored, the clock has been set back. A
    write that MongoDB repeats after a conflict keeps its `$$NOW`, which may be earlier than that of the other write.
    """
    latest: Document = {"$add": ["$$NOW", milliseconds(longest + SLACK)]}
    return {"$or": [{"$lte": [time, "$$NOW"]}, {"$gt": [time, latest]}]}


def succeeded(task: Task) -> Document:
    due_at = {"$add": ["$started_at", milliseconds(task.every)]}
    return {"succeeded_at": "$$NOW", "due_at": due_at, "failures_in_a_row": 0}


def failed(claimed: Document, error: str) -> Document:
    in_a_row = claimed["failures_in_a_row"]
    # The exponent is bounded because Python computes any power exactly.
    pause = min(FIRST_PAUSE * 2 ** min(in_a_row, 10), LONGEST_PAUSE)
    return {
        "due_at": {"$add": ["$$NOW", milliseconds(pause)]},
        "failures": claimed["failures"] + 1,
        "failures_in_a_row": in_a_row + 1,
        "error": literal(error),
    }


def described(error: Exception) -> str:
    """Return the kind and the text of an error: of the driver's, because Django's database errors have no text."""
    cause = database_cause(error) or error
    return encodable(f"{type(cause).__name__}: {cause}"[:MAX_ERROR])


def milliseconds(time: timedelta) -> int:
    return round(time.total_seconds() * 1000)


def literal(text: str) -> Document:
    """Return the text as a value of a pipeline, where a dollar at its start would name a field."""
    return {"$literal": text}
