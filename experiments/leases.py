"""Leases: for how long one may go by an experiment as it was read.

Who works with the runs of an experiment reads it first, to know whether they may. A process keeps what it
read for the length of a lease, so that work in quick succession reads it once. Whoever takes something away
(a level, the visibility, the experiment itself) waits as long before they are told that it is done: by then
every older copy has run out, and what was taken is gone everywhere. Only lengths of time are compared, so no
clocks have to agree. (C. G. Gray, D. R. Cheriton: Leases, an efficient fault-tolerant mechanism for
distributed file cache consistency, 1989.)
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING

from cachetools import TLRUCache

if TYPE_CHECKING:
    from experiments.models import Experiment

# Seconds.
LEASE = 0.25
MAX_KEPT = 1_000


def runs_out(asked_for_at: float) -> float:
    """When the lease of what was asked for then is over, on this process's monotonic clock."""
    return asked_for_at + LEASE


kept: TLRUCache[uuid.UUID, Experiment] = TLRUCache(
    MAX_KEPT, ttu=lambda _, experiment, now: runs_out(experiment.asked_for_at), timer=time.monotonic
)
lock = threading.Lock()


def held(pk: uuid.UUID) -> Experiment | None:
    """The experiment as this process read it within the lease, if it did. It is everybody's: do not change it."""
    with lock:
        return kept.get(pk)


def hold(experiment: Experiment) -> None:
    """Keep it for the rest of its lease; one that is being deleted is looked at each time."""
    if experiment.deletion_began is None:
        with lock:
            kept[experiment.pk] = experiment


def release() -> None:
    """Forget all that is held."""
    with lock:
        kept.clear()


def outwait(since: float | None = None) -> None:
    """Return once nobody goes by what they read before `since`, on the monotonic clock; before now by default."""
    now = time.monotonic()
    time.sleep(max(0.0, runs_out(now if since is None else since) - now))
