"""Authentication by bearer tokens: those of trusted OpenID providers, and service tokens."""

import re
import threading
import time
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jwt
from cachetools import TLRUCache
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.exceptions import InvalidToken, IssuerUnavailable, PermanentRefusal
from accounts.fetching import time_limit
from accounts.issuers import TrustedIssuer, digest_of
from accounts.models import User
from accounts.tokens import identity_of_local_token, is_local
from core.api.exceptions import ServiceUnavailable
from core.client import bears_token
from core.identity import Identity, RegisteredUser
from core.metrics import count_look_up

# RFC 6750, section 2.1.
BEARER = re.compile(r"bearer(?: +([A-Za-z0-9._~+/-]+=*))? *", re.IGNORECASE)
MAX_TOKEN_CHARACTERS = 12_000
RECENT_SECONDS = 2
MAX_RECENT = 10_000


class CachedIdentity(NamedTuple):
    """The identity of a verified token, and the token's expiry with leeway, in seconds since 1970."""

    identity: Identity
    expires_at: float


class RecentIdentities:
    """A cache of the registered owners of provider tokens that this process verified in the last two seconds.

    A pipeline sends the same token many times per second. The cache saves the check of its signature and the
    query for its user. It never holds service tokens, which can be revoked and are read at each use. Saves and
    deletions of a user in this process clear the cache; all other changes take effect within two seconds.
    """

    def __init__(self) -> None:
        self._identities: TLRUCache[bytes, CachedIdentity] = TLRUCache(
            MAX_RECENT, ttu=lambda _, cached, now: min(now + RECENT_SECONDS, cached.expires_at), timer=time.time
        )
        self._lock = threading.Lock()

    def get(self, token: str) -> Identity | None:
        with self._lock:
            cached = self._identities.get(digest_of(token))
        count_look_up("identities", is_hit=cached is not None)
        return cached and cached.identity

    def add(self, token: str, identity: Identity, expires_at: float) -> None:
        with self._lock:
            self._identities[digest_of(token)] = CachedIdentity(identity, expires_at + settings.TOKEN_LEEWAY_SECONDS)

    def clear(self, **signal: Any) -> None:
        with self._lock:
            self._identities.clear()


recent_identities = RecentIdentities()
receiver([post_save, post_delete], sender=User)(recent_identities.clear)


class BearerAuthentication(BaseAuthentication):
    """Authenticates `Authorization: Bearer <token>`. Other requests are anonymous; a bad token is refused."""

    def authenticate(self, request: Request) -> tuple[RegisteredUser | AnonymousUser, Identity] | None:
        if not bears_token(request):
            return None
        match = BEARER.fullmatch(request.META["HTTP_AUTHORIZATION"])
        token = match and match.group(1)
        if not token or len(token) > MAX_TOKEN_CHARACTERS:
            raise AuthenticationFailed("Send a token: Authorization: Bearer <token>.")
        try:
            identity = identify(token)
        except PermanentRefusal as error:
            raise AuthenticationFailed(str(error)) from error
        except InvalidToken as error:
            raise AuthenticationFailed(f"{error} Get a new token and try again.") from error
        except IssuerUnavailable as error:
            raise ServiceUnavailable(f"The token cannot be checked now: {error} Try again in a moment.") from error
        return identity.user or AnonymousUser(), identity

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Drift Watch"'


def identify(token: str) -> Identity:
    """Return the identity of a token. Raises `InvalidToken` or `IssuerUnavailable`."""
    if cached := recent_identities.get(token):
        return cached
    with time_limit(settings.OIDC_TIMEOUT):
        return verified_identity(token)


def verified_identity(token: str) -> Identity:
    """Verify a token that is not cached, and find its user."""
    name = settings.LOCAL_ISSUER if is_local(token) else claimed_issuer(token)
    if name == settings.LOCAL_ISSUER:
        return identity_of_local_token(token)
    issuer = trusted_issuers().get(name)
    if issuer is None:
        raise InvalidToken("This service does not trust the token's issuer.")
    claims = issuer.verify(token)
    identity = replace(issuer.owner(token, claims), by_token=True)
    user = User.objects.known_as(name, identity.subject)
    if user:
        # Some issuers omit `iat`. Rounding to the minute avoids a write at every request.
        issued_at = claims["iat"] if "iat" in claims else time.time() // 60 * 60
        user.note_entitlements(identity.entitlements, int(issued_at))
        user.record_visit()
        identity = replace(identity, user=user)
        recent_identities.add(token, identity, claims["exp"])
    return identity


def claimed_issuer(token: str) -> str:
    """Return the `iss` of an unverified token, which only selects the issuer that verifies it."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise InvalidToken(f"The token is not a JWT: {error}.") from error
    return str(claims.get("iss", ""))


@cache
def trusted_issuers() -> dict[str, TrustedIssuer]:
    """Return the configured issuers by name. They hold caches, so each process creates them once."""
    return {entry["issuer"]: TrustedIssuer(**entry) for entry in settings.OIDC_ISSUERS}
