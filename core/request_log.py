"""One line in the log, and one observation in the metrics, for each request."""

import logging
import random
import re
from collections.abc import Callable
from contextvars import copy_context
from functools import lru_cache, partial

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from core.client import Work, client_address, current_work
from core.metrics import OTHER, REQUESTS

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The route of a request that no view has responded to: unknown addresses, static files, refusals before the view.
NO_ROUTE = "none"
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


class RequestLogMiddleware:
    """Logs and measures each request: when its response is made, or when its streamed response has ended."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        work = current_work.get()
        assert work
        if response.streaming:
            end = partial(copy_context().run, record, request, response, work)
            # Django has no public name for what it closes after a response.
            response._resource_closers.append(end)  # type: ignore[attr-defined]
        else:
            record(request, response, work)
        return response


def record(request: HttpRequest, response: HttpResponseBase, work: Work) -> None:
    """Measure a request, and log it unless it succeeded and is not in the sample.

    The line names a person by the user's id alone, and nothing that a client has sent but the request id.
    """
    status, seconds = response.status_code, work.seconds
    method = request.method if request.method in METHODS else OTHER
    route = route_of(request)
    REQUESTS.labels(route, method, f"{status // 100}xx").observe(seconds)
    if status < 300 and random.random() >= settings.LOG_REQUEST_SHARE:  # noqa: S311  # nosec B311 - no secret
        return
    fields = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "user_id": user_id_of(request),
        "address": client_address(request),
        "database_commands": work.commands,
        "database_ms": round(work.command_seconds * 1000, 1),
    }
    level = logging.WARNING if status >= 500 else logging.INFO
    log.log(level, "%s %s %d in %.1f ms", method, route, status, fields["duration_ms"], extra=fields)


def route_of(request: HttpRequest) -> str:
    """Return the pattern of the request's address, such as `/api/v1/experiment/{experiment_id}`."""
    if request.resolver_match:
        return pattern_of(request.resolver_match.route)
    return request.path_info if request.path_info in settings.OPERATIONS else NO_ROUTE


@lru_cache(maxsize=1_000)
def pattern_of(route: str) -> str:
    return "/" + PARAMETER.sub(r"{\1}", route)


def user_id_of(request: HttpRequest) -> str | None:
    """Return the id of the request's user; None for an unregistered caller, or if nothing has asked for the user."""
    user = getattr(request, "user", None)
    if user is None or (isinstance(user, LazyObject) and user._wrapped is empty):
        return None
    return str(user.pk) if user.pk else None
