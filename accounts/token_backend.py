"""The signatures of service tokens: their prefix, and their keys."""

from typing import Any

from django.conf import settings
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from core.keys import digests_by_secret, secrets

# Secret scanners find tokens by it. A JWT of a provider never begins with it.
PREFIX = "dw_"
ALGORITHM = "HS256"
SALT = "driftwatch.tokens"


class ServiceTokenBackend(TokenBackend):
    """Signs tokens with a key of their own, and puts the prefix in front.

    A token is valid without its prefix too: clients that read its claims, such as the published one, need a plain JWT.
    Tokens of earlier releases have no prefix, and `SECRET_KEY` itself is their key.
    """

    def __init__(self) -> None:
        super().__init__(ALGORITHM, issuer=settings.LOCAL_ISSUER, leeway=settings.TOKEN_LEEWAY_SECONDS)

    def encode(self, payload: dict[str, Any]) -> str:
        return PREFIX + self.with_key(signing_keys()[0]).encode(payload)

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        """Verify the token with each key. Raises the error of the last one, or that of an expired token."""
        older_keys = [] if token.startswith(PREFIX) else [secret.encode() for secret in secrets()]
        failure = TokenBackendError("Token is invalid")
        for key in [*signing_keys(), *older_keys]:
            try:
                return self.with_key(key).decode(token.removeprefix(PREFIX), verify)
            except TokenBackendExpiredToken:
                raise
            except TokenBackendError as error:
                failure = error
        raise failure

    def with_key(self, key: bytes) -> TokenBackend:
        # The hint of the library lacks bytes, which PyJWT takes as they are.
        return TokenBackend(self.algorithm, key, issuer=self.issuer, leeway=self.leeway)  # type: ignore[arg-type]


def signing_keys() -> list[bytes]:
    return digests_by_secret(SALT, "sign")
