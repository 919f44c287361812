"""The page that compares selected runs of an experiment."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from core.csv_export import csv_file
from core.identity import Level
from core.mongodb.documents import instances_of
from drifts.display import COMPARISON, DisplayField
from drifts.models import Drift
from drifts.parameters import leaves
from pages.page import ExperimentPage
from pages.parameters import MISSING, Shown, is_number, kind_of
from pages.runs import documents_by_id
from pages.runs_view import RunsView

# The most lines of the page. The download has all.
MAX_LINES = 500


@dataclass(frozen=True)
class Value(Shown):
    """A value of one run, with the value of the first run to compare it with."""

    first: Any

    @property
    def is_same(self) -> bool:
        return is_same(self.value, self.first)

    @property
    def difference(self) -> str:
        """The absolute and the relative difference to the first number; empty for equal or other values."""
        if not is_number(self.value) or not is_number(self.first) or self.is_same:
            return ""
        difference = self.value - self.first
        return ", ".join(filter(None, (f"{difference:+.4g}", change(self.value, self.first))))


@dataclass(frozen=True)
class Line:
    """The values of the runs for one field or parameter."""

    name: str
    values: list[Value]

    @property
    def differs(self) -> bool:
        return not all(value.is_same for value in self.values)


class ComparisonPage(ExperimentPage):
    """The selected runs as columns, with the lines that differ or with all lines."""

    resource = "comparison-page"
    required_levels = {"retrieve": Level.READ}

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponse:
        experiment = self.get_experiment()
        query = request.query_params
        view = RunsView.of(request._request.GET)
        runs = list(instances_of(Drift, documents_by_id(experiment, view.selected)))
        shows_all = query.get("all") == "1"
        lines = [line for line in lines_of(runs) if shows_all or line.differs]
        if query.get("format") == "csv":
            return as_csv(runs, lines)
        return self.show_of(
            experiment,
            "comparison.html",
            view=view,
            kept=view.kept,
            columns=[(run, view.without(run.pk).query) for run in runs],
            missing=len(view.selected) - len(runs),
            lines=lines[:MAX_LINES],
            more=max(0, len(lines) - MAX_LINES),
            shows_all=shows_all,
        )


def lines_of(runs: list[Drift]) -> list[Line]:
    """A line for each field of the runs, then for the path of each parameter of any run."""
    parameters = [{".".join(names): value for names, value in leaves(run.parameters)} for run in runs]
    paths = dict.fromkeys(path for values in parameters for path in values)
    return [
        *(line(field.heading, [display_value(run, field) for run in runs]) for field in COMPARISON),
        *(line(path, [values.get(path, MISSING) for values in parameters]) for path in paths),
    ]


def display_value(run: Drift, field: DisplayField) -> Any:
    value = getattr(run, field.name)
    if value is None:
        return MISSING
    match field.kind:
        case "time":
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case "verdict":
            return value.label
        case "tags":
            return ", ".join(value)
    return value


def line(name: str, values: list[Any]) -> Line:
    return Line(name, [Value(value, values[0]) for value in values])


def change(value: float, first: float) -> str:
    """Return a change relative to `first`: in per cent, or as a multiple where it is tenfold or more."""
    if not first:
        return ""
    if first > 0 and value >= 10 * first:
        return f"{value / first:,.0f} times"
    return f"{100 * (value - first) / abs(first):+.1f} %"


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of one kind, because Python takes True and 1 for equal."""
    return one is other or (kind_of(one) == kind_of(other) and one == other)


def as_csv(runs: list[Drift], lines: Iterable[Line]) -> HttpResponse:
    """A CSV file with a row for each line and a column for each run. Numbers stay numbers; other values are text."""
    rows = [[each.name, *(value.value if value.is_number else value.text for value in each.values)] for each in lines]
    return csv_file("comparison.csv", [["name", *(str(run.pk) for run in runs)], *rows])
