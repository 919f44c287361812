"""The drawing of a chart of runs."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import models
from django.utils.safestring import SafeString

from drifts.statistics import TIME_FIELDS
from drifts.verdict import Verdict
from pages.plots.plot import HEIGHT, LABELS, WIDTH, Axis, Mark, Plot, Segment, legend
from pages.plots.points import COUNT, FIELDS, Point
from pages.plots.regression import Fit, NoFit, fit, in_units
from pages.plots.runs import UNSUPPORTED
from pages.plots.scales import DAY, LinearScale, LogScale, Scale, TimeScale, moment
from pages.plots.svg import Picture, element

MAX_BINS = 30
ADDRESS = Callable[[UUID], str]


class Kind(models.TextChoices):
    SCATTER = "scatter", "Scatter"
    LINE = "line", "Line"
    BAR = "bar", "Bars"


class AxisScale(models.TextChoices):
    LINEAR = "linear", "Linear"
    LOG = "log", "Log"


@dataclass(frozen=True)
class Line:
    """The text about the fitted line: formula, meaning of its letters and R²; or the reason why there is no line."""

    formula: str = ""
    meaning: str = ""
    r_squared: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Bin:
    """The points between two values of x."""

    left: float
    right: float
    points: Sequence[Point]


class Chart:
    """A chart of at least one point."""

    def __init__(self, options: dict[str, Any], points: Sequence[Point], address_of: ADDRESS) -> None:
        self.options, self.points, self.address_of = options, points, address_of
        self.kind = Kind(options["kind"])
        self.log_x, self.log_y = (options[f"{axis}_scale"] == AxisScale.LOG for axis in "xy")
        self.counts = Counter(point.verdict for point in points)
        x_scale = self._scale("x", [point.x for point in points])
        self.bins = list(self._bins(x_scale)) if self.kind is Kind.BAR else []
        self.plot = Plot(Axis(self._title("x"), x_scale), Axis(self._y_title(), self._y_scale()))
        self.fit: Fit | None = None
        self.line: Line | None = None
        if options["fit"]:
            self.fit, self.line = self._fitted()

    def _scale(self, axis: str, values: Sequence[float]) -> Scale:
        if self.options[axis] in TIME_FIELDS:
            return TimeScale(values)
        return (LogScale if self.options[f"{axis}_scale"] == AxisScale.LOG else LinearScale)(values)

    def _title(self, axis: str) -> str:
        path = self.options[axis]
        name = FIELDS[path].heading if path in FIELDS else path.removeprefix("parameters.")
        return f"{name}, log scale" if self.options[f"{axis}_scale"] == AxisScale.LOG else name

    def _y_title(self) -> str:
        if self.options["y"] == COUNT:
            return "Number of runs"
        return f"Mean of {self._title('y')}" if self.kind is Kind.BAR else self._title("y")

    def _y_scale(self) -> Scale:
        if self.options["y"] == COUNT:
            # A shorter axis would have ticks between whole numbers.
            return LinearScale([0, max(5, *(len(each.points) for each in self.bins))])
        if self.kind is not Kind.BAR:
            return self._scale("y", [point.y for point in self.points])
        means = [mean(each.points) for each in self.bins]
        return self._scale("y", means if self.log_y or self.options["y"] in TIME_FIELDS else [0.0, *means])

    def _bins(self, scale: Scale) -> Iterator[Bin]:
        """Bins of equal width, as many as the Rice rule gives, at most `MAX_BINS`. Empty bins are left out."""
        places = [scale.place(point.x) for point in self.points]
        first, last = min(places), max(places)
        number = min(MAX_BINS, math.ceil(2 * len(places) ** (1 / 3))) if first < last else 1
        first, last = (first, last) if first < last else (max(first - 0.02, 0.0), min(first + 0.02, 1.0))
        width = (last - first) / number
        held: dict[int, list[Point]] = {}
        for place, point in zip(places, self.points, strict=True):
            held.setdefault(min(int((place - first) / width), number - 1), []).append(point)
        for index, points in sorted(held.items()):
            yield Bin(scale.value(first + index * width), scale.value(first + (index + 1) * width), points)

    @property
    def picture(self) -> Picture:
        """The drawing, with a title and a description for screen readers."""
        title = f"{self._y_title()} by {self._title('x')}"
        counts = ", ".join(f"{self.counts[verdict]:,} {label.lower()}" for verdict, label in LABELS.items())
        runs = "1 run" if len(self.points) == 1 else f"{len(self.points):,} runs"
        x, y = (f"{axis} from {self._end(axis, min)} to {self._end(axis, max)}" for axis in "xy")
        ends = x if self.options["y"] == COUNT else f"{x}; {y}"
        return Picture(WIDTH, HEIGHT, title, f"{runs}: {counts}; {ends}.", element("g", *self._elements()))

    def _end(self, axis: str, end: Callable[[Sequence[float]], float]) -> str:
        return format_value(end([getattr(point, axis) for point in self.points]), self.options[axis])

    def _elements(self) -> Iterator[SafeString]:
        yield self.plot.axes()
        if self.kind is not Kind.BAR or self.options["y"] == COUNT:
            yield legend(self.counts, self.plot.left)
        if self.kind is Kind.BAR:
            yield self.plot.bars(list(self._segments()))
        else:
            marks = [self._mark(point) for point in self.points]
            if self.kind is Kind.LINE:
                yield self.plot.connecting_line(marks)
            yield self.plot.marks(marks)
        if self.fit and (line := self._fitted_line(self.fit)):
            yield line

    def _mark(self, point: Point) -> Mark:
        x, y = (f"{axis} = {format_value(getattr(point, axis), self.options[axis])}" for axis in "xy")
        explanation = f"{point.model}, {point.observed_at:%Y-%m-%d %H:%M} UTC: {point.verdict_text}\n{x}\n{y}"
        explanation += point.tested_text
        return Mark(point.x, point.y, point.verdict, explanation, self.address_of(point.id))

    def _segments(self) -> Iterator[Segment]:
        for each in self.bins:
            place = (
                f"x from {format_value(each.left, self.options['x'])} to {format_value(each.right, self.options['x'])}"
            )
            if self.options["y"] != COUNT:
                average = mean(each.points)
                base = self.plot.y.scale.value(0) if self.log_y or self.options["y"] in TIME_FIELDS else 0.0
                explanation = (
                    f"{place}\nmean of y = {format_value(average, self.options['y'])}, of {len(each.points):,} runs"
                )
                yield Segment(each.left, each.right, base, average, None, explanation)
                continue
            counts, bottom = Counter(point.verdict for point in each.points), 0
            for verdict, label in LABELS.items():
                top = bottom + counts[verdict]
                if counts[verdict]:
                    explanation = f"{place}\n{label}: {counts[verdict]:,} of {len(each.points):,} runs"
                    if verdict is Verdict.NO_DRIFT and (number := sum(point.is_unsupported for point in each.points)):
                        explanation += f"\n{UNSUPPORTED}: {number:,}"
                    yield Segment(each.left, each.right, bottom, top, verdict, explanation)
                bottom = top

    def _fitted(self) -> tuple[Fit | None, Line]:
        if self.kind is Kind.BAR:
            return None, Line(problem="Bars cannot show a line. Choose Scatter or Line.")
        try:
            found = fit(*(self._values_to_fit(axis) for axis in "xy"), log_x=self.log_x, log_y=self.log_y)
        except NoFit as problem:
            return None, Line(problem=str(problem))
        return found, Line(found.formula(*map(self._letter, "xy")), self._meaning(), found.r_squared)

    def _values_to_fit(self, axis: str) -> list[float]:
        """The values to fit a line to. Times become days since the first."""
        values = [getattr(point, axis) for point in self.points]
        return [(value - min(values)) / DAY for value in values] if self.options[axis] in TIME_FIELDS else values

    def _meaning(self) -> str:
        """The meaning of the letters in the formula, and the logarithms that it was fitted to."""
        parts = [self._meaning_of(axis) for axis in "xy"]
        logarithms = {"x": self.log_x, "y": self.log_y}
        fitted = " and ".join(axis for axis, is_log in logarithms.items() if is_log)
        return "; ".join([*parts, f"fit and R² use the logarithm of {fitted}"] if fitted else parts)

    def _letter(self, axis: str) -> str:
        """The letter of an axis in the formula: `days` for the only axis with times."""
        are_times = [self.options[each] in TIME_FIELDS for each in "xy"]
        return "days" if self.options[axis] in TIME_FIELDS and not all(are_times) else axis

    def _meaning_of(self, axis: str) -> str:
        path, letter = self.options[axis], self._letter(axis)
        if path not in TIME_FIELDS:
            return f"{letter} is {FIELDS[path].label if path in FIELDS else path}"
        since = f"days since {self._end(axis, min)}"
        return since if letter == "days" else f"{letter} is {since}"

    def _fitted_line(self, found: Fit) -> SafeString | None:
        ends = [self._place_of_fit(found, place) for place in (0.0, 1.0)]
        return self.plot.straight_line(*ends) if all(map(math.isfinite, ends)) else None

    def _place_of_fit(self, found: Fit, place: float) -> float:
        """The fit's place on the y axis at a place of the x axis. On these axes the fit is a straight line."""
        x, y = self.plot.x.scale, self.plot.y.scale
        u = x.power(place) * math.log(10) if isinstance(x, LogScale) else self._unit(x.value(place), "x")
        v = found.intercept + found.slope * u
        if isinstance(y, LogScale):
            return y.place_of_power(v / math.log(10))
        return y.place(min(point.y for point in self.points) + v * DAY if self.options["y"] in TIME_FIELDS else v)

    def _unit(self, value: float, axis: str) -> float:
        if self.options[axis] not in TIME_FIELDS:
            return value
        return (value - min(getattr(point, axis) for point in self.points)) / DAY


def mean(points: Sequence[Point]) -> float:
    """The mean of the points' y. It lies between the least and the greatest, even for very large numbers."""
    values = [point.y for point in points]
    parts, unit = in_units(values)
    return min(max(math.fsum(parts) / len(parts) * unit, min(values)), max(values))


def format_value(value: float, path: str) -> str:
    """Format a value of an axis for people."""
    if path in TIME_FIELDS:
        return f"{moment(value).replace(microsecond=0, tzinfo=None)} UTC"
    return f"{value:z.6g}"
