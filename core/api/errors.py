"""The one shape of a refusal, and what becomes which refusal."""

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig
from django.db import DatabaseError, IntegrityError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views import defaults
from pymongo.errors import ConnectionFailure, DocumentTooLarge, ExecutionTimeout, PyMongoError, WriteConcernError
from rest_framework import views
from rest_framework.exceptions import MethodNotAllowed, NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from core.api.exceptions import RETRY_SECONDS, BodyTooLarge, Conflict, InvalidQuery, ServiceUnavailable
from core.api.responses import JSONResponse

GONE = "It does not exist any more."
# MongoDB's code for a document that is larger than it stores.
TOO_LARGE = 10334


def problem(code: int, message: str, errors: dict[str, Any] | None = None) -> dict[str, Any]:
    """The body of every refusal: `code`, `status`, `message`, and on a 422 `errors`."""
    body: dict[str, Any] = {"code": code, "status": HTTPStatus(code).phrase, "message": message}
    return body | ({"errors": errors} if errors else {})


def exception_handler(exc: Exception, context: dict[str, Any]) -> JSONResponse | None:
    """Django REST framework's exception handler. None, which is a 500, for what no client can cause."""
    if isinstance(exc, ValidationError):
        return invalid(exc)
    if is_database_unavailable(exc):
        exc = ServiceUnavailable()
    elif isinstance(exc, IntegrityError):
        exc = Conflict(context["view"].conflict)
    elif is_document_too_large(exc):
        exc = BodyTooLarge("What would be stored is larger than the 16 MB that MongoDB stores in one piece. Send less.")
    elif isinstance(exc, ObjectDoesNotExist):
        exc = NotFound(GONE)
    response = views.exception_handler(exc, context)
    return None if response is None else error_response(response, exc, context["view"])


def error_response(response: Response, exc: Exception, view: APIView) -> JSONResponse:
    """The library's answer to a refusal in our one shape, with the headers that say what to do."""
    headers = {name: response[name] for name in ("WWW-Authenticate", "Retry-After") if name in response}
    if isinstance(exc, ServiceUnavailable):
        headers["Retry-After"] = RETRY_SECONDS
    if isinstance(exc, MethodNotAllowed):
        headers["Allow"] = ", ".join(view.allowed_methods)
    return JSONResponse(problem(response.status_code, response.data["detail"]), response.status_code, headers)


def invalid(exc: ValidationError) -> JSONResponse:
    """A 422 whose message is the first error, and whose `errors` hold all of them by field."""
    place = "query" if isinstance(exc, InvalidQuery) else "json"
    detail = exc.detail if isinstance(exc.detail, dict) else {"non_field_errors": exc.detail}
    field, sentence = next(sentences(detail))
    subject = field or ("query" if place == "query" else "body")
    return JSONResponse(problem(422, f"{subject}: {sentence}", {place: detail}), 422)


def sentences(detail: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of a dotted path and a sentence, from the nested detail of a validation error."""
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


def database_cause(exc: BaseException) -> PyMongoError | None:
    """The driver's own error behind one that Django wrapped."""
    if isinstance(exc, DatabaseError):
        return exc.__cause__ if isinstance(exc.__cause__, PyMongoError) else None
    return exc if isinstance(exc, PyMongoError) else None


def is_document_too_large(exc: BaseException) -> bool:
    """Whether something is larger than MongoDB stores: the driver says so of one document, the server of several."""
    return isinstance(exc, DocumentTooLarge) or getattr(database_cause(exc), "code", None) == TOO_LARGE


def is_database_unavailable(exc: BaseException) -> bool:
    """Whether trying the same again in a moment may work: no primary, or a conflict that outlived its retries."""
    cause = database_cause(exc)
    return isinstance(cause, ConnectionFailure | ExecutionTimeout | WriteConcernError) or bool(
        cause and cause.has_error_label("TransientTransactionError")
    )


def service_unavailable(request: HttpRequest) -> HttpResponse:
    """The 503 of what needs the database, outside the API."""
    response = refusal(request, 503, str(ServiceUnavailable.default_detail))
    response["Retry-After"] = RETRY_SECONDS
    return response


def refusal(request: HttpRequest, code: int, message: str) -> HttpResponse:
    """A page for people, JSON for others. The page does not say whose it is: the session may be what cannot be read."""
    said = problem(code, message)
    if wants_page(request):
        return render(request, "refusal.html", {**said, "user": None, "messages": ()}, status=code)
    return JsonResponse(said, status=code)


def read_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Refuse what is neither GET nor HEAD, in the one shape of a refusal."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            return view(request, *args, **kwargs)
        message = f"This can only be read: {request.method} is not for it."
        return JsonResponse(problem(405, message), status=405, headers={"Allow": "GET, HEAD"})

    return guarded


def wants_page(request: HttpRequest) -> bool:
    return not request.path.startswith("/api/") and "text/html" in request.headers.get("Accept", "")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig):
        return refusal(request, 413, f"More than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes were sent. Send less.")
    return refusal(request, 400, "The request is malformed: check its address and its Host header.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if wants_page(request):
        return defaults.permission_denied(request, exception)
    return JsonResponse(problem(403, "You may not do this."), status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if wants_page(request):
        return defaults.page_not_found(request, exception)
    hint = "Paths have no trailing slash. " if request.path.endswith("/") else ""
    message = f"There is nothing at this address. {hint}The endpoints are listed at /api/v1/docs."
    return JsonResponse(problem(404, message), status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Refuse outside the API what it refuses too: a missing database, and what was deleted meanwhile. Else a 500."""
    exception = sys.exception()
    if exception and is_database_unavailable(exception):
        return service_unavailable(request)
    if isinstance(exception, ObjectDoesNotExist):
        return refusal(request, 404, GONE)
    return refusal(request, 500, "The service made a mistake. It is in its log.")
