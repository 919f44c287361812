"""Trusted OpenID providers: the verification of their tokens, and the claims of userinfo (OpenID Connect Core 1.0).

The service contacts configured issuers only, never one that a token names.
"""

import hashlib
import logging
import threading
import time
from typing import Any, NamedTuple

import jwt
from cachetools import TLRUCache, cachedmethod
from django.conf import settings
from jwt.types import Options

from accounts.claims import ClaimNames, Claims, Profile, audiences, is_text
from accounts.discovery import Discovery
from accounts.exceptions import InvalidToken, PermanentRefusal
from accounts.fetching import WaitingRequests, fetch
from accounts.models.dropped_keys import DroppedKeys
from core.identity import Identity
from core.metrics import count_look_up

log = logging.getLogger(__name__)

MAX_PROFILES = 10_000
# The longest time until a process follows `manage.py drop_issuer_keys`. It costs one small query per issuer.
DROP_CHECK_SECONDS = 10


class CachedProfile(NamedTuple):
    """The profile from the userinfo endpoint for one token, or why the endpoint's response refuses the token."""

    expires_at: float
    profile: Profile = Profile()
    refusal: type[InvalidToken] | None = None
    reason: str = ""


class TrustedIssuer:
    """An issuer from `settings.OIDC_ISSUERS`, with caches of its metadata, keys and userinfo.

    Without an audience, or with the audience "any", tokens for any service are accepted.
    """

    def __init__(self, issuer: str, audience: list[str] | str | None = None, **claim_names: Any) -> None:
        self.issuer = issuer
        self.audience = audience if isinstance(audience, list) and audience else None
        self.claim_names = ClaimNames(**claim_names)
        self.waiting = WaitingRequests()
        self._profiles_changed = threading.Condition()
        self._generation: str | None = None
        self._generation_read_at = float("-inf")
        self._has_warned = False
        self.forget()

    def forget(self) -> None:
        """Drop all caches. Fetches that are under way fill the dropped ones."""
        self.discovery = Discovery(self.issuer, self.waiting)
        self._profiles: TLRUCache[bytes, CachedProfile] = TLRUCache(
            MAX_PROFILES, ttu=lambda _, cached, now: cached.expires_at, timer=time.time
        )

    def verify(self, token: str) -> Claims:
        """Verify a token of this issuer for this service, and return its claims.

        Raises `InvalidToken`, or `IssuerUnavailable` if the keys cannot be fetched.
        """
        self._drop_outdated()
        options: Options = {"require": ["exp", "iss", "sub"], "verify_aud": bool(self.audience)}
        try:
            claims = self.discovery.decode(token, issuer=self.issuer, audience=self.audience, options=options)
        except jwt.PyJWTError as error:
            raise InvalidToken(f"The token is not valid: {error}.") from error
        if not is_text(claims["sub"]):
            raise InvalidToken("The token's subject is empty or not a string.")
        if claims.get("aud") is not None and audiences(claims["aud"]) is None:
            raise InvalidToken("The token's claim aud is neither a string nor a list of strings.")
        return claims

    def owner(self, token: str, claims: Claims) -> Identity:
        """Return the owner of a token, by its claims, and by userinfo if they lack the email or the entitlements.

        Raises `InvalidToken` if the issuer refuses the token, if its userinfo is not valid, or if there is no email.
        Raises `IssuerUnavailable` if userinfo is needed and does not respond.
        """
        profile = self._profile_of(claims)
        if profile.lacks_email or (self.claim_names.entitlements and profile.entitlements is None):
            profile = profile.completed_by(self.userinfo(token, claims))
        if profile.email is None:
            raise PermanentRefusal(self.claim_names.missing_email(profile))
        return Identity(self.issuer, claims["sub"], profile.email, profile.entitlements or frozenset())

    def userinfo(self, token: str, claims: Claims) -> Profile:
        """Return the profile from the userinfo endpoint, which is asked once per token, also by concurrent requests.

        Without such an endpoint the profile is empty, and also if the token's scope does not suffice (403).
        """
        with self._profiles_changed:
            cached = self._profiles.get(digest_of(token))
        count_look_up("userinfo", is_hit=cached is not None)
        if cached is None:
            with self.waiting.admit():
                cached = self._fetch_profile(token, claims)
        if cached.refusal:
            raise cached.refusal(cached.reason)
        return cached.profile

    @cachedmethod(
        lambda self: self._profiles,
        key=lambda self, token, claims: digest_of(token),
        condition=lambda self: self._profiles_changed,
    )
    def _fetch_profile(self, token: str, claims: Claims) -> CachedProfile:
        try:
            profile = self._profile_of(self._fetch_userinfo(token, claims))
        except InvalidToken as refusal:
            expires_at = time.time() + settings.OIDC_REFETCH_INTERVAL
            return CachedProfile(expires_at, refusal=type(refusal), reason=str(refusal))
        return CachedProfile(claims["exp"] + settings.TOKEN_LEEWAY_SECONDS, profile)

    def _fetch_userinfo(self, token: str, claims: Claims) -> Claims:
        endpoint = self.discovery.endpoint("userinfo_endpoint")
        if not endpoint:
            return {}
        accepted = {"Authorization": f"Bearer {token}", "Accept": "application/json, application/jwt"}
        response = fetch(endpoint, headers=accepted)
        # RFC 6750, section 3.1: 401 stands for an invalid token, 403 for a valid one with too narrow a scope.
        if response.status == 401:
            raise InvalidToken("The issuer refuses the token.")
        if response.status == 403:
            return {}
        is_signed = response.status == 200 and response.content_type.lower().startswith("application/jwt")
        userinfo = self._verified_userinfo(response.body, claims) if is_signed else response.json_object()
        if userinfo.get("sub") != claims["sub"]:
            raise invalid_userinfo("it responded for another subject")
        return userinfo

    def _verified_userinfo(self, body: bytes, claims: Claims) -> Claims:
        """Verify a signed response (OpenID Connect Core 1.0, section 5.3.2)."""
        try:
            userinfo = self.discovery.decode(body.decode().strip(), options={"verify_aud": False})
        except (jwt.PyJWTError, UnicodeDecodeError, InvalidToken) as error:
            raise invalid_userinfo(f"its signed response is not valid: {error}") from error
        if userinfo.get("iss", self.issuer) != self.issuer:
            raise invalid_userinfo("its signed response is of another issuer")
        # The audience is the client that got the token, which need not be an audience of the token.
        clients = {*(self.audience or []), *clients_of(claims)}
        if self.audience and "aud" in userinfo and clients.isdisjoint(audiences(userinfo["aud"]) or []):
            raise invalid_userinfo("its signed response has another audience")
        return userinfo

    def _profile_of(self, claims: Claims) -> Profile:
        if self.claim_names.hides_entitlements(claims) and not self._has_warned:
            self._has_warned = True
            log.warning(
                "The claim %r of %r is an object and gives no entitlements. If its names are the entitlements, "
                'set "object_keys": true for this issuer in OIDC_ISSUERS.',
                self.claim_names.entitlements,
                self.issuer,
            )
        return self.claim_names.profile_of(claims)

    def _drop_outdated(self) -> None:
        """Drop the caches if `manage.py drop_issuer_keys` was called since the last look."""
        now = time.monotonic()
        if now - self._generation_read_at < DROP_CHECK_SECONDS:
            return
        self._generation_read_at = now
        generation = DroppedKeys.objects.generation_of(self.issuer)
        if generation != self._generation:
            self._generation = generation
            self.forget()


def invalid_userinfo(reason: str) -> PermanentRefusal:
    reason = reason.rstrip(".")
    return PermanentRefusal(f"The issuer's userinfo endpoint failed: {reason}. Tell the operators of this service.")


def clients_of(claims: Claims) -> set[str]:
    """Return the clients that a token may have been issued to (RFC 9068, section 2.2, and OpenID Connect Core 1.0)."""
    names = [claims.get("client_id"), claims.get("azp"), *(audiences(claims.get("aud")) or [])]
    return {name for name in names if isinstance(name, str)}


def digest_of(token: str) -> bytes:
    """Return a digest, under which caches store a token's data: they hold no tokens."""
    return hashlib.sha256(token.encode()).digest()
