"""The recomputation of stored runs after a change of their experiment's rules.

`Experiment.recomputation` has its progress, which a further change of the rules sets back to the start. A request that
read the rules before the change may still store a run after this work is done: the next upgrade finds such runs
(upgrades.py).
"""

import logging
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from core import timestamps
from core.background import ShouldStop
from core.mongodb.documents import collection_of, find_one
from core.mongodb.match import Mql
from drifts.batches import START, Position, Stopped, completed_batch, persistent, unhurried
from drifts.models import Drift
from experiments.models import LONGEST_REQUEST, Experiment
from experiments.run_rules import Recomputation

logger = logging.getLogger(__name__)


def recompute_runs(should_stop: ShouldStop) -> None:
    """Apply changed rules to stored runs, until nothing is left or asked to stop. Experiments take turns."""
    waiting = Experiment.objects.matching({"recomputation": {"$ne": None}})
    with suppress(Stopped):
        while pending := persistent(waiting.ids, should_stop):
            for experiment in pending:
                if should_stop():
                    return
                persistent(partial(recompute_batch, uuid.UUID(experiment), should_stop), should_stop)


def recompute_batch(experiment_id: uuid.UUID, should_stop: ShouldStop) -> None:
    """Recompute the next runs of an experiment, and store the progress unless the rules have changed meanwhile."""
    fields = {"recomputation": 1, "rules_version": 1}
    stored = find_one(Experiment, {"_id": experiment_id.hex}, projection=fields)
    if stored is None or stored.get("recomputation") is None:
        return
    recomputation = Recomputation.of(stored["recomputation"])
    # A further change of the rules counts `rules_version` up.
    same = {"_id": experiment_id.hex, **stored}
    after = Position(*recomputation.after) if recomputation.after else START
    # Requests that began before the change may have created runs by the older rules until then.
    until = timestamps.stored(recomputation.started_at + LONGEST_REQUEST)
    with unhurried():
        batch = completed_batch(experiment_id, after, until, should_stop)
        if batch is None:
            write(same, None)
            logger.info("The %s of experiment %s applies to all of its runs.", recomputation.field, experiment_id)
        else:
            total = recomputation.total if recomputation.after else Drift.objects.count_of(experiment_id)
            done = recomputation.done + batch.visited
            moved = replace(recomputation, done=done, total=max(done, total), after=batch.last)
            write(same, moved.stored())


def write(same: Mql, recomputation: dict[str, Any] | None) -> None:
    collection_of(Experiment).update_one(same, {"$set": {"recomputation": recomputation}})
