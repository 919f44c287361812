"""The middleware of browser sessions: whose a request is, and when that is asked of the provider anew."""

from collections.abc import Callable
from functools import partial
from typing import cast

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject
from pymongo.errors import PyMongoError

from accounts.issuers import IssuerUnavailable
from accounts.login import SilentRenewal
from accounts.models import User
from accounts.provider import LoginRefused
from accounts.sessions import is_part_of_login, is_renewal_due, user_of_session


class SessionIdentityMiddleware:
    """Gives `request.user` its identity, and renews the session of a provider when that is due.

    Then a page is sent through the provider and back to the same address; any other request, which
    cannot follow there, is anonymous.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.user = cast(User, SimpleLazyObject(partial(user_of_session, request)))
        return self.renewal(request) or self.get_response(request)

    def renewal(self, request: HttpRequest) -> HttpResponse | None:
        has_session = settings.SESSION_COOKIE_NAME in request.COOKIES
        if not has_session or not is_page(request) or is_part_of_login(request):
            return None
        try:
            return SilentRenewal.as_view()(request) if is_renewal_due(request.session) else None
        except (IssuerUnavailable, LoginRefused):
            return None  # The page is shown as to anybody, until the provider is back or configured again.
        except (DatabaseError, PyMongoError):
            return None  # A view that needs the session meets the same error, where it is answered.


def is_page(request: HttpRequest) -> bool:
    """Whether a browser shows the answer to a person, as against a script that reads it."""
    return (
        request.method == "GET"
        and "text/html" in request.headers.get("Accept", "")
        and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and "Authorization" not in request.headers
    )
