"""Changelists of the admin portal, with a bounded cost however much is stored."""

from typing import Any

from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR, ChangeList, ChangeListSearchForm
from django.core.paginator import Paginator
from django.db.models import QuerySet, prefetch_related_objects
from django.db.models.expressions import Combinable
from django.forms import CharField
from django.http import HttpRequest
from django.utils.functional import cached_property

from core.mongodb.match import NOTHING, Match
from core.mongodb.querysets import FilterableQuerySet
from core.totals import Total

# Counting more would be slow, and nobody turns so many pages.
COUNTED_AT_MOST = 10_000
MAX_SEARCH = 200


class BoundedPaginator(Paginator):
    """Counts and paginates the first `COUNTED_AT_MOST` objects only."""

    @cached_property
    def count(self) -> int:
        return self.total.number

    @cached_property
    def total(self) -> Total:
        queryset, limit = self.object_list, COUNTED_AT_MOST + 1
        assert isinstance(queryset, QuerySet)
        is_joined = len(queryset.query.alias_map) > 1
        if isinstance(queryset, FilterableQuerySet) and not is_joined:
            return Total.up_to(COUNTED_AT_MOST, queryset.count_up_to(limit))
        return Total.up_to(COUNTED_AT_MOST, queryset.order_by()[:limit].count())


class SearchForm(ChangeListSearchForm):
    """The search of a list. Django matches each word by itself, so that the cost grows with the text."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        too_long = f"The search is too long. Write at most {MAX_SEARCH} characters."
        self.fields[SEARCH_VAR] = CharField(
            required=False, strip=False, max_length=MAX_SEARCH, error_messages={"max_length": too_long}
        )


class BoundedChangeList(ChangeList):
    """Sorts by one column, breaks ties as the indexes do, and avoids joins.

    `list_prefetch_related` names relations to read for the shown page only. MongoDB would run a join before the
    sort, for all stored documents. `list_deferred` names large fields, which the list does not show.
    """

    search_form_class = SearchForm

    @property
    def scope(self) -> str:
        """The words beside the number of objects found, from a filter that searches some of them only; else empty."""
        return "".join(getattr(spec, "scope", "") for spec in self.filter_specs)

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Find nothing for a refused search, so that an action on all found objects takes none."""
        found = super().get_queryset(request, exclude_parameters)
        return found if SearchForm(request.GET).is_valid() else found.filter(Match(NOTHING))

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list.defer(*self.model_admin.list_deferred))  # type: ignore[attr-defined]
        prefetch_related_objects(self.result_list, *self.model_admin.list_prefetch_related)  # type: ignore[attr-defined]

    def get_ordering_field(self, field_name: Any) -> Any:
        """Ignore columns that are not sortable: the URL may name them, but they have no index."""
        return super().get_ordering_field(field_name) if field_name in (self.sortable_by or ()) else None

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        ordering = super().get_ordering(request, queryset)
        if not self.params.get(ORDER_VAR):
            return ordering
        first, ties = str(ordering[0]), [str(name).lstrip("-") for name in self.model_admin.get_ordering(request)]
        sign = "-" if first.startswith("-") else ""
        return [f"{sign}{name}" for name in dict.fromkeys([first.lstrip("-"), *ties])]
