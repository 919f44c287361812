"""The default of `Cache-Control`: caches store no response (RFC 9111, section 5.2.2.5)."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


class NoStoreMiddleware:
    """Forbids browsers and proxies to store a response, unless it says otherwise.

    Nobody can return to a page after a logout, and no cache holds private data or tokens. Static files and the OpenAPI
    document have a `Cache-Control` of their own.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response
