"""Statistics of drift runs: counts, drift rates and the distribution of numbers, by group and interval."""

import math
from dataclasses import dataclass
from typing import Any

from core.filters import paths
from core.filters.expressions import value_at
from core.mongodb.match import Mql
from drifts import observed, verdict
from drifts.intervals import Calendar
from drifts.models import DriftQuerySet
from drifts.parameters import ROOT
from drifts.verdict import MEASURED, Verdict, drift_rate

MAX_GROUPS = 1_000
MAX_TEXT = 255
# The names to group by, apart from parameters, with the expressions of their values.
GROUPS: dict[str, Any] = {
    "model": "$model",
    "job_status": "$job_status",
    "verdict": verdict.EXPRESSION,
    "detector": "$detector",
    "environment": "$environment",
    "model_version": "$model_version",
    "feature": "$feature",
    "series": "$series",
    "tags": "$tags",
}
# The fields that can give the time of a run.
TIME_FIELDS = (observed.COLUMN, "created_at")


class TooManyGroups(Exception):
    """Raised for more than `MAX_GROUPS` pairs of an interval and a group."""


@dataclass(frozen=True)
class Statistics:
    """The statistics to compute over runs.

    `group_by` holds names of `GROUPS` and paths of parameters, `measures` names of `MEASURED` and paths of parameters;
    `percentiles` are numbers from 0 to 100. `calendar` divides the times in the field `time_field`.
    """

    group_by: tuple[str, ...] = ()
    calendar: Calendar | None = None
    time_field: str = observed.COLUMN
    measures: tuple[str, ...] = ()
    percentiles: tuple[float, ...] = ()
    counts_unsupported: bool = False

    def of(self, runs: DriftQuerySet) -> list[dict[str, Any]]:
        """The rows, sorted by interval and then by size, the largest group first. Empty groups have no row.

        Raises `TooManyGroups`.
        """
        interval = self.calendar.key(self._time_of(runs)) if self.calendar else None
        documents = runs.aggregated(*self._stages(interval))
        if len(documents) > MAX_GROUPS:
            raise TooManyGroups
        rows = [self._row(document) for document in documents if not lacks_time(document)]
        return sorted(rows, key=lambda row: row["start"]) if self.calendar else rows

    def _time_of(self, runs: DriftQuerySet) -> Any:
        return runs.time_expression() if self.time_field == observed.COLUMN else f"${self.time_field}"

    def _stages(self, interval: Mql | None) -> list[Mql]:
        unwound = (
            [{"$unwind": {"path": "$tags", "preserveNullAndEmptyArrays": True}}] if "tags" in self.group_by else []
        )
        numbers = {f"numbers{i}": {"$push": number_at(path)} for i, path in enumerate(self.measures)}
        distributions = {name: self._distribution(f"${name}") for name in numbers}
        unsupported = {"unsupported": {"$sum": is_true(verdict.IS_UNSUPPORTED)}} if self.counts_unsupported else {}
        return [
            *unwound,
            {
                "$group": {
                    "_id": {
                        "interval": interval,
                        "values": [GROUPS.get(name) or scalar_at(name) for name in self.group_by],
                    },
                    "count": {"$sum": 1},
                    "drift": {"$sum": is_verdict(Verdict.DRIFT)},
                    "no_drift": {"$sum": is_verdict(Verdict.NO_DRIFT)},
                    **unsupported,
                    **numbers,
                }
            },
            {"$limit": MAX_GROUPS + 1},
            *([{"$set": distributions}] if distributions else []),
            {"$sort": {"count": -1, "_id": 1}},
        ]

    def _distribution(self, numbers: str) -> Mql:
        """The expression of a list's count, mean, least and greatest number, and each percentile's two neighbours."""
        last: Mql = {"$subtract": [{"$size": "$$sorted"}, 1]}
        places: list[Mql] = [{"$divide": [{"$multiply": [last, percentile]}, 100]} for percentile in self.percentiles]
        return {
            "$let": {
                "vars": {"sorted": {"$sortArray": {"input": numbers, "sortBy": 1}}},
                "in": {
                    "count": {"$size": "$$sorted"},
                    "mean": {"$avg": "$$sorted"},
                    "ends": [{"$first": "$$sorted"}, {"$last": "$$sorted"}],
                    "neighbours": [
                        [{"$arrayElemAt": ["$$sorted", {rounded: place}]} for rounded in ("$floor", "$ceil")]
                        for place in places
                    ],
                },
            }
        }

    def _row(self, document: Mql) -> dict[str, Any]:
        drift, no_drift, key = document["drift"], document["no_drift"], document["_id"]
        unsupported = {"unsupported": document["unsupported"]} if self.counts_unsupported else {}
        return {
            "start": self.calendar and self.calendar.start(key["interval"]),
            "group": dict(zip(self.group_by, key["values"], strict=True)),
            "count": document["count"],
            "verdicts": {"drift": drift, "no_drift": no_drift, "unknown": document["count"] - drift - no_drift},
            **unsupported,
            "drift_rate": drift_rate(drift, no_drift),
            "measures": {path: self._measure(document[f"numbers{i}"]) for i, path in enumerate(self.measures)},
        }

    def _measure(self, distribution: Mql) -> dict[str, Any]:
        count, mean, (least, greatest) = distribution["count"], distribution["mean"], distribution["ends"]
        return {
            "count": count,
            "min": least,
            # The sum of very large floats overflows, and the mean is infinite.
            "mean": mean if mean is None or math.isfinite(mean) else None,
            "max": greatest,
            "percentiles": {
                f"{percentile:.15g}": percentile_between(below, above, percentile, count) if count else None
                for percentile, (below, above) in zip(self.percentiles, distribution["neighbours"], strict=True)
            },
        }


