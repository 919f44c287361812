"""Signing and verification of service tokens with simplejwt. Each has a `ServiceToken` record."""

import datetime
import uuid
from typing import Any

from django.conf import settings
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenError
from rest_framework_simplejwt.tokens import Token

from accounts.exceptions import InvalidToken, PermanentRefusal
from accounts.models.service_token import ServiceToken
from accounts.token_backend import PREFIX, ServiceTokenBackend
from core import timestamps
from core.identity import ACCOUNT_DISABLED, Identity

# The claim of a refresh token that holds the id of its record.
FAMILY = "family"
DAMAGED = (
    f"A token that begins with {PREFIX} is one of this service, but this one is not complete, or its key is gone. "
    "Copy the whole token."
)
AWAY = (
    "The owner of this token, {owner}, has not been seen for {days} days. The token works again once they log in to "
    "the pages, or send a request with a token of their OpenID provider."
)


class AccessToken(tokens.AccessToken):
    """A signed access token."""

    _token_backend = ServiceTokenBackend()


class RefreshToken(tokens.RefreshToken):
    """A signed refresh token."""

    _token_backend = ServiceTokenBackend()


def is_local(token: str) -> bool:
    """Return whether the token has the prefix of this service. Without it, the issuer tells."""
    return token.startswith(PREFIX)


def access_token(record: ServiceToken) -> str:
    """Return a signed access token. It lasts as long as its record, or a few minutes if it can be refreshed."""
    start = timestamps.now() if record.refresh_id else record.created_at
    lifetime = record.expires_at - start
    if record.refresh_id:
        lifetime = min(lifetime, AccessToken.lifetime)
    return str(with_claims(record, AccessToken(), str(record.id), start, lifetime))


def refresh_token(record: ServiceToken) -> str:
    """Return a refresh token, which works once and expires with its record."""
    start = timestamps.now()
    token = with_claims(record, RefreshToken(), str(record.refresh_id), start, record.expires_at - start)
    token[FAMILY] = str(record.id)
    return str(token)


def with_claims(
    record: ServiceToken, token: Token, jti: str, start: datetime.datetime, lifetime: datetime.timedelta
) -> Token:
    token["jti"] = jti
    token["sub"] = record.user.subject
    token.set_iat(at_time=start)
    token.set_exp(from_time=start, lifetime=lifetime)
    return token


def identity_of_local_token(token: str) -> Identity:
    """Return the identity of a service token, with its scope. Raises `InvalidToken`."""
    record = usable_record(verified_claims(AccessToken, token)["jti"])
    record.record_use()
    return identity_through(record)


def identity_through(record: ServiceToken) -> Identity:
    user = record.user
    return Identity(
        issuer=user.issuer,
        subject=user.subject,
        email=user.email,
        entitlements=record.entitlements_in_force,
        user=user,
        scope=record.scope,
        by_token=True,
        through_service_token=True,
        admitted_by=record.admitted_by,
    )


def refreshed(token: str) -> ServiceToken:
    """Exchange a refresh token and return its record, for which new tokens can be signed.

    A refresh token works once. A second use revokes all tokens of the record. Raises `InvalidToken`.
    """
    claims = verified_claims(RefreshToken, token)
    record = usable_record(claims.get(FAMILY))
    if not record.rotate(claims["jti"], by=identity_through(record)):
        raise InvalidToken("This refresh token was used before, so its access token and all later tokens are revoked.")
    return record


def verified_claims(kind: type[Token], token: str) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = kind(token).payload  # type: ignore[arg-type]
    except TokenError as error:
        is_damaged = is_local(token) and type(error.__cause__) is TokenBackendError
        raise InvalidToken(DAMAGED if is_damaged else f"{error}.") from error
    return claims


def usable_record(record_id: Any) -> ServiceToken:
    """Return a usable record with its active user. Raises `InvalidToken` if there is none."""
    try:
        record = ServiceToken.objects.with_user(uuid.UUID(str(record_id)))
    except ValueError:
        record = None
    if record is None:
        raise InvalidToken("The token is unknown, or its user no longer exists.")
    if not record.is_usable:
        raise InvalidToken(f"The token is {record.state}.")
    if not record.user.is_active:
        raise PermanentRefusal(ACCOUNT_DISABLED)
    # Tokens that an operator issued are exempt: their owners may have no other way to be seen.
    if record.user.is_away and not record.issued_by_operator:
        raise PermanentRefusal(AWAY.format(owner=record.user, days=settings.TOKEN_OWNER_DAYS))
    return record
