"""The OpenAPI document: drf-spectacular reads the views, and this module adds the parts that all of them share.

Facts about one view stand at the view: `responds` at its actions, and the attributes of `Resource` and `SearchMixin`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import build_examples_list, is_patched_serializer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from core.api.permissions import requirement_for
from core.api.serializers import StrictSerializer
from core.filters.language import LOGICAL
from core.identity import Requirement

Action = TypeVar("Action", bound=Callable[..., Any])
# The media type of a file.
ANY_TYPE = "*/*"


@dataclass(frozen=True)
class Responses:
    """The responses of one action: its success, and the refusals that not every action has."""

    status: int = 200
    refusals: tuple[int, ...] = ()
    serializer: type[serializers.BaseSerializer[Any]] | None = None
    many: bool = False
    media_type: str = "application/json"
    text_media_type: str | None = None

    @property
    def is_file(self) -> bool:
        """True for a file of any type, or a range of it."""
        return self.media_type == ANY_TYPE


def responds(
    status: int,
    *refusals: int,
    serializer: type[serializers.BaseSerializer[Any]] | None = None,
    many: bool = False,
    media_type: str = "application/json",
    text_media_type: str | None = None,
) -> Callable[[Action], Action]:
    """Declare the status of an action's success, and the statuses of its own refusals.

    `serializer` is that of the success, if it differs from the view's; `many` is for a list of objects;
    `media_type` is that of the success (`ANY_TYPE` for a file, or a range of it), `text_media_type` that of a text in
    its place. An action without the decorator responds with 200 and one object.
    """

    def declare(action: Action) -> Action:
        action.responses = Responses(status, refusals, serializer, many, media_type, text_media_type)  # type: ignore[attr-defined]
        return action

    return declare


class ProblemSerializer(serializers.Serializer[dict[str, Any]]):
    """The reason why a request was refused, and what to do about it."""

    code = serializers.IntegerField(help_text="The HTTP status.")
    status = serializers.CharField(help_text="The reason phrase of the status.")
    message = serializers.CharField(help_text="The mistake, and what to do about it.")
    errors: Any = serializers.DictField(
        required=False, help_text="On a 422: the messages by field, under `json` (the body) or `query`."
    )
    request_id = serializers.CharField(
        help_text="The `X-Request-ID` of the request. The log of the service has the details under it."
    )


REFUSALS = {
    400: "The body is not JSON, or a header is malformed.",
    401: "The token is missing or not valid.",
    403: "The caller is not registered, lacks an entitlement, or has too low a level.",
    404: "The object does not exist, or was deleted.",
    409: "The object exists already, or another request changed it.",
    412: "The object was changed: its `ETag` is not what `If-Match` or `If-None-Match` asks for.",
    413: "The body is too large.",
    415: "The `Content-Type` is not one of the request's, or the body has a `Content-Encoding`.",
    416: "The range begins after the end of the file.",
    422: "A field, a filter or a query parameter is not valid: see `errors`.",
    429: "Too many requests; try again after `Retry-After` seconds.",
    503: "The database or the token's issuer is unavailable; try again after `Retry-After` seconds.",
}
PAGINATION = OpenApiParameter(
    "X-Pagination",
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description="JSON: `total`, `total_is_exact`, `total_pages`, `first_page`, `last_page`, `page`, and, if they "
    "exist, `previous_page`, `next_page` and `next_cursor`. A total that is not exact is a lower bound. A page "
    "requested by its cursor has no number. `truncated` is true if the page ended early because its objects are "
    "large: continue by `next_cursor`, because the page of the next number begins after the objects left out.",
)
LINK = OpenApiParameter(
    "Link",
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description="RFC 8288: the URLs of the `first`, `next`, `prev` and `last` page, if known. "
    "Send the same filter to them.",
)
RETRY_AFTER = OpenApiParameter(
    "Retry-After", int, OpenApiParameter.HEADER, response=[429, 503], description="Seconds to wait."
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="ETags of the object, or `*` for any. If none of them is its present `ETag`, the response is 412.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="ETags of the object, or `*` for any. If one of them is its present `ETag`, the response is 304 "
    "to GET and 412 to other methods.",
)
ETAG = OpenApiParameter(
    "ETag",
    str,
    OpenApiParameter.HEADER,
    response=[200, 201, 304],
    description="The version of the object, for `If-Match` and `If-None-Match`. It changes with the response's body.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255},
    OpenApiParameter.HEADER,
    description="Printable ASCII, such as a UUID. For 24 hours, a repeated request with the same key gets the first "
    "response and creates nothing; one with another body is refused with 422.",
)
IDEMPOTENT_REPLAYED = OpenApiParameter(
    "Idempotent-Replayed",
    str,
    OpenApiParameter.HEADER,
    response=[201],
    description="`true` if this is the response to an earlier request with the same `Idempotency-Key`.",
)
RANGES = [
    OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="One range, such as `bytes=0-99`."),
    OpenApiParameter(
        "If-Range",
        str,
        OpenApiParameter.HEADER,
        description="The `ETag` of the parts that you have. If the file has another one, all of it is the response.",
    ),
    OpenApiParameter(
        "Content-Range",
        str,
        OpenApiParameter.HEADER,
        response=[206, 416],
        description="The range in the response, and the number of bytes of the file.",
    ),
    OpenApiParameter(
        "Content-Disposition",
        str,
        OpenApiParameter.HEADER,
        response=[200, 206],
        description="`attachment`, with the name of the file.",
    ),
]
FILTER = {
    "type": "object",
    "description": f"A MongoDB-style filter: names of fields, and {', '.join(LOGICAL)}. `{{}}` matches everything.",
}


class ResourceSchema(AutoSchema):
    """Reads the actions, levels, responses and parameters that a `Resource` declares."""

    view: Any

    @property
    def action(self) -> str:
        return str(self.view.action)

    @property
    def responses(self) -> Responses:
        return getattr(getattr(self.view, self.action), "responses", Responses())

    def has(self, mark: str) -> bool:
        """Tell whether a decorator has put this mark on the action."""
        return hasattr(getattr(self.view, self.action), mark)

    @property
    def is_conditional(self) -> bool:
        """Tell whether the action takes `If-Match` and `If-None-Match`."""
        return self.has("is_conditional") or (self.has("is_tagged") and self.method == "GET") or self.responses.is_file

    def _get_serializer_field_meta(self, field: Any, direction: str) -> dict[str, Any]:
        """Leave out titles: they are the labels of the models, which are for people in the admin portal.

        Let a request have null in the fields that it clears.
        """
        meta: dict[str, Any] = super()._get_serializer_field_meta(field, direction)  # type: ignore[no-untyped-call]
        if direction == "request" and field.field_name in getattr(field.parent, "cleared_by_null", {}):
            meta["nullable"] = True
        return {name: value for name, value in meta.items() if name != "title"}

    @property
    def is_search(self) -> bool:
        return self.action == "search"

    def get_operation_id(self) -> str:
        return f"{self.view.resource}_{self.action}{self.view.operation_suffix}"

    def get_summary(self) -> str:
        """The first sentence of the description."""
        return f"{self.get_description().partition('.')[0]}."

    def get_description(self) -> str:  # type: ignore[override]
        """The docstring of the action. That of a search names the searched objects."""
        description: str = super().get_description()
        if not description.startswith("Search."):
            return description
        plural = self.view.get_serializer_class().Meta.model._meta.verbose_name_plural
        return description.replace("Search.", f"Search {plural}.", 1)

    def get_tags(self) -> list[str]:
        return [self.view.tag or self.view.resource]

    def get_auth(self) -> list[dict[str, Any]]:
        requirement = requirement_for(self.view.required_levels[self.action])
        schemes = super().get_auth()
        return [*schemes, {}] if requirement is Requirement.ANYONE else schemes

    def get_override_parameters(self) -> list[Any]:
        query = self.view.search_parameters if self.is_search else self.view.query_parameters
        return [
            RETRY_AFTER,
            *([IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED] if self.has("is_idempotent") else []),
            *([ETAG] if self.has("is_tagged") or self.responses.is_file else []),
            *(RANGES if self.responses.is_file else []),
            *([IF_MATCH, IF_NONE_MATCH] if self.is_conditional else []),
            *(
                OpenApiParameter(name, OpenApiTypes.UUID, OpenApiParameter.PATH, description=description)
                for name, description in self.view.path_parameters.items()
                if f"{{{name}}}" in self.path
            ),
            *([query] if query else []),
            *([PAGINATION, LINK] if self.is_search else []),
        ]

    def get_request_serializer(self) -> Any:
        if self.is_search:
            return {"application/json": FILTER}
        return self.get_serializer() if self.method in ("POST", "PUT", "PATCH") else None

    def _get_request_body(self, direction: str = "request") -> Any:
        body = super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        return body and {**body, "required": not self.is_search}

    def _map_basic_serializer(self, serializer: Any, direction: str) -> dict[str, Any]:
        """Require the fields of a response, which shows them all. Leave out the defaults of a partial request.

        Generated clients send each default: in a PATCH, it would replace the stored value.
        """
        schema: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        is_response = direction == "response"
        if is_response and isinstance(serializer, StrictSerializer):
            schema["required"] = sorted(schema["properties"])
        if is_response or is_patched_serializer(serializer, direction):
            for field in schema["properties"].values():
                field.pop("default", None)
        return schema

    def _get_examples(self, serializer: Any, direction: str, media_type: str, *args: Any) -> dict[str, Any]:
        """Return the examples of a request as they are. The library takes them for elements of a list."""
        is_shown = direction == "request" and media_type == "application/json"
        return build_examples_list(self.get_examples()) if is_shown else {}

    def _is_list_view(self, serializer: Any = None) -> bool:
        return self.is_search or self.responses.many

    def get_serializer(self) -> Any:
        return self.view.get_serializer()

    def get_examples(self) -> list[OpenApiExample]:
        return [OpenApiExample("Filter", self.view.filter_example, request_only=True)] if self.is_search else []

    def get_response_serializers(self) -> Any:
        success = self.responses
        if success.is_file:
            return {(200, ANY_TYPE): OpenApiTypes.BINARY, (206, ANY_TYPE): OpenApiTypes.BINARY} | self.other_responses()
        serializer = success.serializer() if success.serializer else self.get_serializer()
        content = None if success.status == 204 else serializer
        bodies: dict[Any, Any] = {(success.status, success.media_type): content}
        if success.text_media_type:
            bodies[success.status, success.text_media_type] = OpenApiTypes.STR
        return bodies | self.other_responses()

    def other_responses(self) -> dict[Any, Any]:
        """The responses without the object: it did not change, or the request is refused."""
        responses: dict[Any, Any] = {}
        if self.is_conditional and self.method == "GET":
            responses[304] = OpenApiResponse(description="The object did not change: `If-None-Match` names its `ETag`.")
        return responses | {
            status: OpenApiResponse(ProblemSerializer, description=REFUSALS[status]) for status in self.refusals()
        }

    def refusals(self) -> list[int]:
        """The statuses with which this operation may refuse a request."""
        takes_body = self.get_request_serializer() is not None or self.has("is_idempotent")
        return [
            *([400, 413, 415, 422] if takes_body else []),
            *([400, 412] if self.is_conditional else []),
            *([422] if self.view.query_parameters else []),
            *(401, 403, 429, 503),
            *([404] if "{" in self.path else []),
            *self.responses.refusals,
        ]


def without_alias(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Document the endpoints once, under their version: `/api/latest` serves the same."""
    return [endpoint for endpoint in endpoints if not endpoint[0].startswith("/api/latest/")]
