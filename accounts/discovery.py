"""The metadata and keys that an OpenID provider publishes, and the verification of JWTs by these keys.

Follows OpenID Connect Discovery 1.0, RFC 7517 (keys) and RFC 8725 (JWT best current practices).
"""

from typing import Any

import jwt
from django.conf import settings
from jwt.types import JWKDict

from accounts.claims import Claims, is_time
from accounts.exceptions import InvalidToken, IssuerUnavailable
from accounts.fetching import Fetched, WaitingRequests, fetch, is_safe_url

# Allowed algorithms by key type, all asymmetric (RFC 8725, section 3.1).
ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
ASYMMETRIC = frozenset(name for names in ALGORITHMS.values() for name in names)
WELL_KNOWN = "/.well-known/openid-configuration"


class Discovery:
    """The discovery document and the keys of one issuer. They are cached, at most for a day."""

    def __init__(self, issuer: str, waiting: WaitingRequests) -> None:
        self.issuer = issuer
        self._metadata = Fetched(self._fetch_metadata, waiting)
        self._keys = Fetched(self._fetch_keys, waiting)

    def decode(self, token: object, **expected: Any) -> Claims:
        """Verify the signature and the times of a JWT. Raises `InvalidToken` or an error of PyJWT."""
        if not (isinstance(token, str) and token.isascii()):
            raise InvalidToken("The token is not an ASCII text.")
        header = jwt.get_unverified_header(token)
        algorithm = str(header.get("alg"))
        if algorithm not in ASYMMETRIC:
            raise InvalidToken(f"The token is signed with {algorithm!r}. Only asymmetric algorithms are accepted.")
        key = jwt.PyJWK(self._key(header.get("kid"), algorithm), algorithm)
        leeway = settings.TOKEN_LEEWAY_SECONDS
        claims: Claims = jwt.decode(token, key=key, algorithms=[algorithm], leeway=leeway, **expected)
        # PyJWT accepts digits in a string too.
        for name in ("exp", "nbf", "iat"):
            if name in claims and not is_time(claims[name]):
                raise InvalidToken(f"The token's claim {name} is not a number of seconds.")
        return claims

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
        metadata = fetch(self.issuer.rstrip("/") + WELL_KNOWN).json_object()
        if metadata.get("issuer") != self.issuer:
            raise IssuerUnavailable(f"The discovery document of {self.issuer} names another issuer.")
        return metadata

    def _fetch_keys(self) -> list[JWKDict]:
        uri = self._metadata.get().get("jwks_uri")
        if not isinstance(uri, str):
            raise IssuerUnavailable(f"The discovery document of {self.issuer} has no jwks_uri.")
        keys = fetch(uri).json_object().get("keys")
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
