"""The timeline: a row for each model, with its runs or with the verdicts of periods."""

import datetime
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from drifts.models import DriftQuerySet
from drifts.outliers import full_scale
from drifts.verdict import Verdict, drift_rate, percent
from pages.plots.plot import (
    BOTTOM,
    CHARACTER,
    LABELS,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Mark,
    legend,
    linked,
    shortened,
    x_axis,
)
from pages.plots.runs import READ, UNSUPPORTED, Run
from pages.plots.scales import DAY, DAYS, SECONDS, TimeScale, moment
from pages.plots.svg import Picture, element

MAX_RUNS = 5_000
MAX_MODELS = 30
# The most runs of a model that fit side by side. If one has more, periods are drawn.
MAX_MARKS = 75
MAX_PERIODS = 48
STEPS = (*SECONDS, *DAYS, *(28 * DAY * 2**n for n in range(12)))
ROW, CELL = 30, 24
MAX_NAME = 28


@dataclass(frozen=True)
class Verdicts:
    """Runs, and their number by verdict."""

    runs: Sequence[Run]

    @cached_property
    def counts(self) -> Counter[Verdict]:
        return Counter(run.verdict for run in self.runs)

    @property
    def drift(self) -> int:
        return self.counts[Verdict.DRIFT]

    @property
    def no_drift(self) -> int:
        return self.counts[Verdict.NO_DRIFT]

    @property
    def unknown(self) -> int:
        return self.counts[Verdict.UNKNOWN]

    @property
    def unsupported(self) -> int:
        return sum(run.is_unsupported for run in self.runs)

    @property
    def drift_rate(self) -> float | None:
        return drift_rate(self.drift, self.no_drift)

    @property
    def rate_text(self) -> str:
        return percent(self.drift_rate)

    @property
    def first(self) -> datetime.datetime:
        return min(run.observed_at for run in self.runs)

    @property
    def last(self) -> datetime.datetime:
        return max(run.observed_at for run in self.runs)


@dataclass(frozen=True)
class Period(Verdicts):
    """The runs of a model between two times. There is at least one."""

    model: str
    start: datetime.datetime
    end: datetime.datetime
    address: str

    @property
    def explanation(self) -> str:
        verdicts = ", ".join(f"{self.counts[verdict]:,} {label.lower()}" for verdict, label in LABELS.items())
        if self.unsupported:
            verdicts += f"\n{UNSUPPORTED}: {self.unsupported:,}"
        period = f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"
        return f"{self.model}, {period}\nDrift rate: {self.rate_text}\n{verdicts}"


@dataclass(frozen=True)
class Row(Verdicts):
    """The runs of a model, in periods of equal length: newest first, without empty ones."""

    model: str
    periods: Sequence[Period]


def newest_of(runs: DriftQuerySet) -> tuple[list[Run], bool]:
    """The newest `MAX_RUNS` runs by `observed_at`, and whether these are all."""
    documents = runs.newest(MAX_RUNS + 1, {"$project": READ})
    return [Run.of(document) for document in documents[:MAX_RUNS]], len(documents) <= MAX_RUNS


