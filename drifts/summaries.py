"""What the runs of several experiments say at a glance, in one query, whatever their number."""

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import Model

from core.api.totals import Total
from core.mongodb.documents import aggregate
from core.mongodb.match import Mql
from core.mongodb.order import Order
from drifts import verdict
from drifts.verdict import Verdict

NEWEST = 200
# Counting reads an entry of an index for each run: beyond this it would show.
COUNTED = 10_000


@dataclass
class Summary:
    """The runs of one experiment: how many, counted up to `COUNTED`, and the verdicts of the newest, the last first."""

    runs: Total = field(default=Total(0))
    last_run: datetime.datetime | None = None
    verdicts: list[Verdict] = field(default_factory=list)


def summaries_of(drifts: type[Model], experiments: Sequence[uuid.UUID]) -> dict[uuid.UUID, Summary]:
    """By experiment, the number of its runs and the verdicts of the `NEWEST` of them."""
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
    return [
        {"$match": {"experiment_id": experiment.hex}},
        {"$limit": COUNTED + 1},
        {"$count": "runs"},
        {"$set": {"_id": experiment.hex}},
    ]


def newest(experiment: uuid.UUID) -> list[Mql]:
    return [
        {"$match": {"experiment_id": experiment.hex}},
        {"$sort": Order.by("created_at", is_descending=True).sort},
        {"$limit": NEWEST},
        {
            "$group": {
                "_id": "$experiment_id",
                "last_run": {"$first": "$created_at"},
                "verdicts": {"$push": verdict.EXPRESSION},
                # In no index: else MongoDB 6, once it has seen an experiment of few runs, reads all runs of the next
                # one in another index, which has all that is wanted, and sorts them.
                "changed": {"$first": "$updated_at"},
            }
        },
    ]
