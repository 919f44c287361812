"""The dashboard of the admin portal: the state of the runs that its reader may see.

Days are those on which runs were reported, and the newest runs are those reported last: the indexes over the runs of
all experiments hold only when they were reported, and which of them are running. All else is read run by run, from the
newest runs.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects

from core import timestamps
from core.identity import Identity
from core.mongodb.documents import aggregate, instances_of
from core.mongodb.match import Mql
from core.mongodb.order import NEWEST_FIRST
from core.totals import Total
from drifts.models import Drift, DriftQuerySet
from drifts.outliers import full_scale
from drifts.parameters import WITHOUT_PARAMETERS
from drifts.statistics import is_verdict
from drifts.verdict import MATCHES, JobStatus, Verdict, drift_rate, percent
from experiments.models import Experiment

DAYS = 30
# The most runs of a day to count, by an index, and to read for their verdicts.
COUNTED = 5_000
SAMPLED = 500
# The most runs to read for failures and drift.
NEWEST = 10_000
LISTED = 8
STALE = datetime.timedelta(days=1)
# The height of the picture, in which each day has the width 1.
HEIGHT = 12


@dataclass
class Day:
    """A day, in UTC: its number of runs, counted up to `COUNTED`, and the newest `SAMPLED` of them by verdict."""

    date: datetime.date
    runs: Total = field(default=Total(0))
    drift: int = 0
    no_drift: int = 0
    unknown: int = 0

    @property
    def sampled(self) -> int:
        """The number of runs that were read for their verdicts."""
        return self.drift + self.no_drift + self.unknown

    @property
    def drift_rate(self) -> str:
        """The drift rate in per cent, with the number of runs if not all were read; empty without a known verdict."""
        rate = drift_rate(self.drift, self.no_drift)
        if rate is None:
            return ""
        is_all = self.runs == Total(self.sampled)
        return percent(rate) if is_all else f"{percent(rate)} (newest {self.sampled:,})"

    def bars(self, full: int) -> list[dict[str, Any]]:
        """The stacked bars of the verdicts' shares. The day has the height `HEIGHT` from `full` runs on."""
        top, bars = float(HEIGHT), []
        total = HEIGHT * min(self.runs.number / full, 1)
        for name in Verdict.values:
            height = total * getattr(self, name) / (self.sampled or 1)
            top -= height
            bars.append({"verdict": name, "y": round(top, 3), "height": round(height, 3)})
        return bars


@dataclass(frozen=True)
class Dashboard:
    """The last days, the running runs, and the failures and drifts among the newest `NEWEST` runs.

    `runs` is the number of these newest runs, and `since` the time of the oldest.
    """

    days: Sequence[Day]
    running: Sequence[Drift]
    stale: Sequence[Drift]
    runs: int
    since: datetime.datetime | None
    failing: Sequence[dict[str, Any]]
    drifts: Sequence[Drift]

    @property
    def looked_at(self) -> str:
        """The runs that failures and drifts are read from."""
        if self.runs < NEWEST:
            return "Of all runs that you can read"
        return f"Of the newest {NEWEST:,} runs that you can read, since {self.since:%Y-%m-%d %H:%M} UTC"

    @property
    def full(self) -> int:
        """The number of runs of a bar of full height."""
        return full_scale([day.runs.number for day in self.days])

    @property
    def counted(self) -> str:
        """Sentences about the height and the colours of the bars."""
        runs = "1 run" if self.full == 1 else f"{self.full:,} runs"
        cut_off = ", ".join(f"{day.date} ({day.runs} runs)" for day in self.days if day.runs.number > self.full)
        sampled = any(day.sampled < day.runs.number for day in self.days)
        sentences = (
            f"A bar of full height has {runs}.",
            f"Cut off because they have more: {cut_off}." if cut_off else "",
            f"The colours show the verdicts of a day's newest {SAMPLED:,} runs." if sampled else "",
        )
        return " ".join(filter(None, sentences))

    @property
    def stale_query(self) -> str:
        """The query for the list of stale runs, limited to days on which every run is old enough."""
        return f"job_status__exact=Running&until={timestamps.now() - STALE - STALE:%Y-%m-%d}"

    @property
    def columns(self) -> list[dict[str, Any]]:
        """The columns of the picture, one for each day."""
        full = self.full
        return [
            {"day": day, "x": place + 0.1, "bars": day.bars(full), "is_cut_off": day.runs.number > full}
            for place, day in enumerate(self.days)
        ]


