"""The state of the table of runs, which the address of its page holds."""

import uuid
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlencode

from django.http import QueryDict

from core.api.json_input import text_problem
from core.filters import paths
from core.mongodb.order import Order
from drifts.display import SORT_LABELS, TABLE_CHOICES
from drifts.observed import order_by
from drifts.parameters import ROOT
from pages.run_filter import RunFilter, words_of

MAX_SELECTED = 20
MAX_COLUMNS = 10
PAGE_SIZES = ("25", "50", "100")
DIRECTIONS = {"desc": "Descending", "asc": "Ascending"}
COLUMN_NAMES = {field.label.lower(): name for name, field in TABLE_CHOICES.items()}
DEFAULTS = {"sort_by": "observed_at", "order_by": "desc", "page_size": PAGE_SIZES[0]}


@dataclass(frozen=True)
class RunsView:
    """A filter, a sort, a page, chosen columns and selected runs.

    `after` and `before` are cursors: the page begins after the end, or ends before the start, of another page. A column
    is the name of a field, or the path of a parameter. An address may have the label of the field, in any case.
    """

    filter: RunFilter
    sort_by: str
    order_by: str
    page_size: str
    after: str
    before: str
    columns: tuple[str, ...]
    refused_column: str
    selected: tuple[uuid.UUID, ...]
    errors: tuple[str, ...]

    @classmethod
    def of(cls, query: QueryDict) -> Self:
        """The view of an address. Problems are listed in `errors`; none raises."""
        typed = {name: query.get(name) or default for name, default in DEFAULTS.items()}
        columns = tuple(dict.fromkeys(column_of(text) for text in query.getlist("column") if text.strip()))
        selected, unknown = ids_of(query.getlist("selected"))
        errors = parameter_problems(typed)
        if errors:
            typed = DEFAULTS
        errors += [*column_problems(columns), *(f"Selection: {problem}" for problem in unknown)]
        if len(selected) > MAX_SELECTED:
            errors.append(f"At most {MAX_SELECTED} runs can be selected. Only the first {MAX_SELECTED} are.")
        return cls(
            RunFilter.of(query),
            **typed,
            after=query.get("cursor", ""),
            before=query.get("before", ""),
            columns=tuple(path for path in columns if not path_problem(path))[:MAX_COLUMNS],
            refused_column=next(filter(path_problem, columns), ""),
            selected=selected[:MAX_SELECTED],
            errors=tuple(errors),
        )

    @property
    def is_valid(self) -> bool:
        return not self.errors and not self.filter.errors

    @property
    def order(self) -> Order:
        return order_by(self.sort_by, self.order_by == "desc")

    @property
    def is_newest_first(self) -> bool:
        return all(getattr(self, name) == DEFAULTS[name] for name in ("sort_by", "order_by"))

    @property
    def paths(self) -> list[str]:
        """The columns that are parameters."""
        return [column for column in self.columns if column not in TABLE_CHOICES]

    @property
    def column_labels(self) -> dict[str, str]:
        """Each column with its label in the form."""
        return {column: label_of(column) for column in self.columns}

    @property
    def size(self) -> int:
        return int(self.page_size)

    @property
    def selection(self) -> list[tuple[str, str]]:
        return [("selected", str(pk)) for pk in self.selected]

    @property
    def kept(self) -> str:
        """The query of another page with the same filter and selection."""
        return urlencode([*self.filter.pairs, *self.selection])

    @property
    def query(self) -> str:
        return urlencode(self.pairs)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The query parameters that lead to this view."""
        own = {name: getattr(self, name) for name in DEFAULTS}
        return [
            *self.filter.pairs,
            *((name, value) for name, value in own.items() if value != DEFAULTS[name]),
            *(("column", path) for path in (*self.columns, self.refused_column) if path),
            *((name, value) for name, value in (("cursor", self.after), ("before", self.before)) if value),
            *self.selection,
        ]

    @property
    def filter_parts(self) -> list[dict[str, str]]:
        """The parts of the filter: each in `words`, with the `query` of the view without it."""
        whole = self.first.pairs
        parts = enumerate(self.filter.pairs)
        return [{"words": words_of(*part), "query": urlencode(whole[:at] + whole[at + 1 :])} for at, part in parts]

    def but(self, **changes: Any) -> "RunsView":
        """The view with these changes, at its first page unless they name another."""
        return replace(self, **{"after": "", "before": "", **changes})

    @property
    def unfiltered(self) -> "RunsView":
        return self.but(filter=RunFilter.of(QueryDict()))

    @property
    def unselected(self) -> "RunsView":
        return replace(self, selected=())

    def without(self, pk: uuid.UUID) -> "RunsView":
        """The view without this run in its selection."""
        return replace(self, selected=tuple(other for other in self.selected if other != pk))

    @property
    def first(self) -> "RunsView":
        return self.but()

    @property
    def headings(self) -> dict[str, dict[str, str]]:
        """The `query` that sorts by each name, and the `direction` if the view is sorted by it."""
        return {name: self._heading(name) for name in SORT_LABELS}

    def _heading(self, name: str) -> dict[str, str]:
        if name != self.sort_by:
            return {"query": self.but(sort_by=name, order_by="desc").query, "direction": ""}
        reverse = self.but(order_by="asc" if self.order_by == "desc" else "desc")
        return {"query": reverse.query, "direction": "descending" if self.order_by == "desc" else "ascending"}


def parameter_problems(typed: dict[str, str]) -> list[str]:
    """The problems of the sort and the page size."""
    choices = {
        "sort_by": ("Sort by", SORT_LABELS),
        "order_by": ("Order", DIRECTIONS),
        "page_size": ("Runs per page", {size: size for size in PAGE_SIZES}),
    }
    return [
        f"{label}: choose one of {', '.join(labels.values())}."
        for name, (label, labels) in choices.items()
        if typed[name] not in labels
    ]


def column_problems(columns: tuple[str, ...]) -> list[str]:
    problems = [
        f"Columns: {path[:50]!r} is not a parameter. {problem}" for path in columns if (problem := path_problem(path))
    ]
    if len(columns) > MAX_COLUMNS:
        problems.append(f"Columns: At most {MAX_COLUMNS} can be added.")
    return problems


def column_of(text: str) -> str:
    """The column that an address names by its name, its label or its path."""
    return COLUMN_NAMES.get(text.strip().lower(), text)


def label_of(column: str) -> str:
    """The label of a field, or the path of a parameter."""
    return TABLE_CHOICES[column].label if column in TABLE_CHOICES else column


def path_problem(path: str) -> str | None:
    """The reason why the path names neither a parameter nor a field of the table, or None."""
    if path in TABLE_CHOICES:
        return None
    if not path.startswith(f"{ROOT}."):
        return "Write one such as parameters.p_value."
    try:
        paths.split(path)
    except ValueError as error:
        return str(error)
    return text_problem(path)


def ids_of(texts: list[str]) -> tuple[tuple[uuid.UUID, ...], list[str]]:
    """The distinct ids among the texts, and a sentence about each text that is no id."""
    found: dict[uuid.UUID, None] = {}
    problems = []
    for text in texts:
        try:
            found[uuid.UUID(text)] = None
        except ValueError:
            problems.append(f"{text[:50]!r} is not the id of a run. Clear the selection, and select the runs again.")
    return tuple(found), problems
