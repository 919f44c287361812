"""The middleware of browser sessions: identity and renewal."""

from collections.abc import Callable
from functools import partial
from typing import cast

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject
from pymongo.errors import PyMongoError

from accounts.exceptions import IssuerUnavailable
from accounts.login import SilentRenewal
from accounts.models import User
from accounts.provider import LoginRefused
from accounts.sessions import is_part_of_login, is_renewal_due, user_of_session
from core.api.error_pages import service_unavailable


class SessionIdentityMiddleware:
    """Sets `request.user` with its identity, and renews sessions of the provider when due.

    For a renewal, a page request is redirected to the provider and back to the same URL. Other requests cannot
    follow the redirect, and are anonymous until then.
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
            return None  # The request is anonymous until the provider responds or is configured again.
        except (DatabaseError, PyMongoError) as error:
            # The view may need the session too, and would wait for the database a second time.
            return service_unavailable(request, error)


def is_page(request: HttpRequest) -> bool:
    """Return whether the response is a page for a person, not data for a script."""
    return (
        request.method == "GET"
        and "text/html" in request.headers.get("Accept", "")
        and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and "Authorization" not in request.headers
    )
