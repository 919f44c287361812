"""The OpenAPI document: what drf-spectacular cannot read off the views by itself."""

import threading
from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from core.api.permissions import requirement_for
from core.filters.language import LOGICAL
from core.identity import Requirement


class ProblemSerializer(serializers.Serializer[dict[str, Any]]):
    """Why a request was refused, and what to do."""

    code = serializers.IntegerField(help_text="The HTTP status.")
    status = serializers.CharField(help_text="Its phrase.")
    message = serializers.CharField(help_text="What is wrong and what to do.")
    errors: Any = serializers.DictField(
        required=False, help_text="On a 422: the sentences by field, under `json` (the body) or `query`."
    )


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of a trusted OpenID provider, or one made by `POST /token` or `manage.py token`.",
        }


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.sessions.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "The session of a browser that logged in at `/login`. A method other than GET needs "
            f"the value of the cookie `{settings.CSRF_COOKIE_NAME}` in the header `X-CSRFToken`.",
        }


STATUS = {"create": 201, "bulk": 201, "register": 201, "destroy": 204}
MEDIA_TYPES = {"export": "application/x-ndjson"}
WITH_BODY = {
    *("create", "bulk", "update", "partial_update", "search", "stats"),
    *("lookup", "preview", "handover", "refresh"),
}
# What has query parameters of its own, and refuses them when they are not valid.
WITH_QUERY = {("access", "retrieve")}
CONFLICTING = {"create", "update", "partial_update", "register", "handover"}
REFUSALS = {
    400: "The body is not JSON, or a header is malformed.",
    401: "No token where one is needed, or a token that is not valid.",
    403: "Not registered, no entitlement, or a level too low.",
    404: "There is no such thing, or no more.",
    409: "It exists already, or was changed meanwhile.",
    412: "It is not what `If-Match` or `If-None-Match` asks for: it was changed since it was read.",
    413: "The body is too large.",
    415: "The body is sent as something other than JSON.",
    422: "A field, a filter or a query parameter is not valid: see `errors`.",
    429: "Too many requests; try again after `Retry-After` seconds.",
    503: "The database, or the issuer of the token, is away; try again after `Retry-After` seconds.",
}
PATH_PARAMETERS = {
    "experiment_id": "The id of an experiment.",
    "drift_id": "The id of one of its drift runs.",
    "token_id": "The id of one of the caller's service tokens.",
}
PAGINATION = OpenApiParameter(
    "X-Pagination",
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description="JSON: `total`, `total_is_exact`, `total_pages`, `first_page`, `last_page`, `page`, and where "
    "they exist `previous_page`, `next_page` and `next_cursor`. A total that is not exact is a lower bound. A page "
    "that a cursor led to has no number.",
)
LINK = OpenApiParameter(
    "Link",
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description="RFC 8288: the addresses of the `first`, `next`, `prev` and `last` page, as far as they are known. "
    "Send them the same filter.",
)
RETRY_AFTER = OpenApiParameter(
    "Retry-After", int, OpenApiParameter.HEADER, response=[429, 503], description="Seconds to wait."
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="Go on only if this is its `ETag` (or one of these, or `*` for any), as it was answered: else a 412.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="Go on only if none of these (or `*` for any) is its `ETag`: else a 304 to GET, a 412 to the others.",
)
ETAG = OpenApiParameter(
    "ETag",
    str,
    OpenApiParameter.HEADER,
    response=[200, 201, 304],
    description="What `If-Match` and `If-None-Match` take: it changes whenever the body of the answer does.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255},
    OpenApiParameter.HEADER,
    description="Any printable ASCII, such as a UUID. For 24 hours the same request with the same key is answered "
    "as the first one was, and creates nothing more; one with another body is a 422.",
)
IDEMPOTENT_REPLAYED = OpenApiParameter(
    "Idempotent-Replayed",
    str,
    OpenApiParameter.HEADER,
    response=[201],
    description="`true` where this is the answer of an earlier request with the same `Idempotency-Key`.",
)
FILTER = {
    "type": "object",
    "description": f"A MongoDB-style filter: names of fields, and {', '.join(LOGICAL)}. `{{}}` finds all.",
}
LINES = {"type": "string", "description": "The objects of the array, one on each line."}
FILTER_EXAMPLES = {
    "experiment": {"tags": "production", "created_at": {"$gte": "2026-01-01"}},
    "drift": {"verdict": "drift", "parameters.p_value": {"$lt": 0.01}},
    "visible_drift": {"verdict": "drift", "created_at": {"$gte": "2026-01-01"}},
    "user": {"email": {"$regex": "@example\\.org$"}},
    "audit": {"actor.email": "ada@example.org", "created_at": {"$gte": "2026-01-01"}},
    "experiment_audit": {"action": "permissions_changed"},
}
STATISTICS_EXAMPLE = {
    "filter": {"created_at": {"$gte": "2026-01-01"}},
    "group_by": "model",
    "interval": "week",
    "time_zone": "Europe/Berlin",
    "measures": "parameters.p_value",
}


