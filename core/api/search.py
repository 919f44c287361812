"""`POST …/search` of every resource."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import pymongo
from django.conf import settings
from django.db import DatabaseError
from pymongo.errors import DocumentTooLarge, ExecutionTimeout, NetworkTimeout, OperationFailure, PyMongoError
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core import filters
from core.api.exceptions import InvalidQuery, SearchTooSlow
from core.api.pagination import INVALID_CURSOR, Page, Pages, Search, search_digest
from core.api.resource import Resource
from core.api.responses import JSONResponse, json_of
from core.api.search_slots import search_slot
from core.api.serializers import IntegerParameter, StrictChoice, shared_instance
from core.client import current_request
from core.filters.fields import Field
from core.identity import identity_behind
from core.mongodb.documents import instances_of, is_primary_responding, require_primary
from core.mongodb.errors import TOO_LARGE, database_cause
from core.mongodb.order import Order
from core.mongodb.querysets import FilterableQuerySet

MAX_PAGE = 10_000_000
# The longest cursor holds a name of 255 characters, of 4 bytes each.
MAX_CURSOR = 2_000
# MongoDB's error codes for a stage over its memory limit, and for a document over its size limit.
TOO_MUCH_MEMORY = (146, TOO_LARGE)
ADVICE = (
    "add a model, a status or a time range to the filter, request an earlier page, or anchor regular expressions with ^"
)


class SearchParameters(serializers.Serializer[dict[str, Any]]):
    """The query parameters of a search; `sortable_by` adds `sort_by`."""

    page = IntegerParameter(min_value=1, max_value=MAX_PAGE, default=1, help_text="Counted from 1.")
    cursor = serializers.RegexField(
        r"^[A-Za-z0-9_.-]+$",
        default=None,
        max_length=MAX_CURSOR,
        error_messages={"invalid": INVALID_CURSOR, "max_length": INVALID_CURSOR},
        help_text="`next_cursor` of a page: returns the page after it, at any depth. Replaces `page`.",
    )
    page_size = IntegerParameter(min_value=1, max_value=100, default=10)
    order_by = StrictChoice(
        ["asc", "desc"], default="desc", help_text="Ties are broken by time, then by id, in the same direction."
    )

    @classmethod
    def sortable_by(cls, names: tuple[str, ...]) -> type["SearchParameters"]:
        """Return a subclass that sorts by these fields, by the first unless the request names one."""
        sort_by = StrictChoice(names, default=names[0])
        return type(cls.__name__, (cls,), {"sort_by": sort_by})

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if data.get("cursor") == "":
            raise serializers.ValidationError({"cursor": [INVALID_CURSOR]})
        fields = super().to_internal_value(data)
        if fields["cursor"] is not None and fields["page"] != 1:
            # Generated clients send the default page beside a cursor.
            raise serializers.ValidationError({"cursor": ["Send either cursor or page, not both."]})
        return fields


class SearchMixin(Resource):
    """Adds the action `search` (filter, sort, paginate) to a resource."""

    search_parameters: ClassVar[type[SearchParameters]]
    # The example filter in the OpenAPI document.
    filter_example: ClassVar[Mapping[str, Any]]

    def get_queryset(self) -> FilterableQuerySet[Any]:
        """Return all objects that the caller may read."""
        raise NotImplementedError

    def filter_fields(self) -> Mapping[str, Field]:
        """Return the fields that filters may name."""
        raise NotImplementedError

    def order_by(self, name: str, is_descending: bool) -> Order:
        """Return the order by a name that `sort_by` may have."""
        return Order.by(name, is_descending=is_descending)

    def empty_body(self) -> Any:
        """Return the filter of a search of everything, for which the first clients send no body."""
        return {} if self.action == "search" else super().empty_body()

    def search(self, request: Request, **path: str) -> JSONResponse:
        """Search. The response is one page of the objects that the caller may read.

        The filter takes MongoDB's operators `$eq $ne $gt $gte $lt $lte $in $nin $and $or $nor $not
        $exists $type $all $elemMatch $size $mod $regex $options`, the names of the resource's
        fields (`_id` is `id`) and paths below free-form ones (`parameters.`, `config.`). In a path, `\\.` is a
        dot inside a name, `\\$` a dollar at the start of one, and a number the index of a list. RFC 3339 strings
        are compared with times as times. A regular expression matches nothing in a string of more than 1,000
        characters. A search may take a few seconds; a slower one is refused.
        """
        queryset = self.get_queryset()
        parameters = self.parameters()
        same = {name: parameters[name] for name in ("page_size", "sort_by", "order_by")}
        order = self.order_by(same["sort_by"], same["order_by"] == "desc")
        matching = queryset.matching(self.condition())
        search = Search(matching, order, search_digest([self.resource, path, self.body, order.sort]))
        with bounded_time():
            page = self.read(search, parameters)
        show = self.get_serializer().to_representation
        return self.page_response(page, map(show, instances_of(queryset.model, page.documents)), same)

    def read(self, search: Pages, parameters: Mapping[str, Any]) -> Page:
        """Read the page of a search that the query parameters name."""
        size, cursor = parameters["page_size"], parameters["cursor"]
        return search.page(parameters["page"], size) if cursor is None else search.page_after(cursor, size)

    def page_response(
        self, page: Page, shown: Iterable[Any], same: Mapping[str, Any], pagination: Mapping[str, Any] | None = None
    ) -> JSONResponse:
        """Return the response of a page. `same` holds the query parameters of all pages, `pagination` further facts."""
        links = page.links(self.request.build_absolute_uri(self.request.path), same)
        header = json_of({**page.pagination, **(pagination or {})}).decode()
        return JSONResponse(list(shown), headers={"X-Pagination": header, "Link": links})

    def parameters(self) -> Mapping[str, Any]:
        try:
            return shared_instance(self.search_parameters).run_validation(self.request.query_params)
        except ValidationError as error:
            raise InvalidQuery(error.detail) from error

    def condition(self) -> dict[str, Any]:
        return match_of(self.body, self.filter_fields())


def match_of(document: Any, fields: Mapping[str, Field], name: str = "") -> dict[str, Any]:
    """Translate a filter to a match document. Raises `ValidationError`, whose detail is below `name` if given."""
    try:
        return filters.translate(document, fields)
    except filters.FilterError as error:
        problems: Any = {error.path: [error.problem]} if error.path else [error.problem]
        raise ValidationError({name: problems} if name else problems) from error


def search_time_limit() -> float:
    """Return the seconds that a search of the current request may take; less for an anonymous caller."""
    request = current_request.get()
    if request and identity_behind(request).is_anonymous:
        return min(settings.SEARCH_TIME_LIMIT, settings.SEARCH_TIME_LIMIT_ANONYMOUS)
    return settings.SEARCH_TIME_LIMIT


@contextmanager
def bounded_time(advice: str = ADVICE, seconds: float | None = None) -> Iterator[None]:
    """Limit the time of the queries inside, and raise `ValidationError` for a query that fails or takes longer.

    `advice` tells the caller how to narrow the search. The limit is that of the caller, or `seconds` if less.
    The queries hold a slot. Raises `TooManySearches` if there is none.
    """
    limit = search_time_limit() if seconds is None else min(seconds, search_time_limit())
    # The wait for a primary is shorter than a search may be, and needs no slot.
    require_primary()
    try:
        with search_slot(), pymongo.timeout(limit):
            yield
    except DocumentTooLarge as error:
        raise ValidationError(f"The search is too large for MongoDB. Narrow it: {advice}.") from error
    except (DatabaseError, PyMongoError) as error:
        cause = database_cause(error)
        # The driver may time out just before the server. If the primary does not respond, the filter is not the cause.
        if isinstance(cause, ExecutionTimeout) or (isinstance(cause, NetworkTimeout) and is_primary_responding()):
            raise SearchTooSlow(f"The search took longer than {limit:g} s. Narrow it: {advice}.") from error
        if isinstance(cause, OperationFailure) and cause.code in TOO_MUCH_MEMORY:
            raise ValidationError(f"The search needs more memory than MongoDB allows. Narrow it: {advice}.") from error
        if isinstance(cause, OperationFailure) and not cause.has_error_label("TransientTransactionError"):
            explanation = (cause.details or {}).get("errmsg", "it gives no reason")
            raise ValidationError(f"MongoDB cannot evaluate this filter: {explanation}.") from error
        raise
