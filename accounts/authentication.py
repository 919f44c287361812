"""Bearer tokens: of trusted OpenID providers, and those that Drift Watch signs itself."""

import hashlib
import re
import threading
import time
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

from accounts.claims import entitlements_at, verified_email
from accounts.issuers import LEEWAY_SECONDS, InvalidToken, IssuerUnavailable, TrustedIssuer, patience
from accounts.models import User
from accounts.tokens import identity_of_local_token
from core.api.exceptions import ServiceUnavailable
from core.client import bears_token
from core.identity import Identity, RegisteredUser

# RFC 6750, section 2.1.
BEARER = re.compile(r"bearer(?: +([A-Za-z0-9._~+/-]+=*))? *", re.IGNORECASE)
MAX_TOKEN_CHARACTERS = 12_000
RECENT_SECONDS = 2
MAX_RECENT = 10_000


class Recent(NamedTuple):
    """What a token was found to prove, and until when (in seconds since 1970) that counts without looking again."""

    identity: Identity
    until: float


class RecentIdentities:
    """The registered owners of the providers' tokens that this process verified in the last seconds.

    A pipeline sends the same token many times a second; its signature and its user are looked at once in
    two. What must hold at once is never kept: service tokens, which can be revoked, are read at each use.
    A user that this process changes or deletes is forgotten at once; what another process does to
    one is known here two seconds later.
    """

    def __init__(self) -> None:
        self._kept: TLRUCache[bytes, Recent] = TLRUCache(
            MAX_RECENT, ttu=lambda _, recent, now: min(now + RECENT_SECONDS, recent.until), timer=time.time
        )
        self._lock = threading.Lock()

    def get(self, token: str) -> Identity | None:
        with self._lock:
            recent = self._kept.get(digest_of(token))
        return recent and recent.identity

    def keep(self, token: str, identity: Identity, expires_at: float) -> None:
        with self._lock:
            self._kept[digest_of(token)] = Recent(identity, expires_at + LEEWAY_SECONDS)

    def forget(self, **signal: Any) -> None:
        with self._lock:
            self._kept.clear()


recent_identities = RecentIdentities()
receiver([post_save, post_delete], sender=User)(recent_identities.forget)


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <JWT>`. A request without that scheme is anonymous, one with a bad token is refused."""

    def authenticate(self, request: Request) -> tuple[RegisteredUser | AnonymousUser, Identity] | None:
        if not bears_token(request):
            return None
        match = BEARER.fullmatch(request.META["HTTP_AUTHORIZATION"])
        token = match and match.group(1)
        if not token or len(token) > MAX_TOKEN_CHARACTERS:
            raise AuthenticationFailed("The header must read: Authorization: Bearer <token>, the token a signed JWT.")
        try:
            identity = identify(token)
        except InvalidToken as error:
            raise AuthenticationFailed(f"{error} Get a new token and try again.") from error
        except IssuerUnavailable as error:
            raise ServiceUnavailable(f"The token cannot be checked now: {error} Try again in a moment.") from error
        return identity.user or AnonymousUser(), identity

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Drift Watch"'


def identify(token: str) -> Identity:
    """The identity that a token proves. Raises `InvalidToken` or `IssuerUnavailable`."""
    if recent := recent_identities.get(token):
        return recent
    with patience(settings.OIDC_TIMEOUT):
        return verified_identity(token)


def verified_identity(token: str) -> Identity:
    name = claimed_issuer(token)
    if name == settings.LOCAL_ISSUER:
        return identity_of_local_token(token)
    issuer = trusted_issuers().get(name)
    if issuer is None:
        raise InvalidToken("The token's issuer is not trusted here.")
    claims = issuer.verify(token)
    email = verified_email(claims)
    entitlements = entitlements_at(claims, issuer.entitlements_path)
    if email is None or (issuer.entitlements_path and not entitlements):
        more = issuer.userinfo(token, claims)
        email = email or verified_email(more)
        entitlements = entitlements or entitlements_at(more, issuer.entitlements_path)
    if email is None:
        raise InvalidToken("The issuer does not vouch for an email address (email and email_verified).")
    user = User.objects.known_as(name, claims["sub"])
    identity = Identity(name, claims["sub"], email, entitlements, user)
    if user:
        # Few issuers leave the time out; to the minute, so that not every request writes it.
        issued_at = claims["iat"] if "iat" in claims else time.time() // 60 * 60
        user.note_entitlements(entitlements, int(issued_at))
        recent_identities.keep(token, identity, claims["exp"])
    return identity


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def claimed_issuer(token: str) -> str:
    """The `iss` of a token that nothing is known of yet: it only chooses who is to verify it."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise InvalidToken(f"The token is not a JWT: {error}.") from error
    return str(claims.get("iss", ""))


@cache
def trusted_issuers() -> dict[str, TrustedIssuer]:
    """The configured issuers by name, each with its caches, made once for a process."""
    return {entry["issuer"]: TrustedIssuer(**entry) for entry in settings.OIDC_ISSUERS}
