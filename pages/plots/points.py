"""From runs to the points of a chart: which can be drawn, and why the others cannot."""

import datetime
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bson import Decimal128

from core.mongodb.documents import Document
from core.mongodb.match import Mql
from core.mongodb.order import Order
from drifts.models import DriftQuerySet
from drifts.statistics import parameter
from drifts.verdict import Verdict, verdict_of
from pages.plots.scales import UTC, seconds_of

TIME = "created_at"
COUNT = "count"
MAX_POINTS = 2_000
NEWEST_FIRST = Order.by(TIME, is_descending=True).sort
# MongoDB's names of types, for people.
TYPES = {
    "missing": "has no value",
    "null": "is null",
    "string": "is a text",
    "bool": "is true or false",
    "object": "is an object",
    "array": "is a list",
}


class NotDrawn(Exception):
    """Why a value has no place on an axis."""


@dataclass(frozen=True)
class Point:
    """A run, by its numbers on two axes; a time is seconds since 1970. Where only runs are counted, y is 0."""

    id: uuid.UUID
    created_at: datetime.datetime
    model: str
    verdict: Verdict
    x: float
    y: float


@dataclass(frozen=True)
class Points:
    """What can be drawn of some runs, and those that cannot, by reason. `is_all`: no more runs match."""

    drawn: list[Point]
    left_out: Mapping[str, list[Document]]
    is_all: bool

    @property
    def read(self) -> int:
        return len(self.drawn) + sum(map(len, self.left_out.values()))


def points_of(runs: DriftQuerySet, x: str, y: str, *, log_x: bool, log_y: bool) -> Points:
    """The points of the newest runs. An axis is `created_at` or a path of a parameter; y may be `count`."""
    project = {"created_at": 1, "model": 1, "job_status": 1, "drift_detected": 1, "x": value_at(x), "y": value_at(y)}
    documents = runs.aggregated({"$sort": NEWEST_FIRST}, {"$limit": MAX_POINTS + 1}, {"$project": project})
    drawn: list[Point] = []
    left_out: dict[str, list[Document]] = {}
    for document in documents[:MAX_POINTS]:
        try:
            drawn.append(point_of(document, (x, log_x), (y, log_y)))
        except NotDrawn as reason:
            left_out.setdefault(str(reason), []).append(document)
    return Points(drawn, left_out, len(documents) <= MAX_POINTS)


def value_at(path: str) -> Any:
    """The expression of what is at a path: a number or a time, or the name of the type of anything else."""
    if path in (TIME, COUNT):
        return f"${TIME}"
    kept: Mql = {"$cond": [{"$isNumber": "$$value"}, "$$value", {"$type": "$$value"}]}
    return {"$let": {"vars": {"value": parameter(path)}, "in": kept}}


def point_of(document: Document, x: tuple[str, bool], y: tuple[str, bool]) -> Point:
    return Point(
        uuid.UUID(document["_id"]),
        in_utc(document["created_at"]),
        document["model"],
        verdict_of(document["job_status"], document["drift_detected"]),
        placed(document["x"], *x),
        0.0 if y[0] == COUNT else placed(document["y"], *y),
    )


def placed(value: Any, path: str, is_log: bool) -> float:
    """The number that stands for a value on an axis. Raises `NotDrawn`."""
    if isinstance(value, str):
        raise NotDrawn(f"{path} {TYPES.get(value, f'is of type {value}')}")
    number = number_of(value)
    if not math.isfinite(number):
        raise NotDrawn(f"{path} is not a finite number")
    if is_log and number <= 0:
        raise NotDrawn(f"{path} is not above 0, as a log scale needs")
    return number


def number_of(value: Any) -> float:
    """Infinite where a number is beyond the floating-point ones."""
    try:
        match value:
            case datetime.datetime():
                return seconds_of(in_utc(value))
            case Decimal128():
                return float(value.to_decimal())
        return float(value)
    except OverflowError:
        return math.inf


def in_utc(time: datetime.datetime) -> datetime.datetime:
    """A time as MongoDB's driver gives it: it is in UTC, and does not say so."""
    return time.replace(tzinfo=UTC)


def ids_of(documents: Iterable[Document]) -> list[uuid.UUID]:
    return [uuid.UUID(document["_id"]) for document in documents]
