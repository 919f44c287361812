"""Leases: for how long one may go by an experiment as it was read.

Who works with the runs of an experiment reads it first, to know whether they may. A process keeps what it
read for the length of a lease, so that work in quick succession reads it once. Whoever takes something away
(a level, the visibility, the experiment itself) waits as long before they are told that it is done: by then
every older copy has run out, and what was taken is gone everywhere. Only lengths of time are compared, so no
clocks have to agree. (C. G. Gray, D. R. Cheriton: Leases, an efficient fault-tolerant mechanism for
distributed file cache consistency, 1989.)
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.models import Experiment

# Seconds.
LEASE = 0.25
# Few are worked with in a quarter of a second, and each may be as large as a request.
MAX_KEPT = 100

kept: dict[uuid.UUID, Experiment] = {}
# The moments of changes that are waited for together later.
unsettled: ContextVar[list[float] | None] = ContextVar("unsettled", default=None)


def runs_out(asked_for_at: float) -> float:
    """When the lease of what was asked for then is over, on this process's monotonic clock."""
    return asked_for_at + LEASE


def held(pk: uuid.UUID) -> Experiment | None:
    """The experiment as this process read it within the lease, if it did. It is everybody's: do not change it."""
    experiment = kept.get(pk)
    return experiment if experiment and time.monotonic() < runs_out(experiment.asked_for_at) else None


def hold(experiment: Experiment) -> None:
    """Keep it for the rest of its lease; one that is being deleted is looked at each time."""
    if experiment.deletion_began is not None:
        return
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[experiment.pk] = experiment


def release() -> None:
    """Forget all that is held."""
    kept.clear()


def outwait(since: float | None = None) -> None:
    """Return once nobody goes by what they read before `since`, on the monotonic clock; before now by default."""
    now = time.monotonic()
    time.sleep(max(0.0, runs_out(now if since is None else since) - now))


def settle() -> None:
    """Wait with the news that something was taken away until that holds everywhere."""
    changes = unsettled.get()
    if changes is None:
        outwait()
    else:
        changes.append(time.monotonic())


@contextmanager
def settled_together() -> Iterator[None]:
    """Wait for all changes that are made inside once, at the end, in place of for each."""
    changes: list[float] = []
    token = unsettled.set(changes)
    try:
        yield
    finally:
        unsettled.reset(token)
        if changes:
            outwait(changes[-1])
