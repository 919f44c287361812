"""Summaries of the runs of several experiments, by one query."""

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import Model

from core.mongodb.documents import aggregate
from core.mongodb.match import Mql
from core.mongodb.order import NEWEST_FIRST
from core.totals import Total
from drifts import verdict
from drifts.verdict import Verdict

NEWEST = 200
# The most runs to count. Counting reads an index entry for each run, and would take noticeable time beyond.
COUNTED = 10_000


@dataclass
class Summary:
    """The runs of one experiment: their number, counted up to `COUNTED`, and the newest verdicts, newest first."""

    runs: Total = field(default=Total(0))
    last_run: datetime.datetime | None = None
    verdicts: list[Verdict] = field(default_factory=list)


def summaries_of(drifts: type[Model], experiments: Sequence[uuid.UUID]) -> dict[uuid.UUID, Summary]:
    """Map each experiment to the number of its runs and the verdicts of its newest `NEWEST` runs."""
    found = {experiment: Summary() for experiment in experiments}
    if not found:
        return found
    first, *others = [pipeline for experiment in experiments for pipeline in (counted(experiment), newest(experiment))]
    unions = [{"$unionWith": {"coll": drifts._meta.db_table, "pipeline": other}} for other in others]
    for document in aggregate(drifts, [*first, *unions]):
        summary = found[uuid.UUID(document["_id"])]
        if "runs" in document:
            summary.runs = Total.up_to(COUNTED, document["runs"])
        else:
            summary.last_run = document["last_run"].replace(tzinfo=datetime.UTC)
            summary.verdicts = [Verdict(name) for name in document["verdicts"]]
    return found


def counted(experiment: uuid.UUID) -> list[Mql]:
    """The pipeline that counts the runs of an experiment, up to one more than `COUNTED`."""
    return [
        {"$match": {"experiment_id": experiment.hex}},
        {"$limit": COUNTED + 1},
        {"$count": "runs"},
        {"$set": {"_id": experiment.hex}},
    ]


def newest(experiment: uuid.UUID) -> list[Mql]:
    """The pipeline that reads the verdicts of an experiment's newest runs."""
    return [
        {"$match": {"experiment_id": experiment.hex}},
        {"$sort": NEWEST_FIRST.sort},
        {"$limit": NEWEST},
        {
            "$group": {
                "_id": "$experiment_id",
                "last_run": {"$first": "$created_at"},
                "verdicts": {"$push": verdict.EXPRESSION},
                # No index has this field, so none covers the query. Otherwise MongoDB 6 may take a covering index of
                # another order, after an experiment with few runs, and then sort all runs of the next experiment.
                "changed": {"$first": "$updated_at"},
            }
        },
    ]
