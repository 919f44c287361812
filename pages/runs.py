"""The page of an experiment: a table of its runs."""

import uuid
from dataclasses import dataclass

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.conditional import tagged
from core.api.errors import sentences
from core.api.exceptions import InvalidQuery
from core.api.search import bounded_time
from core.identity import Level
from core.mongodb.documents import Document, instances_of
from core.mongodb.match import Mql
from core.totals import Total, total_of
from drifts.display import (
    SORT_LABELS,
    TABLE_CHOICES,
    TABLE_LEFT,
    TABLE_RIGHT,
    DisplayField,
    DisplayValue,
    display_values,
)
from drifts.models import Drift
from drifts.verdict import JobStatus
from experiments.models import Experiment
from pages.cursor_pages import CursorPages
from pages.page import ExperimentPage
from pages.parameters import MISSING, Shown, cells_of, value_of
from pages.runs_view import DIRECTIONS, MAX_SELECTED, PAGE_SIZES, RunsView, ids_of
from pages.suggestions import Suggestions

MAX_FOLLOWED = 100


@dataclass(frozen=True)
class Row:
    """A run in the table: its values in the chosen columns, and its fields left and right of them."""

    run: Drift
    left: list[DisplayValue]
    chosen: list[DisplayValue | Shown]
    right: list[DisplayValue]
    is_selected: bool

    @property
    def cells(self) -> list[DisplayValue | Shown]:
        """The values of the row, from left to right."""
        return [*self.left, *self.chosen, *self.right]


@dataclass(frozen=True)
class Heading:
    """The heading of a column, with its path as `title`. `sort` is as in `RunsView.headings`, if there is one."""

    label: str
    sort: dict[str, str] | None = None
    is_of_numbers: bool = False
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A page of runs. `next` and `previous` are the views of the adjacent pages, or None."""

    rows: list[Row]
    total: Total
    headings: list[Heading]
    next: RunsView | None = None
    previous: RunsView | None = None

    @property
    def running(self) -> int:
        """The number of rows whose run is Running."""
        return sum(row.run.job_status == JobStatus.RUNNING for row in self.rows)


class RunsPage(ExperimentPage):
    """An experiment, with the runs that match the filter in the address."""

    resource = "runs-page"
    required_levels = {"retrieve": Level.READ, "running": Level.READ}

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponse:
        """Show the table, its filter and the experiment."""
        experiment = self.get_experiment()
        view = RunsView.of(request._request.GET)
        errors, is_page_gone = list(view.errors), False
        table = Table([], Total(0), [])
        with bounded_time():
            runs_of_all = total_of(Drift.objects.of(experiment))
            suggestions = Suggestions.of(experiment)
        try:
            if view.is_valid:
                table = table_of(experiment, view)
        except ValidationError as error:
            refused = dict(sentences(error.detail))
            is_page_gone = "cursor" in refused
            errors += refused.values()
        return self.show_of(
            experiment,
            "experiment.html",
            422 if errors or view.filter.errors else 200,
            view=view,
            filter=view.filter,
            kept=view.kept,
            errors=errors,
            is_page_gone=is_page_gone,
            table=table,
            selected_elsewhere=[pk for pk in view.selected if pk not in {row.run.pk for row in table.rows}],
            runs_of_all=runs_of_all,
            suggestions=suggestions,
            sorts=SORT_LABELS,
            directions=DIRECTIONS,
            page_sizes=PAGE_SIZES,
            max_selected=MAX_SELECTED,
        )

    @tagged
    def running(self, request: Request, experiment_id: str) -> HttpResponse:
        """Render the runs named by `id` as rows of the table, to follow running ones."""
        experiment = self.get_experiment()
        ids, unknown = ids_of(request.query_params.getlist("id"))
        if unknown or len(ids) > MAX_FOLLOWED:
            raise InvalidQuery({"id": unknown or [f"Name at most {MAX_FOLLOWED} runs."]})
        view = RunsView.of(request._request.GET)
        documents, _ = documents_by_id(experiment, ids, *cells_of(view.paths))
        rows = rows_of(documents, view)
        return self.show_of(experiment, "fragments/run_rows.html", rows=rows)


def documents_by_id(experiment: Experiment, ids: tuple[uuid.UUID, ...], *shape: Mql) -> tuple[list[Document], bool]:
    """The experiment's runs with these ids, in the order given, changed by stages. Unknown ids are left out.

    Return also whether some were left out because all have more than `MAX_PAGE_BYTES`.
    """
    runs = Drift.objects.of(experiment).matching({"_id": {"$in": [pk.hex for pk in ids]}})
    found, is_cut = runs.bounded(*shape)
    place = {pk.hex: number for number, pk in enumerate(ids)}
    return sorted(found, key=lambda document: place[document["_id"]]), is_cut


def rows_of(documents: list[Document], view: RunsView) -> list[Row]:
    """The rows of the table for runs that were read with `cells_of` its paths."""
    return [
        Row(
            run,
            display_values(run, TABLE_LEFT),
            chosen_values(run, document, view),
            display_values(run, TABLE_RIGHT),
            run.pk in view.selected,
        )
        for run, document in zip(instances_of(Drift, documents), documents, strict=True)
    ]


def chosen_values(run: Drift, document: Document, view: RunsView) -> list[DisplayValue | Shown]:
    """The values in the chosen columns. Numbers and texts look the same in fields and parameters."""
    parameters = iter(document["cells"])
    return [
        field_value(run, TABLE_CHOICES[column]) if column in TABLE_CHOICES else Shown(value_of(next(parameters)))
        for column in view.columns
    ]


def field_value(run: Drift, field: DisplayField) -> DisplayValue | Shown:
    value = getattr(run, field.name)
    is_plain = field.kind in ("number", "text")
    return Shown(MISSING if value is None else value) if is_plain else DisplayValue(field, value)


def headings_of(rows: list[Row], view: RunsView) -> list[Heading]:
    """The headings of all columns, from left to right."""
    sorts = view.headings
    chosen = [
        heading_of(TABLE_CHOICES[column], sorts)
        if column in TABLE_CHOICES
        else Heading(column.partition(".")[2], is_of_numbers=any(is_number(row, place) for row in rows), title=column)
        for place, column in enumerate(view.columns)
    ]
    left, right = ([heading_of(field, sorts) for field in fields] for fields in (TABLE_LEFT, TABLE_RIGHT))
    return [*left, *chosen, *right]


def heading_of(field: DisplayField, sorts: dict[str, dict[str, str]]) -> Heading:
    return Heading(field.heading, sorts.get(field.sort), is_of_numbers=field.kind == "number")


def is_number(row: Row, place: int) -> bool:
    cell = row.chosen[place]
    return isinstance(cell, Shown) and cell.is_number


def table_of(experiment: Experiment, view: RunsView) -> Table:
    """The page of runs for a view. Raises `ValidationError` for a cursor of another search, and on a timeout."""
    matching = Drift.objects.of(experiment).matching(view.filter.match)
    name = [str(experiment.pk), view.filter.pairs]
    pages = CursorPages(matching, view.order, name, cells_of(view.paths))
    with view.filter.bounded_time():
        page = pages.page(view.size, view.after, view.before)
    rows = rows_of(page.documents, view)
    return Table(
        rows,
        page.total,
        headings_of(rows, view),
        next=view.but(after=page.after) if page.after else None,
        previous=view.but(before=page.before) if page.before else None,
    )
