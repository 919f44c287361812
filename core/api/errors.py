"""Error responses: their common shape, and the mapping from exceptions to them."""

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views import defaults
from rest_framework import views
from rest_framework.exceptions import MethodNotAllowed, NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from core.api.exceptions import (
    RETRY_SECONDS,
    BodyTooLarge,
    Conflict,
    FormExpired,
    InvalidQuery,
    LevelRequired,
    SearchTooSlow,
    ServiceUnavailable,
)
from core.api.responses import JSONResponse
from core.mongodb.errors import is_database_unavailable, is_document_too_large

GONE = "This object no longer exists. It has been deleted."
# The titles of error pages, by status.
TITLES = {
    400: "The address is not valid",
    403: "You do not have access",
    404: "Page not found",
    405: "This page cannot be opened",
    409: "Someone else saved first",
    413: "Too much data",
    422: "The address is not valid",
    429: "Too many requests",
    500: "Something went wrong",
    503: "The service is unavailable",
}


def problem(code: int, message: str, errors: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the body of an error response: `code`, `status`, `message`, and `errors` for a 422."""
    body: dict[str, Any] = {"code": code, "status": HTTPStatus(code).phrase, "message": message}
    return body | ({"errors": errors} if errors else {})


def exception_handler(exc: Exception, context: dict[str, Any]) -> JSONResponse | None:
    """Handle exceptions for Django REST framework. None, for a bug of the service, leads to a 500."""
    if isinstance(exc, ValidationError):
        return invalid(exc)
    if is_database_unavailable(exc):
        exc = ServiceUnavailable()
    elif isinstance(exc, IntegrityError):
        exc = Conflict(context["view"].conflict)
    elif is_document_too_large(exc):
        exc = BodyTooLarge("The object is larger than 16 MB, the limit of MongoDB. Send less.")
    elif isinstance(exc, ObjectDoesNotExist):
        exc = NotFound(GONE)
    response = views.exception_handler(exc, context)
    return None if response is None else error_response(response, exc, context["view"])


def error_response(response: Response, exc: Exception, view: APIView) -> JSONResponse:
    """Convert Django REST framework's error response to the common shape, with the relevant headers."""
    headers = {name: response[name] for name in ("WWW-Authenticate", "Retry-After") if name in response}
    if isinstance(exc, ServiceUnavailable):
        headers["Retry-After"] = RETRY_SECONDS
    message = response.data["detail"]
    if isinstance(exc, MethodNotAllowed):
        headers["Allow"] = allowed = ", ".join(view.allowed_methods)
        message = f"{view.request.method} is not allowed here. Use {' or '.join(allowed.rsplit(', ', 1))}."
    return JSONResponse(problem(response.status_code, message), response.status_code, headers)


def invalid(exc: ValidationError) -> JSONResponse:
    """Return a 422 whose message is the first error, and whose `errors` hold all errors by field."""
    place = "query" if isinstance(exc, InvalidQuery) else "json"
    detail = exc.detail if isinstance(exc.detail, dict) else {"non_field_errors": exc.detail}
    field, sentence = next(sentences(detail))
    subject = field or ("query" if place == "query" else "body")
    return JSONResponse(problem(422, f"{subject}: {sentence}", {place: detail}), 422)


def sentences(detail: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield pairs of a dotted path and a message from the nested detail of a validation error."""
    match detail:
        case dict():
            for key, value in detail.items():
                name = "" if key == "non_field_errors" else str(key)
                yield from sentences(value, ".".join(filter(None, (path, name))))
        case list():
            for index, value in enumerate(detail):
                nested = f"{path}.{index}".lstrip(".") if isinstance(value, dict | list) else path
                yield from sentences(value, nested)
        case _:
            yield path, str(detail)


def service_unavailable(request: HttpRequest) -> HttpResponse:
    """Return a 503 outside the API, for requests that need the database."""
    response = refusal(request, 503, str(ServiceUnavailable.default_detail))
    response["Retry-After"] = RETRY_SECONDS
    return response


def refusal(request: HttpRequest, code: int, message: str) -> HttpResponse:
    """Return an error page for browsers, and JSON for other clients.

    The page shows no user name: reading the session may be what failed.
    """
    body = problem(code, message)
    if wants_page(request):
        return refusal_page(request, body, user=None, messages=())
    return JsonResponse(body, status=code)


def refusal_page(
    request: HttpRequest, body: dict[str, Any], exc: Exception | None = None, **context: Any
) -> HttpResponse:
    """Render the body of an error response as a page, whose title says what happened."""
    title, message = TITLES.get(body["code"], body["status"]), body["message"]
    match exc:
        case LevelRequired():
            title = f"You need {exc.required} access"
        case FormExpired():
            title = "This form has expired"
        case MethodNotAllowed():
            message = "Nothing was changed. Go back, and use the form of the page."
        case ValidationError():
            title = "The search took too long" if isinstance(exc, SearchTooSlow) else title
            message = ": ".join(filter(None, next(sentences(exc.detail))))
    return render(request, "refusal.html", {**body, "title": title, "message": message, **context}, status=body["code"])


def read_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorate a view to refuse methods other than GET and HEAD with a 405."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            return view(request, *args, **kwargs)
        message = f"{request.method} is not allowed here. Use GET or HEAD."
        return JsonResponse(problem(405, message), status=405, headers={"Allow": "GET, HEAD"})

    return guarded


def wants_page(request: HttpRequest) -> bool:
    """Return whether the client is a browser outside the API."""
    return not request.path.startswith("/api/") and "text/html" in request.headers.get("Accept", "")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle Django's 400 (`handler400`); a body that is too large becomes a 413."""
    if isinstance(exception, RequestDataTooBig):
        return refusal(request, 413, f"At most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes are allowed. Send less.")
    advice = "Go back, or open the list again." if wants_page(request) else "Check it, and the Host header."
    return refusal(request, 400, f"This address is not valid. {advice}")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle Django's 403 (`handler403`)."""
    if wants_page(request):
        return defaults.permission_denied(request, exception)
    return JsonResponse(problem(403, "You do not have access. Ask the administrators of this service."), status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle Django's 404 (`handler404`)."""
    if wants_page(request):
        return defaults.page_not_found(request, exception)
    hint = "Paths have no trailing slash. " if request.path.endswith("/") else ""
    message = f"Nothing is at this address. {hint}The endpoints are listed at /api/v1/docs."
    return JsonResponse(problem(404, message), status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Handle uncaught exceptions (`handler500`): 503 without a database, 404 for a deleted object, else 500."""
    exception = sys.exception()
    if exception and is_database_unavailable(exception):
        return service_unavailable(request)
    if isinstance(exception, ObjectDoesNotExist):
        return refusal(request, 404, GONE)
    return refusal(request, 500, "This is a fault of the service. Try again later. Its log has the details.")
