"""Reading of token claims, by pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from core.api.json_input import text_problem

Claims = Mapping[str, Any]
# 64-bit floating-point numbers, and so JSON numbers of all clients, are exact up to here.
MAX_SECONDS = 2**53


@dataclass(frozen=True)
class Profile:
    """The part of a token or of a userinfo response that this service uses. None stands for a claim that is missing.

    `address` is empty if the claim has no email address. The email counts if the issuer has verified it.
    """

    address: str | None = None
    is_verified: bool | None = None
    entitlements: frozenset[str] | None = None

    @property
    def email(self) -> str | None:
        return self.address if self.address and self.is_verified else None

    @property
    def lacks_email(self) -> bool:
        return self.address is None or self.is_verified is None

    def completed_by(self, more: "Profile") -> "Profile":
        """Return this profile with the missing parts from another one. An email and its verification stay together."""
        source = more if self.lacks_email and more.address is not None else self
        entitlements = more.entitlements if self.entitlements is None else self.entitlements
        return Profile(source.address, source.is_verified, entitlements)


@dataclass(frozen=True)
class ClaimNames:
    """The claims of one issuer that hold the email and the entitlements (settings `OIDC_ISSUERS`).

    With `trust_email`, each email counts as verified. With `object_keys`, the names in an object are the entitlements.
    """

    entitlements: str | None = None
    email: str = "email"
    trust_email: bool = False
    object_keys: bool = False

    def profile_of(self, claims: Claims) -> Profile:
        """Return the profile of the claims of a token or of a userinfo response."""
        address = value_at(claims, self.email)
        is_verified = True if self.trust_email else verification(claims.get("email_verified"))
        return Profile(address_of(address), is_verified, self.entitlements_in(claims))

    def entitlements_in(self, claims: Claims) -> frozenset[str] | None:
        """Return the groups or roles: a list of strings, one string or, with `object_keys`, the names in an object.

        Other types count as none.
        """
        value = value_at(claims, self.entitlements) if self.entitlements else None
        if value is None:
            return None
        is_collection = isinstance(value, list) or (self.object_keys and isinstance(value, Mapping))
        return frozenset(item for item in (value if is_collection else [value]) if is_text(item))

    def hides_entitlements(self, claims: Claims) -> bool:
        """Return whether the entitlements are an object that `object_keys` would read."""
        return bool(
            self.entitlements and not self.object_keys and isinstance(value_at(claims, self.entitlements), Mapping)
        )

    def missing_email(self, profile: Profile) -> str:
        """Return the reason why a profile has no email, with advice."""
        if profile.address is None:
            return (
                f"The provider gave no email: the claim {self.email} is missing. Request the scope that adds it. If "
                "that does not help, the operators of this service can let the provider add the claim, or name another "
                'one ("email" in OIDC_ISSUERS).'
            )
        if not profile.address:
            return (
                f"The claim {self.email} has no email address. The operators of this service can correct it at the "
                'provider, or name another claim ("email" in OIDC_ISSUERS).'
            )
        if profile.is_verified is None:
            return (
                "The provider does not state that it has verified your email: the claim email_verified is missing. "
                "The operators of this service can let the provider add it or, if the provider verifies all "
                'addresses, trust them ("trust_email" in OIDC_ISSUERS).'
            )
        return (
            "The provider has not verified your email (claim email_verified). Verify it there, then log in again or "
            "get a new token."
        )


def value_at(claims: Claims, path: str) -> Any:
    """Return the value at a path such as `realm_access/roles`, or None.

    Names may hold slashes (`https://…/groups`). In each object, the longest name that fits takes precedence.
    """
    if path in claims:
        return claims[path]
    parts = path.split("/")
    for length in range(len(parts) - 1, 0, -1):
        inner = claims.get("/".join(parts[:length]))
        value = value_at(inner, "/".join(parts[length:])) if isinstance(inner, Mapping) else None
        if value is not None:
            return value
    return None


def verification(value: Any) -> bool | None:
    """Return whether `email_verified` is true (OpenID Connect Core 1.0, section 5.1), or None if it is missing."""
    if value is None:
        return None
    # Some issuers send the boolean as a string.
    return value is True or (isinstance(value, str) and value.lower() == "true")


def address_of(value: Any) -> str | None:
    if value is None:
        return None
    is_address = is_text(value) and "@" in value and value.isprintable() and " " not in value
    return value if is_address else ""


def audiences(value: Any) -> list[str] | None:
    """Return the audiences in a claim `aud`, a string or a list of strings (RFC 7519, section 4.1.3), else None."""
    values = value if isinstance(value, list) else [value]
    return values if all(isinstance(item, str) for item in values) else None


def is_time(value: Any) -> bool:
    """Return whether a claim is a number of seconds that fits a date (NumericDate in RFC 7519, section 2)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_SECONDS


def is_text(value: Any) -> TypeGuard[str]:
    """Return whether a claim is a non-empty string that can be stored."""
    return isinstance(value, str) and bool(value) and text_problem(value) is None
