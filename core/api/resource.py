"""The base class of the API's views."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import cached_property
from rest_framework.exceptions import APIException, ParseError, UnsupportedMediaType
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer
from rest_framework.throttling import BaseThrottle
from rest_framework.viewsets import GenericViewSet

from core.api.responses import JSONResponse
from core.api.throttling import LoginLimit, RequestLimit, charge_time
from core.identity import Identity, identity_of


class Resource(GenericViewSet[Any]):
    """A resource of the API, named `resource`.

    `required_levels` maps each action to a `Requirement`, or to the `Level` that it needs on the experiment.
    An action without one is refused. `login_throttled_actions` names the actions that have the rate limits of
    logins. `query_parameters` is the serializer that validates the query parameters, if there are any.
    """

    request: Request
    # Paths have no suffix that chooses a format.
    format_kwarg: str | None = None
    resource: ClassVar[str]
    # The group in the OpenAPI document, if it is not named after the resource.
    tag: ClassVar[str] = ""
    required_levels: ClassVar[dict[str, Any]] = {}
    login_throttled_actions: ClassVar[frozenset[str]] = frozenset()
    query_parameters: ClassVar[type[BaseSerializer[Any]] | None] = None
    # Descriptions of the parameters in the path, for the OpenAPI document.
    path_parameters: ClassVar[Mapping[str, str]] = {}
    # A suffix for operation ids in the OpenAPI document, needed if two paths lead to one action.
    operation_suffix: str = ""
    # The fields that show the progress of work. They do not change the ETag.
    progress_fields: ClassVar[frozenset[str]] = frozenset()
    # The size limit of bodies is `MAX_BULK_BYTES`.
    is_bulk: ClassVar[bool] = False
    # Bodies of POST are forms with a file, which the action reads itself (files/uploads.py).
    is_upload: ClassVar[bool] = False
    conflict: ClassVar[str] = "It conflicts with an existing object. Read that, and change the request."
    throttle_classes = [RequestLimit]
    http_method_names = ["get", "post", "put", "patch", "delete", "head"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Respond, and empty the view.

        In Django REST framework, a view and its request refer to each other. A large body would stay in memory until
        a garbage collection.
        """
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            vars(self).clear()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate the caller, count the request, and check permissions: a request without them counts too.

        Django REST framework counts last, and negotiates a content type first: responses here are always JSON.
        A request that cannot be authenticated counts for its address.
        """
        try:
            self.perform_authentication(request)
        except APIException:
            self.check_limits_and_method(request)
            raise
        self.check_limits_and_method(request)
        self.check_permissions(request)

    def check_limits_and_method(self, request: Request) -> None:
        """Count the request. Raises `TooManyRequests`, or `MethodNotAllowed` if the path lacks the method."""
        self.check_throttles(request)
        if str(request.method).lower() not in self.action_map:
            self.http_method_not_allowed(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Charge the caller for the time of the request, unless the service was unavailable."""
        if response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            charge_time(request)
        return super().finalize_response(request, response, *args, **kwargs)

    def get_throttles(self) -> list[BaseThrottle]:
        is_login = self.action in self.login_throttled_actions
        return [*([LoginLimit()] if is_login else []), *super().get_throttles()]

    @property
    def identity(self) -> Identity:
        return identity_of(self.request)

    @cached_property
    def body(self) -> Any:
        """The parsed body. A request without a body is refused, unless its action has an `empty_body`."""
        request = self.request
        parsers = self.get_parsers()
        parser = self.get_content_negotiator().select_parser(request, parsers)
        empty = self.empty_body() if request.stream is None else None
        if empty is not None and (parser or not request.content_type):
            return empty
        if parser is None:
            media_types = ", ".join(str(parser.media_type) for parser in parsers)
            one_of = "one of " if len(parsers) > 1 else ""
            raise UnsupportedMediaType(request.content_type, f"Send JSON, with Content-Type: {one_of}{media_types}.")
        if request.stream is None:
            raise ParseError("The body is empty. Send JSON.")
        return parser.parse(request.stream)

    def empty_body(self) -> Any:
        """Return the meaning of a request without a body; None refuses it."""

    def check_access(self) -> None:
        """Check access to the object in the path, for actions that do not load it themselves."""

    def check_created(self, created: Any) -> None:
        """Check access to the object in the response to an earlier request, before that is repeated.

        Raises the error of a caller who has lost the access that creating it gave, or whose object is deleted.
        """

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Omit the library's `Allow` header: only a 405 carries it."""
        return {}

    def has_progress(self, content: Mapping[str, Any]) -> bool:
        """Return whether the content of a response shows progress that may go on without another ETag."""
        return any(content.get(name) for name in self.progress_fields)

    def save(self, serializer: BaseSerializer[Any], status: int = 200) -> JSONResponse:
        """Validate and save, and return a response with the saved object."""
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return JSONResponse(serializer.data, status)
