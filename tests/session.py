"""Browser sessions of the test users, and the forms that they see in the portal."""

from pytest_django import Settings

from accounts.sessions import PROVIDER_BACKEND, remember
from core.identity import Identity
from tests.caller import Caller, Client
from tests.provider import claims_of


def through_session(caller: Caller, settings: Settings) -> Caller:
    """The same registered user, with the session of a browser that logged in at the provider."""
    assert caller.user
    settings.OIDC_RP_ISSUER = caller.user.issuer
    claims = claims_of(str(caller.token))
    browser = Caller(user=caller.user)
    browser.client.force_login(caller.user, PROVIDER_BACKEND)
    session = browser.client.session
    entitlements = frozenset(claims["realm_access"]["roles"])
    remember(session, Identity(claims["iss"], claims["sub"], claims["email"], entitlements))
    session.save()
    return browser


def version_shown(browser: Client, path: str) -> dict[str, str]:
    """The hidden input of a form in the portal: the version of the object that the form shows."""
    return {"_version": browser.get(path).context["adminform"].form.version}
