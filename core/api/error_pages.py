"""Errors outside the API: pages for browsers, and the JSON of the API for other clients."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.exceptions import BadRequest, ObjectDoesNotExist
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import MethodNotAllowed, ValidationError

from core.api.errors import GONE, log_unavailable, problem, sentences
from core.api.exceptions import (
    RETRY_SECONDS,
    FormExpired,
    LevelRequired,
    RetryLater,
    SearchTooSlow,
    ServiceUnavailable,
)
from core.mongodb.errors import is_database_unavailable

NO_ACCESS = (
    "Your account may not open this page, or the portal does not offer it. "
    "Go back, or ask an administrator of this service."
)
NOTHING_CHANGED = "Nothing was changed. Go back, and use the form of the page."
NOT_FOUND = "There is no page at this address. The object may have been deleted, or you may not have access to it."
# The titles of error pages, by status.
TITLES = {
    400: "The request is not valid",
    403: "You do not have access",
    404: "Page not found",
    405: "This page cannot be opened",
    409: "Someone else saved first",
    413: "Too much data",
    415: "This form cannot be read",
    422: "The address is not valid",
    429: "Too many requests",
    500: "Something went wrong",
    503: "The service is unavailable",
}


def service_unavailable(request: HttpRequest, exception: BaseException) -> HttpResponse:
    """Log the exception, and return a 503 outside the API, for requests that need the database."""
    log_unavailable(exception)
    response = refusal(request, 503, str(ServiceUnavailable.default_detail))
    response["Retry-After"] = RETRY_SECONDS
    return response


def retry_later(request: HttpRequest, error: RetryLater) -> HttpResponse:
    """Return a 429 outside the API, for callers over a limit."""
    response = refusal(request, 429, str(error.detail))
    response["Retry-After"] = str(error.wait)
    return response


def refusal(request: HttpRequest, code: int, message: str) -> HttpResponse:
    """Return an error page for browsers, and JSON for other clients.

    The page shows no user name: reading the session may be what failed.
    """
    body = problem(code, message)
    if wants_page(request):
        return refusal_page(request, body, user=AnonymousUser(), messages=())
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
            message = NOTHING_CHANGED
        case ValidationError():
            title = "The search took too long" if isinstance(exc, SearchTooSlow) else title
            message = ": ".join(filter(None, next(sentences(exc.detail))))
    values = {"link": "Experiments", **body, "title": title, "message": message, **context}
    return render(request, "refusal.html", values, status=body["code"])


def read_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorate a view to refuse methods other than GET and HEAD with a 405, whatever CSRF token they have."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            return view(request, *args, **kwargs)
        message = f"{request.method} is not allowed here. Use GET or HEAD."
        response = refusal(request, 405, NOTHING_CHANGED if wants_page(request) else message)
        response["Allow"] = "GET, HEAD"
        return response

    return csrf_exempt(guarded)


def wants_page(request: HttpRequest) -> bool:
    """Return whether the client is a browser outside the API."""
    return not request.path.startswith("/api/") and "text/html" in request.headers.get("Accept", "")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle Django's 400 (`handler400`)."""
    if isinstance(exception, SessionInterrupted):
        # Another request ended the session, after the change of this one.
        return refusal(request, 400, "Your session has ended. Log in again, and see whether your change was saved.")
    if isinstance(exception, BadRequest):
        return refusal(request, 400, "This form is not valid. Open its page again, and send it in UTF-8.")
    advice = "Go back, or open the list again." if wants_page(request) else "Check it, and the Host header."
    return refusal(request, 400, f"This address is not valid. {advice}")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle Django's 403 (`handler403`)."""
    if wants_page(request):
        return refusal_page(request, problem(403, str(exception) or NO_ACCESS))
    return JsonResponse(problem(403, "You do not have access. Ask the administrators of this service."), status=403)


def form_expired(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Handle a form without a valid CSRF token (`CSRF_FAILURE_VIEW`)."""
    if wants_page(request):
        return refusal_page(request, problem(403, FormExpired.advice), FormExpired())
    return JsonResponse(problem(403, FormExpired.advice), status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle Django's 404 (`handler404`)."""
    if wants_page(request):
        return refusal_page(request, problem(404, NOT_FOUND))
    hint = "Paths have no trailing slash. " if request.path.endswith("/") else ""
    message = f"Nothing is at this address. {hint}The endpoints are listed at /api/v1/docs."
    return JsonResponse(problem(404, message), status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Handle uncaught exceptions (`handler500`): 503 without a database, 404 for a deleted object, else 500."""
    exception = sys.exception()
    if exception and is_database_unavailable(exception):
        return service_unavailable(request, exception)
    if isinstance(exception, ObjectDoesNotExist):
        return refusal(request, 404, GONE)
    return refusal(request, 500, "This is a fault of the service. Try again later. Its log has the details.")
