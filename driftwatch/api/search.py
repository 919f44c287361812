"""`POST …/search`, the same for every resource."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import pymongo
from django.conf import settings
from django.db import DatabaseError
from django.db.models import QuerySet
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure, PyMongoError
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from driftwatch import filters
from driftwatch.api.errors import database_cause
from driftwatch.api.exceptions import InvalidQuery
from driftwatch.api.resource import Resource
from driftwatch.filters.fields import Field
from driftwatch.mongodb.base import primary_answers
from driftwatch.mongodb.querysets import FilterableQuerySet

MAX_PAGE = 10_000_000
# MongoDB's codes for more than a stage may hold, and for a document larger than it stores or spills.
TOO_MUCH_MEMORY = (146, 10334)
ADVICE = (
    "name a model, a status or a time range beside what is slow, ask for a smaller page number, "
    "or anchor a regex with ^"
)


class SearchParameters(serializers.Serializer[dict[str, Any]]):
    """The query parameters of a search; a view adds what it sorts by."""

    page = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=1, help_text="Counted from 1.")
    page_size = serializers.IntegerField(min_value=1, max_value=100, default=10)
    order_by = serializers.ChoiceField(["asc", "desc"], default="desc", help_text="Ties are broken by id.")

    @classmethod
    def sortable_by(cls, names: tuple[str, ...]) -> type["SearchParameters"]:
        sort_by = serializers.ChoiceField(names, default="created_at")
        return type(cls.__name__, (cls,), {"sort_by": sort_by})


class SearchMixin(Resource):
    """Adds the action `search` to a resource: filter, sort, and one page."""

    search_parameters: ClassVar[type[SearchParameters]]

    def get_queryset(self) -> FilterableQuerySet[Any]:
        """What the caller may read, sorted and filtered by nothing."""
        raise NotImplementedError

    def filter_fields(self) -> Mapping[str, Field]:
        """What the caller's filter may name."""
        raise NotImplementedError

    def search(self, request: Request, **path: str) -> Response:
        """One page of what a filter finds among what the caller may read.

        The filter takes MongoDB's operators `$eq $ne $gt $gte $lt $lte $in $nin $and $or $nor $not
        $exists $type $all $elemMatch $size $mod $regex $options`, names the resource's own fields
        (`_id` is `id`) and paths below the free ones (`parameters.`, `config.`), and compares
        RFC 3339 strings with times as times. MongoDB gives it a few seconds.
        """
        queryset = self.get_queryset()
        parameters = self.search_parameters(data=request.query_params)
        if not parameters.is_valid():
            raise InvalidQuery(parameters.errors)
        matching = queryset.matching(self.condition())
        with bounded_time():
            page = Page(matching, **parameters.validated_data)
            found = self.get_serializer(page.items, many=True).data
        return Response(found, headers={"X-Pagination": json.dumps(page.pagination)})

    def condition(self) -> dict[str, Any]:
        try:
            return filters.translate(self.body, self.filter_fields())
        except filters.FilterError as error:
            raise ValidationError({error.path: [error.problem]} if error.path else [error.problem]) from error


class Page:
    """One page of a sorted queryset. Ties are broken by id, so that pages neither repeat nor skip."""

    def __init__(self, queryset: QuerySet[Any], page: int, page_size: int, sort_by: str, order_by: str) -> None:
        start = (page - 1) * page_size
        sign = "-" if order_by == "desc" else ""
        ordered = queryset.order_by(f"{sign}{sort_by}", f"{sign}pk")
        self.items = list(ordered[start : start + page_size])
        self.page = page
        self.total = queryset.order_by().count()
        self.total_pages = -(-self.total // page_size)

    @property
    def pagination(self) -> dict[str, int]:
        """The content of the X-Pagination header."""
        last = max(self.total_pages, 1)
        neighbours = {
            "previous_page": min(self.page - 1, last) or None,
            "next_page": self.page + 1 if self.page < last else None,
        }
        return {
            "total": self.total,
            "total_pages": self.total_pages,
            "first_page": 1,
            "last_page": last,
            "page": self.page,
            **{name: number for name, number in neighbours.items() if number},
        }


@contextmanager
def bounded_time(advice: str = ADVICE) -> Iterator[None]:
    """Give MongoDB a time limit for what runs inside; refuse a filter that it exceeds or that fails there.

    `advice` says how to ask for less.
    """
    try:
        with pymongo.timeout(settings.SEARCH_TIME_LIMIT):
            yield
    except (DatabaseError, PyMongoError) as error:
        cause = database_cause(error)
        # The driver's patience may end a moment before the server's; when the server hangs, it is not the filter.
        if isinstance(cause, ExecutionTimeout) or (isinstance(cause, NetworkTimeout) and primary_answers()):
            raise ValidationError(
                f"The search took longer than {settings.SEARCH_TIME_LIMIT:g} s. Narrow it: {advice}."
            ) from error
        if isinstance(cause, OperationFailure) and cause.code in TOO_MUCH_MEMORY:
            raise ValidationError(
                f"The search takes more memory than MongoDB gives it. Narrow it: {advice}."
            ) from error
        if isinstance(cause, OperationFailure) and not cause.has_error_label("TransientTransactionError"):
            explanation = (cause.details or {}).get("errmsg", "it does not say why")
            raise ValidationError(f"MongoDB cannot evaluate this filter: {explanation}.") from error
        raise
