"""Login backends of browser sessions: local accounts with a password, and the OpenID provider."""

import time
from dataclasses import replace
from typing import Any

import jwt
import requests
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.db import IntegrityError
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from accounts.claims import Claims, entitlements_at, verified_email
from accounts.fetching import IssuerUnavailable, time_limit
from accounts.issuers import InvalidToken
from accounts.models import User
from accounts.provider import LoginRefused, NotAdmitted, error_named, provider, relying_party_setting
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

    @property
    def OIDC_OP_TOKEN_ENDPOINT(self) -> str:  # noqa: N802 - the base class's name
        return str(self.get_settings("OIDC_OP_TOKEN_ENDPOINT"))

    def authenticate(
        self, request: HttpRequest | None, nonce: str = "", code_verifier: str = "", **credentials: Any
    ) -> User | None:
        """Return the user of a login that this service started.

        The base class would accept a code in the URL of any login, also of the password form.
        """
        if not (nonce and code_verifier):
            return None
        # Limits the fetches before and after the request for the token, which has a time limit of its own.
        with time_limit(2 * settings.OIDC_TIMEOUT):
            user: User | None = super().authenticate(request, nonce=nonce, code_verifier=code_verifier)
        return user

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        try:
            with provider().waiting.admit():
                response = super().get_token(payload)
        except (requests.RequestException, ValueError) as error:
            raise IssuerUnavailable(f"the token endpoint sent an unexpected response: {error}.") from error
        if not isinstance(response, dict) or not isinstance(response.get("access_token"), str):
            raise IssuerUnavailable("the token endpoint returned no access token.")
        return response

    def raise_token_response_error(self, response: requests.Response) -> None:
        """Raise for an error response. 400 and 401 carry an error code (RFC 6749, section 5.2)."""
        if response.status_code in (400, 401):
            raise LoginRefused(f"The login provider refused to complete the login: {error_code(response)}.")
        if response.status_code != 200:
            raise IssuerUnavailable(f"the token endpoint returned status {response.status_code}.")

    def verify_token(self, token: Any, **expected: Any) -> Claims:
        """Verify an ID token for this client and login (OpenID Connect Core 1.0, section 3.1.3.7)."""
        try:
            claims = provider().verify(token)
        except (InvalidToken, jwt.PyJWTError) as error:
            raise LoginRefused(f"The login provider sent a response that is not valid. {error}") from error
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not constant_time_compare(nonce, expected["nonce"]):
            raise LoginRefused("The login provider sent the response of another login. Try again.")
        if claims.get("azp", settings.OIDC_RP_CLIENT_ID) != settings.OIDC_RP_CLIENT_ID:
            raise LoginRefused("The login provider sent a response for another service.")
        return claims

    def get_userinfo(self, access_token: str, id_token: str, payload: Claims) -> Identity:
        """Return the identity of the ID token, with claims that it lacks from the userinfo endpoint."""
        try:
            more = provider().userinfo(access_token, payload)
        except InvalidToken as error:
            raise LoginRefused(f"The login provider sent a response that is not valid. {error}") from error
        email = verified_email(payload) or verified_email(more)
        if email is None:
            raise LoginRefused("The login provider has not verified your email. Verify it there, then try again.")
        path = provider().entitlements_path
        entitlements = entitlements_at(payload, path) or entitlements_at(more, path)
        return Identity(payload["iss"], payload["sub"], email, entitlements)

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


def error_code(response: requests.Response) -> str:
    try:
        return error_named(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