class Timeline:
    """The timeline of at least one run, newest first."""

    def __init__(
        self, runs: Sequence[Run], address_of: Callable[[UUID], str], address_of_all: Callable[[str, Verdicts], str]
    ) -> None:
        """Take functions for the addresses of one run, and of a model's runs in one period."""
        self.address_of, self.address_of_all = address_of, address_of_all
        first, last = runs[-1].observed_at.timestamp(), runs[0].observed_at.timestamp()
        self.step = next(step for step in STEPS if (last - first) / step <= MAX_PERIODS - 2)
        active = Counter(run.model for run in runs).most_common()
        self.rows = [self._row(model, runs) for model, _ in active[:MAX_MODELS]]
        self.left_out = active[MAX_MODELS:]
        self.shown = [run for row in self.rows for run in row.runs]
        numbers = [len(period.runs) for row in self.rows for period in row.periods]
        self.full = full_scale(numbers)
        self.is_cut_off = max(numbers) > self.full
        self.has_marks = all(len(row.runs) <= MAX_MARKS for row in self.rows)
        ends = [first, last] if self.has_marks else [self._start(first), self._start(last) + self.step]
        self.scale = TimeScale(ends)
        longest = max(len(shortened(row.model, MAX_NAME)) for row in self.rows)
        self.left = 24 + CHARACTER * longest

    def _start(self, seconds: float) -> float:
        return math.floor(seconds / self.step) * self.step

    def _row(self, model: str, runs: Sequence[Run]) -> Row:
        own = [run for run in runs if run.model == model]
        periods: dict[float, list[Run]] = {}
        for run in own:
            periods.setdefault(self._start(run.observed_at.timestamp()), []).append(run)
        return Row(own, model, [self._period(model, start, period_runs) for start, period_runs in periods.items()])

    def _period(self, model: str, start: float, period_runs: Sequence[Run]) -> Period:
        address = self.address_of_all(model, Verdicts(period_runs))
        return Period(period_runs, model, moment(start), moment(start + self.step), address)

    @property
    def read(self) -> int:
        """The number of runs that were read."""
        return len(self.shown) + self.left_out_runs

    @property
    def left_out_runs(self) -> int:
        """The number of runs of the models beyond `MAX_MODELS`."""
        return sum(number for _, number in self.left_out)

    @property
    def picture(self) -> Picture:
        counts = Counter(run.verdict for run in self.shown)
        verdicts = ", ".join(f"{counts[verdict]:,} {label.lower()}" for verdict, label in LABELS.items())
        title = f"Verdicts of {len(self.rows)} models over time" if len(self.rows) > 1 else "Verdicts over time"
        first, last = (f"{end(run.observed_at for run in self.shown):%Y-%m-%d %H:%M}" for end in (min, max))
        runs = "1 run" if len(self.shown) == 1 else f"{len(self.shown):,} runs"
        description = f"{runs} from {first} to {last} UTC: {verdicts}."
        bottom = TOP + ROW * len(self.rows)
        axes = x_axis(Axis("Time (UTC)", self.scale), self.left, bottom)
        rows = (self._row_drawing(row, TOP + ROW * number) for number, row in enumerate(self.rows))
        drawing = element("g", axes, legend(counts, self.left), *rows)
        return Picture(WIDTH, bottom + BOTTOM, title, description, drawing)

    def _row_drawing(self, row: Row, top: float) -> SafeString:
        name = shortened(row.model, MAX_NAME)
        label = element(
            "text", name, element("title", row.model), x=self.left - 12, y=top + ROW / 2 + 4.5, text_anchor="end"
        )
        line = element("line", class_="grid", x1=self.left, x2=WIDTH - RIGHT, y1=top + ROW, y2=top + ROW)
        return element("g", line, label, *(self._marks(row, top) if self.has_marks else self._cells(row, top)))

    def _across(self, time: datetime.datetime) -> float:
        return self.left + self.scale.place(time.timestamp()) * (WIDTH - RIGHT - self.left)

    def _marks(self, row: Row, top: float) -> Iterator[SafeString]:
        for run in row.runs:
            explanation = f"{run.model}, {run.observed_at:%Y-%m-%d %H:%M:%S} UTC: {run.verdict_text}{run.tested_text}"
            mark = Mark(0, 0, run.verdict, explanation, self.address_of(run.id))
            yield linked(mark, self._across(run.observed_at), top + ROW / 2, 5.5)

    def _cells(self, row: Row, top: float) -> Iterator[SafeString]:
        """The periods of a row, filled with the shares of their verdicts. Up to `full`, more runs are less pale."""
        for period in row.periods:
            left, right = self._across(period.start), self._across(period.end)
            bottom, shares = top + (ROW + CELL) / 2, []
            for verdict in LABELS:
                height = CELL * period.counts[verdict] / len(period.runs)
                bottom -= height
                if height:
                    place = {"x": left + 1, "y": bottom, "width": right - left - 2, "height": height}
                    shares.append(element("rect", class_=verdict.value, **place))
            strength = 0.45 + 0.55 * math.sqrt(min(len(period.runs) / self.full, 1))
            yield element(
                "a",
                element("title", period.explanation),
                *shares,
                href=period.address,
                tabindex=-1,
                opacity=strength,
            )
