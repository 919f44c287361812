"""Trusted OpenID providers: discovery, keys, token validation and userinfo.

Follows OpenID Connect Core 1.0 and Discovery 1.0, RFC 7517 (keys) and RFC 8725 (JWT best current
practices). The service contacts configured issuers only, never one that a token names.
"""

import time
from typing import Any

import jwt
from django.conf import settings
from jwt.types import JWKDict

from accounts.claims import Claims, is_text
from accounts.fetching import (
    Fetched,
    IssuerRefused,
    IssuerUnavailable,
    WaitingRequests,
    fetch_json,
    is_safe_url,
)

# Allowed algorithms by key type, all asymmetric (RFC 8725, section 3.1).
ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
ASYMMETRIC = frozenset(name for names in ALGORITHMS.values() for name in names)
WELL_KNOWN = "/.well-known/openid-configuration"


class InvalidToken(Exception):
    """The token is refused. The message gives the reason and is safe to show."""


class OwnerDisabled(InvalidToken):
    """The account of the token's owner is disabled, so that a new token would be refused too."""


class TrustedIssuer:
    """An issuer from `settings.OIDC_ISSUERS`, with caches of its metadata, keys and userinfo."""

    def __init__(self, issuer: str, audience: list[str] | None = None, entitlements: str | None = None) -> None:
        self.issuer = issuer
        self.audience = audience
        self.entitlements_path = entitlements
        self.waiting = WaitingRequests()
        self._metadata = Fetched(self._fetch_metadata, self.waiting)
        self._keys = Fetched(self._fetch_keys, self.waiting)
        self._userinfo: dict[str, tuple[float, Claims]] = {}

    def verify(self, token: str) -> Claims:
        """Verify a token of this issuer for this service, and return its claims.

        Raises `InvalidToken`, or `IssuerUnavailable` if the keys cannot be fetched.
        """
        header = jwt.get_unverified_header(token)
        algorithm = str(header.get("alg"))
        if algorithm not in ASYMMETRIC:
            raise InvalidToken(f"The token is signed with {algorithm!r}. Only asymmetric algorithms are accepted.")
        key = self._key(header.get("kid"), algorithm)
        try:
            claims = jwt.decode(
                token,
                key=jwt.PyJWK(key, algorithm),
                algorithms=[algorithm],
                issuer=self.issuer,
                audience=self.audience,
                leeway=settings.TOKEN_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "sub"], "verify_aud": bool(self.audience)},
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(f"The token is not valid: {error}.") from error
        if not is_text(claims["sub"]):
            raise InvalidToken("The token's subject is empty or not a string.")
        return claims

    def userinfo(self, token: str, claims: Claims) -> Claims:
        """Return the claims of the userinfo endpoint, cached until the token expires.

        Without such an endpoint the result is empty. Raises `InvalidToken` if the issuer refuses the token or
        responds for another subject, and `IssuerUnavailable` if it does not respond.
        """
        now = time.time()
        cached = self._userinfo.get(token)
        if cached and cached[0] > now:
            return cached[1]
        endpoint = self.endpoint("userinfo_endpoint")
        if not endpoint:
            return {}
        try:
            with self.waiting.admit():
                document = fetch_json(endpoint, headers={"Authorization": f"Bearer {token}"})
        except IssuerRefused as error:
            raise InvalidToken("The issuer refuses the token.") from error
        if document.get("sub") != claims["sub"]:
            raise InvalidToken("The issuer's userinfo endpoint responded for another subject.")
        self._userinfo = {key: value for key, value in self._userinfo.items() if value[0] > now}
        self._userinfo[token] = (float(claims["exp"]), document)
        return document

    def metadata(self, name: str) -> Any:
        """Return a member of the discovery document, or None. Raises `IssuerUnavailable`."""
        return self._metadata.get().get(name)

    def endpoint(self, name: str) -> str | None:
        """Return a URL of the discovery document, such as `token_endpoint`, or None. Raises `IssuerUnavailable`."""
        address = self.metadata(name)
        if address is not None and not (isinstance(address, str) and is_safe_url(address)):
            raise IssuerUnavailable(f"The discovery document of {self.issuer} has no https address as {name}.")
        return address

    def _key(self, key_id: str | None, algorithm: str) -> JWKDict:
        key = suitable_key(self._keys.get(), key_id, algorithm)
        # An unknown key may be new: fetch the keys again, at a bounded rate.
        key = key or suitable_key(self._keys.get(newer=True), key_id, algorithm)
        if key is None:
            raise InvalidToken(f"The issuer has no {algorithm} key with the id {key_id!r}.")
        return key

    def _fetch_metadata(self) -> dict[str, Any]:
        metadata = fetch_json(self.issuer.rstrip("/") + WELL_KNOWN)
        if metadata.get("issuer") != self.issuer:
            raise IssuerUnavailable(f"The discovery document of {self.issuer} names another issuer.")
        return metadata

    def _fetch_keys(self) -> list[JWKDict]:
        uri = self._metadata.get().get("jwks_uri")
        if not isinstance(uri, str):
            raise IssuerUnavailable(f"The discovery document of {self.issuer} has no jwks_uri.")
        keys = fetch_json(uri).get("keys")
        return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []


def suitable_key(keys: list[JWKDict], key_id: str | None, algorithm: str) -> JWKDict | None:
    """Return the key with this id for the algorithm. Without an id, return the only key for the algorithm."""
    fitting = [
        key
        for key in keys
        if algorithm in ALGORITHMS.get(str(key.get("kty")), ())
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and (key_id is None or key.get("kid") == key_id)
    ]
    return fitting[0] if len(fitting) == 1 or (fitting and key_id is not None) else None
