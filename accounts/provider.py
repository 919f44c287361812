"""The OpenID provider of the browser login, as mozilla-django-oidc needs it.

The library's settings `OIDC_OP_*` come from the provider's discovery document. It is read when a login needs
it, never at import or start.
"""

from functools import cache
from typing import Any

from django.conf import settings
from mozilla_django_oidc.utils import import_from_settings

from accounts.exceptions import IssuerUnavailable, WithReason
from accounts.issuers import TrustedIssuer

BASIC, POST = ("client_secret_basic", "client_secret_post")
# The error codes of RFC 6749, sections 4.1.2.1 and 5.2, and of OpenID Connect Core 1.0, section 3.1.2.6.
ERRORS = frozenset(
    """access_denied account_selection_required consent_required interaction_required invalid_client invalid_grant
    invalid_request invalid_request_object invalid_request_uri invalid_scope login_required registration_not_supported
    request_not_supported request_uri_not_supported server_error temporarily_unavailable unauthorized_client
    unsupported_grant_type unsupported_response_type""".split()
)
MAX_ERROR = 50


class LoginRefused(WithReason):
    """The login is refused. The message gives the reason and is safe to show."""


class NotAdmitted(LoginRefused):
    """The provider authenticated the person, but no entitlement admits them to this service."""


@cache
def provider() -> TrustedIssuer:
    """Return the provider, with this client as the only audience. Raises `LoginRefused` if none is configured."""
    if not settings.OIDC_RP_ISSUER:
        raise LoginRefused("This service has no login provider. Log in with a local account.")
    configured = {entry["issuer"]: entry for entry in settings.OIDC_ISSUERS}.get(settings.OIDC_RP_ISSUER, {})
    path = configured.get("entitlements") or settings.OIDC_RP_ENTITLEMENTS
    login = {"issuer": settings.OIDC_RP_ISSUER, "audience": [settings.OIDC_RP_CLIENT_ID], "entitlements": path}
    return TrustedIssuer(**{**configured, **login})


def relying_party_setting(name: str, *default: Any) -> Any:
    """Replace mozilla-django-oidc's `get_settings`. Raises `IssuerUnavailable` if a needed provider is unavailable."""
    if name == "OIDC_OP_AUTHORIZATION_ENDPOINT":
        return required_endpoint("authorization_endpoint")
    return import_from_settings(name, *default)


def token_auth_method() -> str:
    """Return the way to send the client's secret: the configured one, else one that the provider offers, basic first.

    Basic authentication is the default of every provider (OpenID Connect Discovery 1.0, section 3).
    """
    if settings.OIDC_RP_AUTH_METHOD:
        return str(settings.OIDC_RP_AUTH_METHOD)
    offered = provider().discovery.metadata("token_endpoint_auth_methods_supported")
    only_post = isinstance(offered, list) and POST in offered and BASIC not in offered
    return POST if only_post else BASIC


def required_endpoint(name: str) -> str:
    address = provider().discovery.endpoint(name)
    if address is None:
        raise IssuerUnavailable(f"the discovery document of {settings.OIDC_RP_ISSUER} has no {name}.")
    return address


def error_named(code: object) -> str:
    """Return an error code of a login for a message: a known one, or the start of another text, quoted and escaped."""
    return code if isinstance(code, str) and code in ERRORS else f"the unknown error {str(code)[:MAX_ERROR]!r}"