def percentile_between(below: float, above: float, percentile: float, count: int) -> float:
    """Interpolate a percentile of `count` numbers between its two neighbours.

    Linear interpolation: the seventh definition of Hyndman & Fan, "Sample Quantiles in Statistical
    Packages", The American Statistician 50 (1996), and the default of NumPy and R.
    """
    part = (count - 1) * percentile / 100 % 1
    return below if below == above or part == 0 else below * (1 - part) + above * part


def lacks_time(document: Mql) -> bool:
    """Return whether a group has no time: an older release has stored its runs since `time_expression` was chosen."""
    interval = document["_id"]["interval"]
    return interval is not None and interval["shown"] is None


def is_verdict(wanted: Verdict) -> Mql:
    """The expression that is 1 for this verdict and 0 for others."""
    return is_true({"$eq": [verdict.EXPRESSION, wanted.value]})


def is_true(condition: Mql) -> Mql:
    """The expression that is 1 if the condition is true, else 0."""
    return {"$cond": [condition, 1, 0]}


def number_at(name: str) -> Mql:
    """The expression of a number in a field of `MEASURED` or at a path; it is missing if the value is not a number."""
    value = f"${name}" if name in MEASURED else parameter(name)
    return {"$cond": [{"$isNumber": value}, value, "$$REMOVE"]}


def scalar_at(path: str) -> Mql:
    """The expression of a number, a boolean or a text of at most `MAX_TEXT` bytes; null for other values."""
    value = parameter(path)
    text = {"$cond": [{"$eq": [{"$type": value}, "string"]}, value, None]}
    other = {"$cond": [{"$or": [{"$isNumber": value}, {"$eq": [{"$type": value}, "bool"]}]}, value, None]}
    return {
        "$cond": [{"$lte": [{"$strLenBytes": {"$ifNull": [text, ""]}}, MAX_TEXT]}, {"$ifNull": [text, other]}, None]
    }


def parameter(path: str) -> Any:
    """The expression of the value at a path. A number in the path is a list index or a name, as in filters."""
    return value_at(ROOT, paths.split(path)[1:])
