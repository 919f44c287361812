"""Filters of the admin portal's changelists. Each declares the query parameters that it reads."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from django.contrib.admin import ListFilter, SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_date

from core.mongodb.match import NOTHING, Match, Mql


class FormFilter(ListFilter):
    """A filter with a small form, which sets the query parameters `parameters`."""

    template = "admin/form_filter.html"
    parameters: ClassVar[tuple[str, ...]]
    # Labels by parameter, where they differ from the parameter's name.
    labels: ClassVar[Mapping[str, str]] = {}
    # The `type` of the HTML inputs.
    kind = "search"
    help_text = ""
    # Words beside the number of objects found, for a filter that searches some of them only.
    scope = ""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.problem = ""
        self.texts: dict[str, str] = {}
        for name in self.parameters:
            text = params.pop(name, [""])[-1]
            if text.strip():
                self.texts[name] = text

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.parameters)

    def suggestions(self) -> list[str]:
        """Return the values that the inputs suggest."""
        return []

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """Yield the data of the form, with the other query parameters as hidden fields."""
        others = changelist.filter_params.items()
        yield {
            "fields": [
                (name, self.labels.get(name, name.capitalize()), self.texts.get(name, "")) for name in self.parameters
            ],
            "kept": [(name, value) for name, values in others if name not in self.parameters for value in values],
            "without": changelist.get_query_string(remove=list(self.parameters)),
        }


class TextFilter(FormFilter):
    """Filters by the exact text of a column."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        text = self.texts.get(self.parameters[0])
        return queryset.filter(Match(self.condition(text))) if text else queryset

    def condition(self, text: str) -> Mql:
        return {self.parameters[0]: text}


class TagFilter(TextFilter):
    """Filters by one tag."""

    title = "tag"
    parameters = ("tag",)

    def condition(self, text: str) -> Mql:
        return {"tags": text}


class PeriodFilter(FormFilter):
    """Filters by creation time, from one day (UTC) to another, both included."""

    title = "days (UTC)"
    parameters = ("since", "until")
    labels: ClassVar = {"since": "From", "until": "To"}
    kind = "date"
    help_text = "Both days are included."

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        bounds = {"$gte": self.bound("since", datetime.time.min), "$lte": self.bound("until", datetime.time.max)}
        if self.problem:
            return queryset.filter(Match(NOTHING))
        given = {operator: time for operator, time in bounds.items() if time}
        return queryset.filter(Match({"created_at": given})) if given else queryset

    def bound(self, name: str, time: datetime.time) -> datetime.datetime | None:
        """Return that time of the day, or None. An invalid day sets `problem`, which the form shows."""
        text = self.texts.get(name)
        try:
            day = parse_date(text) if text else None
        except ValueError:
            day = None
        if text and not day:
            self.problem = f"{text} is not a date. Write it as 2026-11-25."
        return datetime.datetime.combine(day, time, datetime.UTC) if day else None


def parameters_of(list_filter: Any) -> tuple[str, ...]:
    """Return the query parameters that an entry of `list_filter` reads."""
    if isinstance(list_filter, str):
        return (f"{list_filter}__exact",)
    return (list_filter.parameter_name,) if issubclass(list_filter, SimpleListFilter) else list_filter.parameters
