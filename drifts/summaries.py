"""Summaries of the runs of several experiments, by one query."""

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model

from core.mongodb.documents import Document, aggregate
from core.mongodb.match import Mql
from core.totals import Total
from drifts import observed, verdict
from drifts.verdict import Verdict

NEWEST = 200
# The most runs to count. Counting reads an index entry for each run, and would take noticeable time beyond.
COUNTED = 10_000


@dataclass
class Summary:
    """The runs of one experiment: their number, counted up to `COUNTED`, and the newest verdicts, newest first.

    `last_run` is the time of the newest run. `has_older_records` is True if some runs are of schema 1.0.0, and the
    newest ones have to be read by `DriftQuerySet.newest`.
    """

    runs: Total = field(default=Total(0))
    last_run: datetime.datetime | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    has_older_records: bool = False

    def take(self, newest: Sequence[Document]) -> None:
        """Take the newest runs, which `SHAPE` has changed."""
        self._set(newest[0][observed.COLUMN] if newest else None, [run["verdict"] for run in newest])

    def add(self, part: Document) -> None:
        """Add the result of one of the pipelines."""
        match part:
            case {"runs": number}:
                self.runs = Total.up_to(COUNTED, number)
            case {"verdicts": verdicts, "last_run": time}:
                self._set(time, verdicts)
            case _:
                self.has_older_records = True

    def _set(self, last_run: Any, verdicts: Sequence[str]) -> None:
        self.last_run = last_run and last_run.replace(tzinfo=datetime.UTC)
        self.verdicts = [Verdict(name) for name in verdicts]


def summaries_of(drifts: type[Model], experiments: Sequence[uuid.UUID]) -> dict[uuid.UUID, Summary]:
    """Map each experiment to the number of its runs and the verdicts of its newest `NEWEST` runs."""
    found = {experiment: Summary() for experiment in experiments}
    if not found:
        return found
    first, *others = [pipeline for experiment in experiments for pipeline in pipelines(experiment)]
    unions = [{"$unionWith": {"coll": drifts._meta.db_table, "pipeline": other}} for other in others]
    for document in aggregate(drifts, [*first, *unions], needs_one_moment=True):
        found[uuid.UUID(document["_id"])].add(document)
    return found


def pipelines(experiment: uuid.UUID) -> list[list[Mql]]:
    """The pipelines for the number of an experiment's runs, for its newest verdicts, and for a run of schema 1.0.0."""
    runs: Mql = {"$match": {"experiment_id": experiment.hex}}
    of_experiment: Mql = {"$set": {"_id": experiment.hex}}
    newest: Mql = {
        "$group": {
            "_id": "$experiment_id",
            "last_run": {"$first": f"${observed.COLUMN}"},
            "verdicts": {"$push": verdict.EXPRESSION},
            # No index has this field, so none covers the query. Otherwise MongoDB 6 may take a covering index of
            # another order, after an experiment with few runs, and then sort all runs of the next experiment.
            "changed": {"$first": "$updated_at"},
        }
    }
    return [
        [runs, {"$limit": COUNTED + 1}, {"$count": "runs"}, of_experiment],
        [runs, {"$sort": observed.NEWEST_OBSERVED.sort}, {"$limit": NEWEST}, newest],
        [runs, {"$match": observed.HAS_NO_TIME}, {"$limit": 1}, {"$project": {"_id": "$experiment_id"}}],
    ]


# Changes each of the newest runs for `Summary.take`.
SHAPE: Mql = {"$project": {observed.COLUMN: 1, "verdict": verdict.EXPRESSION}}
