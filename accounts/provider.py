"""The OpenID provider of the browser login: what mozilla-django-oidc is told of it.

Its settings `OIDC_OP_*` are read from the provider's discovery document when a login needs them,
never at an import or a start.
"""

from functools import cache
from typing import Any

from django.conf import settings
from mozilla_django_oidc.utils import import_from_settings

from accounts.issuers import IssuerUnavailable, TrustedIssuer

ENDPOINTS = {
    "OIDC_OP_AUTHORIZATION_ENDPOINT": "authorization_endpoint",
    "OIDC_OP_TOKEN_ENDPOINT": "token_endpoint",
}


class LoginRefused(Exception):
    """The login is not acceptable; the message says why and is safe to show."""


class NotAdmitted(LoginRefused):
    """The provider vouches for the person, but no claim admits them to this service."""


@cache
def provider() -> TrustedIssuer:
    """The provider, which trusts no audience but this client; raises `LoginRefused` when none is configured."""
    if not settings.OIDC_RP_ISSUER:
        raise LoginRefused("No OpenID provider is configured here (OIDC_RP_ISSUER).")
    paths = {entry["issuer"]: entry.get("entitlements") for entry in settings.OIDC_ISSUERS}
    path = paths.get(settings.OIDC_RP_ISSUER) or settings.OIDC_RP_ENTITLEMENTS
    return TrustedIssuer(settings.OIDC_RP_ISSUER, [settings.OIDC_RP_CLIENT_ID], path)


def relying_party_setting(name: str, *default: Any) -> Any:
    """mozilla-django-oidc's `get_settings`. Raises `IssuerUnavailable` when the provider must be asked and is away."""
    if name in ENDPOINTS:
        return required_endpoint(ENDPOINTS[name])
    if name == "OIDC_TOKEN_USE_BASIC_AUTH":
        # OpenID Connect Discovery 1.0, section 3: basic authentication is what every provider must take.
        methods = provider().metadata("token_endpoint_auth_methods_supported")
        return "client_secret_post" not in (methods or ["client_secret_basic"])
    return import_from_settings(name, *default)


def required_endpoint(name: str) -> str:
    address = provider().endpoint(name)
    if address is None:
        raise IssuerUnavailable(f"The discovery document of {settings.OIDC_RP_ISSUER} has no {name}.")
    return address