class DocumentGenerator(SchemaGenerator):
    """Builds the document once for a process: it is the same for everybody, and drf-spectacular is not thread-safe."""

    lock = threading.Lock()
    document: ClassVar[dict[str, Any] | None] = None

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        with self.lock:
            if DocumentGenerator.document is None:
                DocumentGenerator.document = super().get_schema(request, public)  # type: ignore[no-untyped-call]
            return DocumentGenerator.document


class ResourceSchema(AutoSchema):
    """Reads what a `Resource` declares: its actions, levels and search parameters."""

    view: Any

    @property
    def action(self) -> str:
        return str(self.view.action)

    @property
    def resource(self) -> str:
        return str(self.view.resource)

    def has(self, mark: str) -> bool:
        """Whether the action carries what a decorator marks it with."""
        return hasattr(getattr(self.view, self.action), mark)

    @property
    def heeds_conditions(self) -> bool:
        return self.has("is_conditional") or (self.has("is_tagged") and self.method == "GET")

    def get_operation_id(self) -> str:
        alias = "_alias" if self.path.endswith("/entitlements") else ""
        return f"{self.resource}_{self.action}{alias}"

    def get_summary(self) -> str:
        """The first sentence of what there is to say."""
        return f"{self.get_description().partition('.')[0]}."

    def get_tags(self) -> list[str]:
        return [self.resource]

    def get_auth(self) -> list[dict[str, Any]]:
        required = self.view.required_levels[self.action]
        requirement = required if isinstance(required, Requirement) else requirement_for(required)
        bearer = super().get_auth()
        return [*bearer, {}] if requirement is Requirement.ANYONE else bearer

    def get_override_parameters(self) -> list[Any]:
        path = [
            RETRY_AFTER,
            *([IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED] if self.has("is_idempotent") else []),
            *([ETAG] if self.has("is_tagged") else []),
            *([IF_MATCH, IF_NONE_MATCH] if self.heeds_conditions else []),
            *(
                OpenApiParameter(name, OpenApiTypes.UUID, OpenApiParameter.PATH, description=description)
                for name, description in PATH_PARAMETERS.items()
                if f"{{{name}}}" in self.path
            ),
        ]
        if self.action == "search":
            return [*path, self.view.search_parameters, PAGINATION, LINK]
        return [*path, self.view.query_parameters] if self.view.query_parameters else path

    def get_request_serializer(self) -> Any:
        if self.action == "search":
            return {"application/json": FILTER}
        if self.action == "bulk":
            array, *others = self.map_parsers()
            return {array: self.view.get_serializer(many=True)} | dict.fromkeys(others, LINES)
        return self.get_serializer() if self.action in WITH_BODY else None

    def _get_request_body(self, direction: str = "request") -> Any:
        body = super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        return body and {**body, "required": True}

    def _is_list_view(self, serializer: Any = None) -> bool:
        return self.action in ("search", "list", "stats")

    def get_serializer(self) -> Any:
        return self.view.get_serializer()

    def get_examples(self) -> list[OpenApiExample]:
        if self.action == "stats":
            return [OpenApiExample("By model and week", STATISTICS_EXAMPLE, request_only=True)]
        if self.action != "search":
            return []
        return [OpenApiExample("Filter", FILTER_EXAMPLES[self.resource], request_only=True)]

    def get_response_serializers(self) -> Any:
        status = STATUS.get(self.action, 200)
        other = self.view.response_serializers.get(self.action)
        found = None if status == 204 else other() if other else self.get_serializer()
        refusals = {code: OpenApiResponse(ProblemSerializer, description=REFUSALS[code]) for code in self.refusals()}
        responses: dict[Any, Any] = {(status, MEDIA_TYPES.get(self.action, "application/json")): found}
        if self.heeds_conditions and self.method == "GET":
            responses[304] = OpenApiResponse(description="It is what `If-None-Match` names: it did not change.")
        return responses | refusals

    def refusals(self) -> list[int]:
        """The statuses with which this operation may refuse a request."""
        return [
            *([400, 413, 415, 422] if self.action in WITH_BODY or self.has("is_idempotent") else []),
            *([400, 412] if self.heeds_conditions else []),
            *([422] if self.view.query_parameters or (self.resource, self.action) in WITH_QUERY else []),
            *(401, 403, 429, 503),
            *([404] if "{" in self.path or self.action == "lookup" else []),
            *([409] if self.action in CONFLICTING and self.resource != "drift" else []),
        ]


def without_alias(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Document the endpoints once, under their version: `/api/latest` serves the same."""
    return [endpoint for endpoint in endpoints if not endpoint[0].startswith("/api/latest/")]
