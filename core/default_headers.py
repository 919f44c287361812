"""The headers that each response has, unless its view says otherwise."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse


class DefaultHeadersMiddleware:
    """Adds the headers of `settings.DEFAULT_HEADERS` that a response lacks."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        for name, value in settings.DEFAULT_HEADERS.items():
            response.headers.setdefault(name, value)
        return response
