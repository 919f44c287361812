"""Browser sessions: whose they are, with which rights, and until when.

A session of an OpenID provider holds the claims of its login. They are read anew when renewal is
due, by a silent login, so that a right that the provider took away is gone here soon after.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from pymongo.errors import PyMongoError
from rest_framework import authentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from accounts.backends import ProviderBackend
from accounts.identity import Identity
from accounts.issuers import IssuerUnavailable
from accounts.models import User
from accounts.provider import LoginRefused

CLAIMS = "claims"
PROVIDER_BACKEND = f"{ProviderBackend.__module__}.{ProviderBackend.__qualname__}"

UNSENT = "Nothing was changed: load the page again and send it from there, with cookies allowed for this site."


def remember(session: SessionBase, identity: Identity) -> None:
    """Keep what a login at the provider proved, until it must be renewed."""
    session[CLAIMS] = {
        "issuer": identity.issuer,
        "subject": identity.subject,
        "email": identity.email,
        "entitlements": sorted(identity.entitlements),
        "renew_at": time.time() + settings.SESSION_RENEWAL_SECONDS,
    }


def is_of_provider(session: SessionBase) -> bool:
    return session.get(auth.BACKEND_SESSION_KEY) == PROVIDER_BACKEND


def is_renewal_due(session: SessionBase) -> bool:
    return is_of_provider(session) and session.get(CLAIMS, {}).get("renew_at", 0) <= time.time()


def identity_of_session(request: HttpRequest) -> Identity:
    """The identity that the request's session proves; the anonymous one where it proves none."""
    user = request.user
    return (user.identity if isinstance(user, User) else None) or Identity()


def user_of_session(request: HttpRequest) -> User | AnonymousUser:
    """Django's user of the session, carrying the identity that the session makes of it.

    While renewal is due it is nobody, but where logins begin and end: there it tells a renewal
    from a login as somebody else.
    """
    user = auth.get_user(request)
    if not isinstance(user, User) or (is_renewal_due(request.session) and not is_part_of_login(request)):
        return AnonymousUser()
    claims = request.session.get(CLAIMS, {})
    user.identity = identity_from_claims(claims, user) if is_of_provider(request.session) else local_identity(user)
    return user if user.identity else AnonymousUser()


def identity_from_claims(claims: Mapping[str, Any], user: User) -> Identity | None:
    """None when the claims are not the user's, or of an issuer that nobody logs in with any more."""
    names = (user.issuer, user.subject)
    if (claims.get("issuer"), claims.get("subject")) != names or user.issuer != settings.OIDC_RP_ISSUER:
        return None
    return Identity(*names, claims["email"], frozenset(claims["entitlements"]), user)


def local_identity(user: User) -> Identity | None:
    """The identity of a local account: it has no entitlements. None for users of other issuers."""
    if not user.is_local:
        return None
    return Identity(user.issuer, user.subject, user.email, user=user, is_local_administrator=user.is_superuser)


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
        from accounts.login import SilentRenewal  # noqa: PLC0415 - it remembers logins here

        has_session = settings.SESSION_COOKIE_NAME in request.COOKIES
        if not has_session or not is_page(request) or is_part_of_login(request):
            return None
        try:
            return SilentRenewal.as_view()(request) if is_renewal_due(request.session) else None
        except (IssuerUnavailable, LoginRefused):
            return None  # The page is shown as to anybody, until the provider is back or configured again.
        except (DatabaseError, PyMongoError):
            return None  # A view that needs the session meets the same error, where it is answered.


def is_part_of_login(request: HttpRequest) -> bool:
    return request.path.startswith(reverse("login"))


def is_page(request: HttpRequest) -> bool:
    """Whether a browser shows the answer to a person, as against a script that reads it."""
    return (
        request.method == "GET"
        and "text/html" in request.headers.get("Accept", "")
        and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and "Authorization" not in request.headers
    )


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser session, for pages and Swagger UI; a method that changes something needs the CSRF token."""

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        identity = identity_of_session(request._request)
        if identity.user is None:
            return None
        self.enforce_csrf(request)
        return identity.user, identity

    def enforce_csrf(self, request: Request) -> None:
        try:
            # In its own request the library would parse any body, in search of the field of a form.
            super().enforce_csrf(request._request)  # type: ignore[arg-type]
        except PermissionDenied as refusal:
            raise PermissionDenied(f"{refusal.detail} {UNSENT}") from None
