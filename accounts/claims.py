"""Reading of token claims, by pure functions."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from core.api.json_input import text_problem

Claims = Mapping[str, Any]


def value_at(claims: Claims, path: str) -> Any:
    """Return the value at a path such as `realm_access/roles`, or None.

    A claim named by the whole path takes precedence, since names may hold slashes (`https://…/groups`).
    """
    if path in claims:
        return claims[path]
    value: Any = claims
    for key in path.split("/"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def entitlements_at(claims: Claims, path: str | None) -> frozenset[str]:
    """Return the groups or roles at a claim path: a list of strings or one string. Other types count as none."""
    value = value_at(claims, path) if path else None
    candidates = value if isinstance(value, list) else [value]
    return frozenset(item for item in candidates if is_text(item))


def verified_email(claims: Claims) -> str | None:
    """Return the email if the issuer has verified it (OpenID Connect Core 1.0, section 5.1), else None."""
    email = claims.get("email")
    # Some issuers send the boolean as a string.
    verified = claims.get("email_verified")
    return email if (verified is True or verified == "true") and is_text(email) and "@" in email else None


def is_text(value: Any) -> TypeGuard[str]:
    """Return whether a claim is a non-empty string that can be stored."""
    return isinstance(value, str) and bool(value) and text_problem(value) is None
