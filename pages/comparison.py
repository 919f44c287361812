"""The page that compares selected runs of an experiment."""

import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.filters.paths import join
from core.identity import Level
from core.mongodb.documents import instances_of
from core.tags import written_tags
from drifts.display import COMPARISON, DisplayField, series_in_words
from drifts.models import Drift
from drifts.parameters import WITHOUT_PARAMETERS, leaves
from experiments.models import Experiment
from pages.page import ExperimentPage
from pages.parameters import MISSING, Shown, is_number, kind_of
from pages.runs import documents_by_id
from pages.runs_view import RunsView

# The most lines and characters of the page, of which a value has at most `MAX_TITLE`. The download has all.
MAX_LINES = 500
MAX_TEXT = 200_000
MAX_TITLE = 1_200
# The most values of all lines. More take longer than a second to compare.
MAX_VALUES = 50_000
# The largest multiple that is shown. A greater one says less than the two numbers.
MAX_TIMES = 10_000
TOO_MANY = "The parameters are left out: those of these runs are too large to compare. Remove the largest runs."


@dataclass(frozen=True)
class Value(Shown):
    """A value of one run, with the value of the first run to compare it with."""

    first: Any

    @property
    def is_same(self) -> bool:
        return is_same(self.value, self.first)

    @property
    def difference(self) -> str:
        """The absolute and the relative difference to the first number; empty for equal or other values.

        It is empty too for numbers whose difference is no float, or 0: both numbers are shown.
        """
        if not is_number(self.value) or not is_number(self.first) or self.is_same:
            return ""
        difference = self.value - self.first
        if not difference or not math.isfinite(difference):
            return ""
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
        runs = runs_to_compare(experiment, view.selected)
        parameters = parameters_of(runs)
        shows_all = query.get("all") == "1"
        lines = [line for line in lines_of(runs, parameters or []) if shows_all or line.differs]
        if query.get("format") == "csv":
            if parameters is None:
                raise ValidationError(TOO_MANY)
            return self.export_of(experiment, "comparison.csv", rows_of(runs, lines))
        shown = lines[: number_shown(lines)]
        return self.show_of(
            experiment,
            "comparison.html",
            view=view,
            kept=view.kept,
            columns=[(run, view.without(run.pk).query) for run in runs],
            missing=len(view.selected) - len(runs),
            lines=shown,
            more=len(lines) - len(shown),
            shows_all=shows_all,
            left_out=TOO_MANY if parameters is None else "",
        )


def runs_to_compare(experiment: Experiment, selected: tuple[uuid.UUID, ...]) -> list[Drift]:
    """The selected runs. Their `parameters` are None if they have more than `MAX_PAGE_BYTES` in all."""
    documents, is_cut = documents_by_id(experiment, selected)
    if is_cut:
        documents, _ = documents_by_id(experiment, selected, WITHOUT_PARAMETERS)
    return list(instances_of(Drift, documents))


def parameters_of(runs: list[Drift]) -> list[dict[str, Any]] | None:
    """The parameters of each run by path; None for more than `MAX_VALUES` values in all lines."""
    most = MAX_VALUES // max(1, len(runs))
    found: list[dict[str, Any]] = []
    paths: set[str] = set()
    for run in runs:
        if run.parameters is None:
            return None
        values = islice(leaves(run.parameters), most + 1)
        found.append({join(names): value for names, value in values})
        paths |= found[-1].keys()
        if len(paths) > most:
            return None
    return found


def lines_of(runs: list[Drift], parameters: list[dict[str, Any]]) -> list[Line]:
    """A line for each field of the runs, then for the path of each parameter of any run."""
    paths = dict.fromkeys(path for values in parameters for path in values)
    return [
        *(line(field.heading, [display_value(run, field) for run in runs]) for field in COMPARISON),
        *(line(path, [values.get(path, MISSING) for values in parameters]) for path in paths),
    ]


def number_shown(lines: list[Line]) -> int:
    """The number of lines that the page shows: the first always, and as many as `MAX_LINES` and `MAX_TEXT` allow."""
    room = MAX_TEXT
    for number, each in enumerate(lines[:MAX_LINES]):
        room -= sum(min(len(text), MAX_TITLE) for text in (each.name, *(value.text for value in each.values)))
        if room < 0:
            return max(1, number)
    return min(len(lines), MAX_LINES)


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
            return written_tags(value)
        case "series":
            return series_in_words(value)
    return value


def line(name: str, values: list[Any]) -> Line:
    return Line(name, [Value(value, values[0]) for value in values])


def change(value: float, first: float) -> str:
    """Return a change relative to `first`: in per cent, or as a multiple where it is tenfold or more.

    It is empty where neither helps: relative to 0, beyond `MAX_TIMES`, and tenfold or more with another sign.
    """
    times = value / first if first else math.inf
    if 10 <= times <= MAX_TIMES:
        return f"{times:,.0f} times"
    if not -10 < times < 10:
        return ""
    percent = f"{(value - first) / abs(first) * 100:+.1f} %"
    return "less than 0.1 %" if percent in ("+0.0 %", "-0.0 %") else percent


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of one kind, because Python takes True and 1 for equal."""
    return one is other or (kind_of(one) == kind_of(other) and one == other)


def rows_of(runs: list[Drift], lines: Iterable[Line]) -> list[list[Any]]:
    """A table with a row for each line and a column for each run. Numbers stay numbers; other values are text."""
    rows = [[each.name, *(value.value if value.is_number else value.text for value in each.values)] for each in lines]
    return [["name", *(str(run.pk) for run in runs)], *rows]