def dashboard_of(identity: Identity) -> Dashboard:
    """The dashboard of the runs that the identity may read."""
    runs, now = Drift.objects.visible_to(identity), timestamps.now()
    running = runs.matching({"job_status": JobStatus.RUNNING.value})
    [found] = runs.aggregated(
        {"$sort": NEWEST_FIRST.sort},
        {"$limit": NEWEST},
        WITHOUT_PARAMETERS,
        {
            "$facet": {
                "all": [{"$group": {"_id": None, "runs": {"$sum": 1}, "since": {"$min": "$created_at"}}}],
                "failing": FAILING,
                "drifts": [{"$match": MATCHES[Verdict.DRIFT]}, {"$limit": LISTED}],
            }
        },
    )
    whole: dict[str, Any] = found["all"][0] if found["all"] else {"runs": 0, "since": None}
    lists = {
        "drifts": list(instances_of(Drift, found["drifts"])),
        "running": newest_of(running.matching({"created_at": {"$gte": now - STALE}})),
        "stale": newest_of(running.matching({"created_at": {"$lt": now - STALE}})),
    }
    experiments = Prefetch("experiment", Experiment.objects.without_large_fields())
    prefetch_related_objects([drift for drifts in lists.values() for drift in drifts], experiments)
    return Dashboard(
        days=days_of(runs, now.date()),
        runs=whole["runs"],
        since=whole["since"],
        failing=[{"model": row["_id"], "failed": row["failed"], "runs": row["runs"]} for row in found["failing"]],
        **lists,
    )


def newest_of(running: DriftQuerySet) -> list[Drift]:
    """The newest of these Running runs.

    The index `drift_running` begins with the time-out. It has the runs without one in the order of time, and the others
    are few.
    """
    end: list[Mql] = [{"$sort": NEWEST_FIRST.sort}, {"$limit": LISTED}, WITHOUT_PARAMETERS]
    timeouts: list[Mql] = [{"run_timeout": None}, {"run_timeout": {"$gt": 0}}]
    first, other = ([{"$match": running.match_document(timeout)}, *end] for timeout in timeouts)
    both = {"$unionWith": {"coll": Drift._meta.db_table, "pipeline": other}}
    return list(instances_of(Drift, aggregate(Drift, [*first, both, *end], needs_one_moment=True)))


def days_of(runs: DriftQuerySet, today: datetime.date) -> list[Day]:
    """The last `DAYS` days, including those without runs.

    Each day has a query of its own: the condition on experiments may name thousands of them, and repeated for all days
    it would be too large for MongoDB.
    """
    days = [Day(today - datetime.timedelta(days=ago)) for ago in reversed(range(DAYS))]
    for day in days:
        for name, number in numbers_of(runs, day.date).items():
            setattr(day, name, Total.up_to(COUNTED, number) if name == "runs" else number)
    return days


def numbers_of(runs: DriftQuerySet, date: datetime.date) -> dict[str, int]:
    """The number of runs of a day, and the verdicts of the newest, by the fields of `Day`; empty without runs."""
    since = datetime.datetime.combine(date, datetime.time(), datetime.UTC)
    until = since + datetime.timedelta(days=1)
    match: Mql = {"$match": runs.match_document({"created_at": {"$gte": since, "$lt": until}})}
    counting: list[Mql] = [match, {"$limit": COUNTED + 1}, {"$count": "runs"}]
    verdicts = {verdict.value: {"$sum": is_verdict(verdict)} for verdict in Verdict}
    group: list[Mql] = [{"$group": {"_id": None, **verdicts}}, {"$unset": "_id"}]
    sampling: list[Mql] = [match, {"$sort": NEWEST_FIRST.sort}, {"$limit": SAMPLED}, *group]
    both: Mql = {"$unionWith": {"coll": Drift._meta.db_table, "pipeline": sampling}}
    return {name: number for row in aggregate(Drift, [*counting, both]) for name, number in row.items()}


FAILED = {"$cond": [{"$eq": ["$job_status", JobStatus.FAILED.value]}, 1, 0]}
FAILING: list[Mql] = [
    {"$group": {"_id": "$model", "runs": {"$sum": 1}, "failed": {"$sum": FAILED}}},
    {"$match": {"failed": {"$gt": 0}}},
    {"$sort": {"failed": -1, "_id": 1}},
    {"$limit": LISTED},
]
