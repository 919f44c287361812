"""The number of requests that a process works on at once."""

from collections.abc import Callable
from threading import BoundedSemaphore

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from core.api.error_pages import refusal
from core.api.errors import log_unavailable
from core.api.exceptions import ServiceUnavailable
from core.metrics import REFUSED_REQUESTS

# Threads that only health checks use.
RESERVED_THREADS = 4
BUSY = "The service is busy. Try again in a second."


class CapacityMiddleware:
    """Refuses requests when all threads but a few are at work, so that health checks always have a thread.

    Requests pile up when the database is slow. Refusing them costs less than letting them wait.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.free = BoundedSemaphore(max(1, settings.THREADS - RESERVED_THREADS))

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not self.free.acquire(blocking=False):
            REFUSED_REQUESTS.labels("busy").inc()
            log_unavailable(ServiceUnavailable(BUSY))
            response = refusal(request, 503, BUSY)
            response["Retry-After"] = "1"
            return response
        response = self.get_response(request)
        # A streamed response is still at work until it is closed. Django has no public name for what it closes then.
        response._resource_closers.append(self.free.release)  # type: ignore[attr-defined]
        return response
