"""Login backends of browser sessions: local accounts with a password, and the OpenID provider."""

import json
import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.db import IntegrityError
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from accounts.claims import Claims, is_text
from accounts.exceptions import InvalidToken, IssuerUnavailable, PermanentRefusal
from accounts.fetching import Response, fetch, time_limit
from accounts.models import User
from accounts.provider import (
    BASIC,
    LoginRefused,
    NotAdmitted,
    error_named,
    provider,
    relying_party_setting,
    required_endpoint,
    token_auth_method,
)
from core.identity import ACCOUNT_DISABLED, Identity
from core.mongodb.querysets import FilterableQuerySet


class LocalAccountBackend(ModelBackend):
    """Django's own backend. `UserManager.get_by_natural_key` limits it to local accounts."""


class ProviderBackend(OIDCAuthenticationBackend):
    """The authorization code flow, in which `TrustedIssuer.verify` verifies the ID token.

    The library's hooks pass an `Identity` here as their parameter `claims`. Every failure raises
    `LoginRefused` or `IssuerUnavailable`.
    """

    get_settings = staticmethod(relying_party_setting)

    def __init__(self) -> None:
        # The base class would request the provider's endpoints here, in every request with a session.
        self.UserModel = User
        self.OIDC_RP_CLIENT_ID = settings.OIDC_RP_CLIENT_ID
        self.OIDC_RP_CLIENT_SECRET = settings.OIDC_RP_CLIENT_SECRET

    def authenticate(
        self, request: HttpRequest | None, nonce: str = "", code_verifier: str = "", **credentials: Any
    ) -> User | None:
        """Return the user of a login that this service started.

        The base class would accept a code in the URL of any login, also of the password form.
        """
        if not (nonce and code_verifier):
            return None
        # The time of two fetches: those of the tokens and of userinfo.
        with time_limit(2 * settings.OIDC_TIMEOUT):
            user: User | None = super().authenticate(request, nonce=nonce, code_verifier=code_verifier)
        return user

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Exchange the code. The base class would not encode the secret, and would wait for an endless response."""
        credentials = None
        if token_auth_method() == BASIC:
            # RFC 6749, section 2.3.1: both are form-encoded first.
            credentials = quote_plus(payload["client_id"]), quote_plus(payload.pop("client_secret"))
        with provider().waiting.admit():
            response = fetch(required_endpoint("token_endpoint"), "POST", data=payload, auth=credentials)
        # RFC 6749, section 5.2: 400 and 401 carry an error code.
        if response.status in (400, 401):
            raise LoginRefused(f"The login provider refused to complete the login: {error_code(response)}.")
        tokens = response.json_object()
        access_token = tokens.get("access_token")
        # RFC 6749, appendix A.12: printable ASCII. Others fit no header.
        if not (isinstance(access_token, str) and access_token.isascii() and access_token.isprintable()):
            raise IssuerUnavailable("the token endpoint returned no access token.")
        return tokens

    def verify_token(self, token: Any, **expected: Any) -> Claims:
        """Verify an ID token for this client and login (OpenID Connect Core 1.0, section 3.1.3.7)."""
        try:
            claims = provider().verify(token)
        except InvalidToken as error:
            raise LoginRefused(f"The login provider sent a response that is not valid. {error}") from error
        nonce = claims.get("nonce")
        if not is_text(nonce) or not constant_time_compare(nonce, expected["nonce"]):
            raise LoginRefused("The login provider sent the response of another login. Try again.")
        if claims.get("azp", settings.OIDC_RP_CLIENT_ID) != settings.OIDC_RP_CLIENT_ID:
            raise LoginRefused("The login provider sent a response for another service.")
        return claims

    def get_userinfo(self, access_token: str, id_token: str, payload: Claims) -> Identity:
        """Return the identity of the ID token, with claims that it lacks from the userinfo endpoint."""
        try:
            return provider().owner(access_token, payload)
        except PermanentRefusal as error:
            raise LoginRefused(str(error)) from error
        except InvalidToken as error:
            raise LoginRefused(f"The login provider sent a response that is not valid. {error}") from error

    def verify_claims(self, identity: Identity) -> bool:
        if not identity.is_admitted:
            raise NotAdmitted(
                f"Your login as {identity.email} worked, but none of your groups may use this service. "
                "Ask its administrators for access."
            )
        return True

    def filter_users_by_claims(self, identity: Identity) -> FilterableQuerySet[User]:
        users: FilterableQuerySet[User] = User.objects.filter(issuer=identity.issuer, subject=identity.subject)
        return users

    def create_user(self, identity: Identity) -> User:
        """Register the user at the first login, unless a concurrent login has done so."""
        try:
            user = User.objects.register(identity)
        except IntegrityError:
            user = self.filter_users_by_claims(identity).get()
        return self.update_user(user, identity)

    def update_user(self, user: User, identity: Identity) -> User:
        if not user.is_active:
            raise NotAdmitted(ACCOUNT_DISABLED)
        if user.email != identity.email:
            user.update_email(replace(identity, user=user))
        user.note_entitlements(identity.entitlements, int(time.time()))
        user.identity = replace(identity, user=user)
        return user

    def get_user(self, user_id: Any) -> User | None:
        return User.objects.filter(pk=user_id, is_active=True).first()


def error_code(response: Response) -> str:
    try:
        return error_named(json.loads(response.body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"status {response.status}"
