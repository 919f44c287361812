"""The page of an experiment: a table of its runs."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.conditional import tagged
from core.api.errors import sentences
from core.api.exceptions import InvalidQuery
from core.api.pagination import Search, encode_cursor, search_digest
from core.api.search import bounded_time
from core.identity import Level
from core.mongodb.documents import Document, instances_of
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.totals import Total, total_of
from drifts.display import TABLE_LEFT, TABLE_RIGHT, DisplayField, DisplayValue, display_values
from drifts.models import Drift
from drifts.verdict import JobStatus
from experiments.models import Experiment
from pages.page import ExperimentPage
from pages.parameters import Shown, cells_of, value_of
from pages.runs_view import DIRECTIONS, MAX_SELECTED, PAGE_SIZES, SORTS, RunsView, ids_of
from pages.suggestions import Suggestions

MAX_FOLLOWED = 100


@dataclass(frozen=True)
class Row:
    """A run in the table: its parameters in the chosen columns, and its fields left and right of them."""

    run: Drift
    left: list[DisplayValue]
    parameters: list[Shown]
    right: list[DisplayValue]
    is_selected: bool

    @property
    def cells(self) -> list[DisplayValue | Shown]:
        """The values of the row, from left to right."""
        return [*self.left, *self.parameters, *self.right]


@dataclass(frozen=True)
class Column:
    """A column of the table, for the parameter at a path."""

    path: str
    is_of_numbers: bool

    @property
    def name(self) -> str:
        return self.path.partition(".")[2]


@dataclass(frozen=True)
class Table:
    """A page of runs. `next` and `previous` are the views of the adjacent pages, or None."""

    rows: list[Row]
    total: Total
    columns: list[Column]
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
            left=headings_of(TABLE_LEFT, view),
            right=headings_of(TABLE_RIGHT, view),
            sorts=SORTS,
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
        documents, _ = documents_by_id(experiment, ids, *cells_of(view.columns))
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
    """The rows of the table for runs that were read with `cells_of` its columns."""
    return [
        Row(
            run,
            display_values(run, TABLE_LEFT),
            [Shown(value_of(cell)) for cell in document["cells"]],
            display_values(run, TABLE_RIGHT),
            run.pk in view.selected,
        )
        for run, document in zip(instances_of(Drift, documents), documents, strict=True)
    ]


def headings_of(fields: Sequence[DisplayField], view: RunsView) -> list[tuple[str, dict[str, str] | None]]:
    """The words of each heading and, if the table can be sorted by it, its sort as in `RunsView.headings`."""
    sorts = view.headings
    return [(field.heading, sorts.get(field.sort)) for field in fields]


def columns_of(rows: list[Row], view: RunsView) -> list[Column]:
    return [
        Column(path, is_of_numbers=any(row.parameters[place].is_number for row in rows))
        for place, path in enumerate(view.columns)
    ]


def table_of(experiment: Experiment, view: RunsView) -> Table:
    """The page of runs for a view. Raises `ValidationError` for a cursor of another search, and on a timeout.

    A previous page is found like a next page, in the opposite order.
    """
    shape = cells_of(view.columns)
    order, reverse = view.order, Order(view.order.keys, not view.order.is_descending)
    matching = Drift.objects.of(experiment).matching(view.filter.match)
    name = [str(experiment.pk), view.filter.pairs]
    forwards, backwards = search_digest([*name, order.sort]), search_digest([*name, reverse.sort])
    with view.filter.bounded_time():
        if view.before:
            page = Search(matching, reverse, backwards, shape).page_after(view.before, view.size)
            documents = page.documents[::-1]
            has_next, has_previous = True, page.next_cursor is not None
        else:
            search = Search(matching, order, forwards, shape)
            page = search.page_after(view.after, view.size) if view.after else search.page(1, view.size)
            documents = page.documents
            has_next, has_previous = page.next_cursor is not None, bool(view.after)
    rows = rows_of(documents, view)
    columns = columns_of(rows, view)
    if not documents:
        return Table(rows, page.total, columns)
    after = encode_cursor(order.position(documents[-1]), forwards)
    before = encode_cursor(reverse.position(documents[0]), backwards)
    return Table(
        rows,
        page.total,
        columns,
        next=view.but(after=after) if has_next else None,
        previous=view.but(before=before) if has_previous else None,
    )
