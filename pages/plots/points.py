"""The points of a chart: which runs can be drawn, and why the others cannot."""

import datetime
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bson import Decimal128

from core.mongodb.documents import Document
from core.mongodb.match import Mql
from drifts.display import DISPLAY_FIELDS
from drifts.models import DriftQuerySet
from drifts.statistics import TIME_FIELDS, parameter
from drifts.verdict import MEASURED
from pages.plots.runs import READ, Run, in_utc
from pages.plots.scales import seconds_of

TIME = "observed_at"
COUNT = "count"
# The fields that an axis can show, besides parameters.
FIELDS = {field.name: field for field in DISPLAY_FIELDS if field.name in (*TIME_FIELDS, *MEASURED)}
MAX_POINTS = 2_000
# The names of MongoDB's types, explained to people.
TYPES = {
    "missing": "has no value",
    "null": "is null",
    "string": "is a text",
    "bool": "is true or false",
    "object": "is an object",
    "array": "is a list",
}


class NotDrawn(Exception):
    """Raised for a value that has no place on an axis. The message gives the reason."""


@dataclass(frozen=True)
class Point(Run):
    """A run with its numbers on two axes. Times are in seconds since 1970. `y` is 0 if runs are only counted."""

    x: float
    y: float


@dataclass(frozen=True)
class Points:
    """The runs that can be drawn, and those that cannot, by reason. `is_all` is False if more runs match."""

    drawn: list[Point]
    left_out: Mapping[str, list[Document]]
    is_all: bool

    @property
    def read(self) -> int:
        """The number of runs that were read."""
        return len(self.drawn) + sum(map(len, self.left_out.values()))


def points_of(runs: DriftQuerySet, x: str, y: str, *, log_x: bool, log_y: bool) -> Points:
    """The points of the newest `MAX_POINTS` runs by `observed_at`.

    An axis is a name of `FIELDS` or a parameter's path; y may be `count`.
    """
    documents = runs.newest(MAX_POINTS + 1, {"$project": {**READ, "x": axis_value(x), "y": axis_value(y)}})
    drawn: list[Point] = []
    left_out: dict[str, list[Document]] = {}
    for document in documents[:MAX_POINTS]:
        try:
            drawn.append(point_of(document, (x, log_x), (y, log_y)))
        except NotDrawn as reason:
            left_out.setdefault(str(reason), []).append(document)
    return Points(drawn, left_out, len(documents) <= MAX_POINTS)


def axis_value(path: str) -> Any:
    """The aggregation expression of the number or time at a path. It gives the type's name for other values."""
    if path in TIME_FIELDS:
        return f"${path}"
    if path == COUNT:
        return f"${TIME}"
    number_or_type: Mql = {"$cond": [{"$isNumber": "$$value"}, "$$value", {"$type": "$$value"}]}
    value = f"${path}" if path in FIELDS else parameter(path)
    return {"$let": {"vars": {"value": value}, "in": number_or_type}}


def point_of(document: Document, x: tuple[str, bool], y: tuple[str, bool]) -> Point:
    return Point.of(document, x=placed(document["x"], *x), y=0.0 if y[0] == COUNT else placed(document["y"], *y))


def placed(value: Any, path: str, is_log: bool) -> float:
    """The number of a value on an axis. Raises `NotDrawn`."""
    name = FIELDS[path].label if path in FIELDS else path
    if isinstance(value, str):
        raise NotDrawn(f"{name} {TYPES.get(value, f'is of type {value}')}")
    number = number_of(value)
    if not math.isfinite(number):
        raise NotDrawn(f"{name} is not a finite number")
    if is_log and number <= 0:
        raise NotDrawn(f"{name} is not above 0, as a log scale needs")
    return number


def number_of(value: Any) -> float:
    """Convert a number or a time to a float, which is infinite if the number is too large."""
    try:
        match value:
            case datetime.datetime():
                return seconds_of(in_utc(value))
            case Decimal128():
                return float(value.to_decimal())
        return float(value)
    except OverflowError:
        return math.inf


def ids_of(documents: Iterable[Document]) -> list[uuid.UUID]:
    return [uuid.UUID(document["_id"]) for document in documents]
