"""Browser sessions: their identity, rights and renewal.

A session of an OpenID provider holds the claims of its login. A silent login renews them regularly, so that
rights withdrawn at the provider soon end here too.
"""

import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.urls import reverse
from rest_framework import authentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from accounts.backends import ProviderBackend
from accounts.models import User
from accounts.session_lifetime import extend
from core.api.exceptions import FormExpired
from core.identity import Identity, RegisteredUser, identity_of_session

CLAIMS = "claims"
PROVIDER_BACKEND = f"{ProviderBackend.__module__}.{ProviderBackend.__qualname__}"


def remember(session: SessionBase, identity: Identity) -> None:
    """Store the claims of a login at the provider in the session, with the time of their renewal."""
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


def user_of_session(request: HttpRequest) -> User | AnonymousUser:
    """Return the session's user with their identity, or an anonymous user.

    While renewal is due, the user is anonymous, except in the login views, which must distinguish a renewal
    from a login as another user.
    """
    user = auth.get_user(request)
    if not isinstance(user, User) or (is_renewal_due(request.session) and not is_part_of_login(request)):
        return AnonymousUser()
    if is_of_provider(request.session):
        user.identity = identity_from_claims(request.session.get(CLAIMS, {}), user)
    elif extend(request.session):
        user.identity = local_identity(user)
    return user if user.identity else AnonymousUser()


def identity_from_claims(claims: Mapping[str, Any], user: User) -> Identity | None:
    """Return the identity, or None if the claims are not the user's or the issuer is not configured any more."""
    names = (user.issuer, user.subject)
    if (claims.get("issuer"), claims.get("subject")) != names or user.issuer != settings.OIDC_RP_ISSUER:
        return None
    return Identity(*names, claims["email"], frozenset(claims["entitlements"]), user)


def local_identity(user: User) -> Identity | None:
    """Return the identity of a local account, which has no entitlements, or None for users of other issuers."""
    if not user.is_local:
        return None
    return Identity(user.issuer, user.subject, user.email, user=user, is_local_administrator=user.is_superuser)


def is_part_of_login(request: HttpRequest) -> bool:
    return request.path.startswith(reverse("login"))


class SessionAuthentication(authentication.SessionAuthentication):
    """Authenticates browser sessions, for pages and Swagger UI. Unsafe methods need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[RegisteredUser, Identity] | None:
        identity = identity_of_session(request._request)
        if identity.user is None:
            return None
        self.enforce_csrf(request)
        return identity.user, identity

    def enforce_csrf(self, request: Request) -> None:
        try:
            # Given its own request, the library would parse any body to look for the token's form field.
            super().enforce_csrf(request._request)  # type: ignore[arg-type]
        except PermissionDenied as refusal:
            raise FormExpired(f"{refusal.detail} {FormExpired.advice}") from None
