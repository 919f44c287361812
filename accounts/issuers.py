"""Trusted OpenID providers: discovery, keys, token validation and userinfo.

Follows OpenID Connect Core 1.0 and Discovery 1.0, RFC 7517 (keys) and RFC 8725 (JWT best current
practices). Only configured issuers are ever contacted, never one that a token names.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests
import urllib3
from django.conf import settings
from jwt.types import JWKDict

from accounts.claims import Claims, is_text

# Key type to the algorithms it may sign with: asymmetric ones only (RFC 8725, section 3.1).
ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
ASYMMETRIC = frozenset(name for names in ALGORITHMS.values() for name in names)
LEEWAY_SECONDS = 30
MAX_ANSWER_BYTES = 1_000_000
WELL_KNOWN = "/.well-known/openid-configuration"
deadline: ContextVar[float] = ContextVar("deadline")


class InvalidToken(Exception):
    """The token is not acceptable; the message says why and is safe to show."""


class IssuerUnavailable(Exception):
    """A trusted issuer did not give what is needed to judge a token; trying again later may help."""


class IssuerRefused(IssuerUnavailable):
    """The issuer answered 401 or 403."""


@dataclass
class Fetched:
    """A value fetched over the network, kept for a while, and fetched at a bounded rate whether or not that works."""

    fetch: Callable[[], Any]
    value: Any = None
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")
    failure: IssuerUnavailable | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, *, newer: bool = False) -> Any:
        """The value; with `newer`, one fetched anew if the last try is long enough ago.

        Raises `IssuerUnavailable` when there has never been a value.
        """
        # While one thread fetches, the others go on with the value that there is.
        if self.lock.acquire(blocking=self.value is None):
            try:
                self._refresh(newer)
            finally:
                self.lock.release()
        if self.value is None and self.failure:
            raise self.failure
        return self.value

    def _refresh(self, newer: bool) -> None:
        now = time.monotonic()
        stale = newer or now - self.fetched_at > settings.OIDC_KEYS_LIFETIME
        if not stale or now - self.tried_at < settings.OIDC_REFETCH_INTERVAL:
            return
        self.tried_at = now
        try:
            self.value, self.failure = self.fetch(), None
            self.fetched_at = now
        except IssuerUnavailable as failure:
            self.failure = failure


class TrustedIssuer:
    """One entry of `settings.OIDC_ISSUERS`."""

    def __init__(self, issuer: str, audience: list[str] | None = None, entitlements: str | None = None) -> None:
        self.issuer = issuer
        self.audience = audience
        self.entitlements_path = entitlements
        self._metadata = Fetched(self._fetch_metadata)
        self._keys = Fetched(self._fetch_keys)
        self._userinfo: dict[str, tuple[float, Claims]] = {}

    def verify(self, token: str) -> Claims:
        """The claims of a token that this issuer signed for this service.

        Raises `InvalidToken`, or `IssuerUnavailable` when the keys cannot be had.
        """
        header = jwt.get_unverified_header(token)
        algorithm = str(header.get("alg"))
        if algorithm not in ASYMMETRIC:
            raise InvalidToken(f"The token is signed with {algorithm!r}; only asymmetric algorithms are accepted.")
        key = self._key(header.get("kid"), algorithm)
        try:
            claims = jwt.decode(
                token,
                key=jwt.PyJWK(key, algorithm),
                algorithms=[algorithm],
                issuer=self.issuer,
                audience=self.audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "sub"], "verify_aud": bool(self.audience)},
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(f"The token is not valid: {error}.") from error
        if not is_text(claims["sub"]):
            raise InvalidToken("The token's subject is empty or no text.")
        return claims

    def userinfo(self, token: str, claims: Claims) -> Claims:
        """What the userinfo endpoint says of the token's owner, kept until the token expires.

        Empty where the issuer has no such endpoint. Raises `InvalidToken` when the issuer refuses
        the token or answers for somebody else, `IssuerUnavailable` when it does not answer.
        """
        now = time.time()
        kept = self._userinfo.get(token)
        if kept and kept[0] > now:
            return kept[1]
        endpoint = self.endpoint("userinfo_endpoint")
        if not endpoint:
            return {}
        try:
            answer = fetch_json(endpoint, headers={"Authorization": f"Bearer {token}"})
        except IssuerRefused as error:
            raise InvalidToken("The issuer refuses the token.") from error
        if answer.get("sub") != claims["sub"]:
            raise InvalidToken("The issuer's userinfo endpoint answered for another subject.")
        self._userinfo = {key: value for key, value in self._userinfo.items() if value[0] > now}
        self._userinfo[token] = (float(claims["exp"]), answer)
        return answer

    def metadata(self, name: str) -> Any:
        """A member of the discovery document, None where it has none. Raises `IssuerUnavailable`."""
        return self._metadata.get().get(name)

    def endpoint(self, name: str) -> str | None:
        """An address from the discovery document, such as `token_endpoint`. Raises `IssuerUnavailable`."""
        address = self.metadata(name)
        if address is not None and not (isinstance(address, str) and is_safe_url(address)):
            raise IssuerUnavailable(f"The discovery document of {self.issuer} has no https address as {name}.")
        return address

    def _key(self, key_id: str | None, algorithm: str) -> JWKDict:
        key = suitable_key(self._keys.get(), key_id, algorithm)
        # An unknown key may be a new one: ask again, at a bounded rate.
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
    """The key of that id that may verify that algorithm; with no id, the only key that may."""
    fitting = [
        key
        for key in keys
        if algorithm in ALGORITHMS.get(str(key.get("kty")), ())
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and (key_id is None or key.get("kid") == key_id)
    ]
    return fitting[0] if len(fitting) == 1 or (fitting and key_id is not None) else None


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Bound the time that all fetches inside may take together."""
    previous = deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline.reset(previous)


def fetch_json(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """GET a JSON object from an issuer, before the deadline and without following redirects."""
    try:
        if not is_safe_url(url):
            raise IssuerUnavailable(f"{url} is not an https address.")
        # The scanner does not see a timeout that is computed.
        response = requests.get(  # nosec B113
            url,
            headers={"Accept": "application/json", **(headers or {})},
            timeout=seconds_left(url),
            allow_redirects=False,
            stream=True,
        )
        with response:
            body = read_body(response, url)
        answer = json.loads(body) if response.status_code == 200 else None
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
        raise IssuerUnavailable(f"{url} did not answer as expected: {error}.") from error
    if response.status_code in (401, 403):
        raise IssuerRefused(f"{url} answered {response.status_code}.")
    if not isinstance(answer, dict) or len(body) > MAX_ANSWER_BYTES:
        raise IssuerUnavailable(f"{url} answered {response.status_code}, not with a JSON object.")
    return answer


def read_body(response: requests.Response, url: str) -> bytes:
    """The body, as far as it is not too large; read piece by piece, since an issuer may drip it."""
    body = b""
    while len(body) <= MAX_ANSWER_BYTES and (piece := response.raw.read1(MAX_ANSWER_BYTES, decode_content=True)):
        body += piece
        seconds_left(url)
    return body


def seconds_left(url: str) -> float:
    seconds = deadline.get(float("inf")) - time.monotonic()
    if seconds <= 0:
        raise IssuerUnavailable(f"{url} takes too long.")
    return min(seconds, settings.OIDC_TIMEOUT)


def is_safe_url(url: str) -> bool:
    """https, or http on this machine (a provider for development and tests)."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1"))
