"""The middleware that is for browsers alone.

Most requests come from programs, with a token of their own: they have no session, and there is no page to show
a message on. Taking them through all of that cost a tenth of what it takes to read a run.
"""

from typing import Any

from corsheaders import middleware as cors
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers

from accounts.sessions import SessionIdentityMiddleware as BaseSessionIdentityMiddleware
from driftwatch.bearer import bears_token


def is_of_program(request: HttpRequest) -> bool:
    """Whether it asks the API with a token: what it may, the token says, and a session beside it is not looked at."""
    return bears_token(request) and request.path_info.startswith("/api/")


class ForBrowsers:
    """Comes before a middleware, which then is passed by with a program's request."""

    get_response: Any

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request) if is_of_program(request) else super().__call__(request)  # type: ignore[misc]


class SessionMiddleware(ForBrowsers, sessions.SessionMiddleware):
    pass


class AuthenticationMiddleware(ForBrowsers, auth.AuthenticationMiddleware):
    pass


class SessionIdentityMiddleware(ForBrowsers, BaseSessionIdentityMiddleware):
    pass


class MessageMiddleware(ForBrowsers, messages.MessageMiddleware):
    pass


class CorsMiddleware(cors.CorsMiddleware):
    """CORS for those who name an origin, as browsers do."""

    def __call__(self, request: HttpRequest) -> Any:
        if "HTTP_ORIGIN" in request.META:
            return super().__call__(request)
        response: HttpResponseBase = self.get_response(request)  # type: ignore[assignment]
        # Whoever keeps the answer must know that one for a browser has more headers.
        patch_vary_headers(response, ["origin"])
        return response
