"""The addresses for operators: health checks and metrics."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string


class OperationsMiddleware:
    """Responds at the addresses of `settings.OPERATIONS`, however busy the process is, and whatever the Host header is.

    Health checks and Prometheus reach the process directly, often by the address of its machine.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.views: dict[str, Callable[[HttpRequest], HttpResponse]] = {
            path: import_string(name) for path, name in settings.OPERATIONS.items()
        }

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        view = self.views.get(request.path_info)
        if view is None:
            return self.get_response(request)
        response = view(request)
        # Django's `CommonMiddleware`, which comes later, does this for other responses.
        response["Content-Length"] = str(len(response.content))
        return response
