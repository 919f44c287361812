"""Changelists of the admin portal whose cost has a bound, however much is stored."""

from typing import Any

from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet, prefetch_related_objects
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.utils.functional import cached_property

from core.mongodb.querysets import FilterableQuerySet

# More are not counted, and nobody turns so many pages.
COUNTED_AT_MOST = 10_000


class BoundedPaginator(Paginator):
    """Counts up to `COUNTED_AT_MOST`; those are the pages that there are."""

    @cached_property
    def count(self) -> int:
        return min(self._counted, COUNTED_AT_MOST)

    @property
    def total(self) -> str:
        """The count in words."""
        return f"{self.count:,}+" if self._counted > COUNTED_AT_MOST else f"{self.count:,}"

    @cached_property
    def _counted(self) -> int:
        queryset, limit = self.object_list, COUNTED_AT_MOST + 1
        assert isinstance(queryset, QuerySet)
        is_joined = len(queryset.query.alias_map) > 1
        if isinstance(queryset, FilterableQuerySet) and not is_joined:
            return queryset.count_up_to(limit)
        return queryset.order_by()[:limit].count()


class BoundedChangeList(ChangeList):
    """Sorts by one column, with ties as the indexes have them, and joins nothing.

    What `list_prefetch_related` names is read for the page alone: a join comes before the sort, so that MongoDB
    would make it for everything that is stored.
    """

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        prefetch_related_objects(self.result_list, *self.model_admin.list_prefetch_related)  # type: ignore[attr-defined]

    def get_ordering_field(self, field_name: Any) -> Any:
        """What an address names sorts too, and only what its heading offers has an index."""
        return super().get_ordering_field(field_name) if field_name in (self.sortable_by or ()) else None

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        ordering = super().get_ordering(request, queryset)
        if not self.params.get(ORDER_VAR):
            return ordering
        first, ties = str(ordering[0]), [str(name).lstrip("-") for name in self.model_admin.get_ordering(request)]
        sign = "-" if first.startswith("-") else ""
        return [f"{sign}{name}" for name in dict.fromkeys([first.lstrip("-"), *ties])]
