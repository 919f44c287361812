"""The upgrade of stored runs to the current schema while the service serves and writes. docs/schema.md explains it.

A pass visits the runs of each experiment from the oldest to the newest, and completes those that are not as this
release would store them: older records, and runs of requests that read rules which have changed meanwhile. The next
pass visits later runs only, beginning with the requests that may not have ended at the start of this one. So it finds
what older copies of the service still write. It visits all runs of an experiment that has returned from the trash
since. The place of each schema version is kept in one document.
"""

import datetime
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Self

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from core import timestamps
from core.background import ShouldStop
from core.mongodb.documents import Document, mongodb
from drifts import schema
from drifts.batches import START, Position, Stopped, completed_batch, persistent, unhurried
from experiments.models import LONGEST_REQUEST, Experiment

logger = logging.getLogger(__name__)
Report = Callable[[str], None]
SECONDS_BETWEEN_REPORTS = 10


class Overtaken(Exception):
    """Raised if another process has moved the place."""


@dataclass(frozen=True)
class Place:
    """The place of a pass. The runs created before `since` are done; `started_at` is null between two passes.

    `experiment` and `after` are the last run that the pass has visited, `visited` and `changed` its numbers of runs.
    """

    since: datetime.datetime = START.created_at
    started_at: datetime.datetime | None = None
    experiment: str = ""
    after: Position = START
    visited: int = 0
    changed: int = 0

    @classmethod
    def stored(cls) -> Self:
        """Return the stored place; the place before the first pass if none is stored."""
        document = places().find_one({"_id": schema.current()}, {"_id": 0}) or {}
        return cls(**document | ({"after": Position(*document["after"])} if document else {}))

    def moved_to(self, place: "Place") -> "Place":
        """Store a later place in place of this one. Raises `Overtaken` if another one is stored."""
        is_first = self == Place()
        try:
            moved = places().replace_one({"_id": schema.current(), **asdict(self)}, asdict(place), upsert=is_first)
            is_moved = is_first or moved.matched_count == 1
        except DuplicateKeyError:
            is_moved = False
        # The response to an earlier attempt may have been lost.
        if not is_moved and Place.stored() != place:
            raise Overtaken
        return place


def upgrade_runs(should_stop: ShouldStop) -> None:
    """Make a pass, or finish an interrupted one. Return early if asked to stop, or if another process makes one."""
    try:
        place = make_pass(should_stop, logger.info)
    except Overtaken:
        logger.info("Another process upgrades the runs.")
    except Stopped:
        return
    else:
        if place.changed:
            logger.info(progress(place))


def make_pass(should_stop: ShouldStop, report: Report) -> Place:
    """Make a pass, or finish an interrupted one, and return its end. `report` takes lines that tell the progress.

    Raises `Stopped` if asked to stop, and `Overtaken` if another process makes the pass.
    """
    place = persistent(Place.stored, should_stop)
    if place.started_at is None:
        begun = Place(since=place.since, started_at=timestamps.stored(timestamps.now()))
        place = persistent(partial(place.moved_to, begun), should_stop)
    reported = time.monotonic()
    experiments = Experiment.objects.matching({"_id": {"$gte": place.experiment}})
    restored = Experiment.objects.matching({"restored_at": {"$gte": place.since}})
    # Earlier passes may have missed the runs of experiments that were in the trash.
    visited_whole = set(persistent(restored.ids, should_stop))
    for experiment in sorted(persistent(experiments.ids, should_stop)):
        since = START.created_at if experiment in visited_whole else place.since
        while moved := visit(place, experiment, since, should_stop):
            place = moved
            if time.monotonic() > reported + SECONDS_BETWEEN_REPORTS:
                report(progress(place))
                reported = time.monotonic()
        if should_stop():
            raise Stopped
    assert place.started_at is not None
    ended = Place(since=place.started_at - LONGEST_REQUEST, visited=place.visited, changed=place.changed)
    return persistent(partial(place.moved_to, ended), should_stop)


def visit(place: Place, experiment: str, since: datetime.datetime, should_stop: ShouldStop) -> Place | None:
    """Visit the next runs of an experiment, those created after `since`.

    Return the place after them, or None without any or if asked to stop.
    """
    if should_stop():
        return None
    assert place.started_at is not None
    after = place.after if place.experiment == experiment else Position(since)
    next_batch = partial(completed_batch, uuid.UUID(experiment), after, place.started_at, should_stop)
    with unhurried():
        batch = persistent(next_batch, should_stop)
        if batch is None:
            return None
        visited, changed = place.visited + batch.visited, place.changed + batch.changed
        moved = replace(place, experiment=experiment, after=batch.last, visited=visited, changed=changed)
        # A step of its own: the same batch would change no runs if it were repeated, and lead to another place.
        return persistent(partial(place.moved_to, moved), should_stop)


def visit_all_again() -> None:
    """Make the next pass visit all runs. A process that is making a pass stops."""
    places().delete_one({"_id": schema.current()})


def progress(place: Place) -> str:
    """Describe the progress in a sentence."""
    return f"Upgrade to schema {schema.current()}: visited {place.visited:,} runs, changed {place.changed:,}."


def places() -> Collection[Document]:
    return mongodb().database["drifts_upgrade"]
