"""Views for login and logout."""

import logging
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any
from urllib.parse import urlencode, urlsplit

from django import forms
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView

from accounts import sessions, unfinished_logins
from accounts.exceptions import IssuerUnavailable
from accounts.models import User
from accounts.provider import LoginRefused, NotAdmitted, error_named, provider, relying_party_setting
from accounts.unfinished_logins import UnfinishedLogin
from core.api.exceptions import RETRY_SECONDS
from core.identity import ACCOUNT_DISABLED
from core.metrics import FAILED_AUTHENTICATIONS

log = logging.getLogger(__name__)

# Errors of a login that needs interaction (OpenID Connect Core 1.0, section 3.1.2.6).
INTERACTION_REQUIRED = {"login_required", "interaction_required", "consent_required", "account_selection_required"}


class LocalLoginForm(AuthenticationForm):
    """The login form of local accounts."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": "User name or password is wrong. Check upper and lower case, and try again.",
        "inactive": ACCOUNT_DISABLED,
    }
    username = UsernameField(label="User name", max_length=255, widget=forms.TextInput())


class Login(LoginView):
    """The login page: a button for the provider, if one is configured, and a form for local accounts."""

    template_name = "login.html"
    authentication_form = LocalLoginForm

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(provider=urlsplit(settings.OIDC_RP_ISSUER).hostname, **context)


def with_failure_pages(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorate a view of the login to show a failed login as a page with advice."""

    @wraps(view)
    def wrapper(request: HttpRequest) -> HttpResponse:
        try:
            return view(request)
        except NotAdmitted as refusal:
            log.warning("Login refused: %s", refusal)
            return render(request, "not_admitted.html", {"reason": refusal}, status=403)
        except LoginRefused as refusal:
            FAILED_AUTHENTICATIONS.labels("login").inc()
            log.warning("Login refused: %s", refusal)
            return render(request, "login_failed.html", {"reason": refusal}, status=400)
        except IssuerUnavailable as failure:
            log.warning("Login failed: %s", failure)
            reason = f"The login with the provider failed. Try again in a few minutes. Details: {failure}"
            response = render(request, "login_failed.html", {"reason": reason}, status=503)
            response["Retry-After"] = RETRY_SECONDS
            return response

    return never_cache(wrapper)


class ProviderLogin(OIDCAuthenticationRequestView):
    """Redirects the browser to the provider, and back to `next` after the login."""

    get_settings = staticmethod(relying_party_setting)
    is_renewal = False

    def get_extra_params(self, request: HttpRequest) -> dict[str, str]:
        return {}

    def next_address(self, request: HttpRequest) -> str:
        return request.GET.get("next", "")

    def get(self, request: HttpRequest) -> HttpResponse:
        # The base class notes the login in the session. This one is never stored: a cookie holds the login.
        aside = copy(request)
        aside.session = {}  # type: ignore[assignment]
        response: HttpResponse = super().get(aside)
        [(state, noted)] = aside.session["oidc_states"].items()
        address = unfinished_logins.short(self.next_address(request))
        login = UnfinishedLogin(noted["nonce"], noted["code_verifier"], address, self.is_renewal)
        unfinished_logins.remember(request, response, state, login)
        return response


class SilentRenewal(ProviderLogin):
    """Renews a session at the provider without interaction, and returns to the same URL."""

    is_renewal = True

    def get_extra_params(self, request: HttpRequest) -> dict[str, str]:
        return {"prompt": "none"}

    def next_address(self, request: HttpRequest) -> str:
        return request.get_full_path()


class ProviderCallback(OIDCAuthenticationCallbackView):
    """The redirect URL of the provider. A refused login ends the previous session."""

    get_settings = staticmethod(relying_party_setting)
    success_url = ""
    user: User

    def get(self, request: HttpRequest) -> HttpResponse:
        login = login_of_callback(request)
        # Checked before the session can end: any website could send a browser here.
        if login is None:
            raise LoginRefused("This login was started in another browser, or has expired. Start a new one.")
        self.success_url = address_here(request, login.address)
        try:
            return self.complete(request, login)
        except LoginRefused:
            auth.logout(request)
            raise
        except IssuerUnavailable:
            # The library puts the ID token into the session before the login is complete.
            request.session.modified = False
            raise

    def complete(self, request: HttpRequest, login: UnfinishedLogin) -> HttpResponse:
        """Exchange the code for the user. The base class would look for the login in the session."""
        if "error" in request.GET or not request.GET.get("code"):
            auth.logout(request)
            return self.login_failure()
        user = auth.authenticate(request, nonce=login.nonce, code_verifier=login.code_verifier)
        if not isinstance(user, User):
            return self.login_failure()
        self.user = user
        return self.login_success()

    def login_success(self) -> HttpResponse:
        response: HttpResponse = super().login_success()
        assert self.user.identity
        sessions.remember(self.request.session, self.user.identity)
        return response

    def login_failure(self) -> HttpResponse:
        """Handle a redirect without a code; `error` is from RFC 6749 or OpenID Connect Core 1.0."""
        error = self.request.GET.get("error")
        if error in INTERACTION_REQUIRED:
            return HttpResponseRedirect(self.success_url)
        reason = error_named(error) if error else "it sent no code"
        raise LoginRefused(f"The login provider did not log you in: {reason}.")


def forgets_login(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorate the callback to delete the browser's cookie of its login, whether the login succeeds or fails.

    A client that keeps the cookie may send it again until it expires. The provider accepts a code once.
    """

    @wraps(view)
    def wrapper(request: HttpRequest) -> HttpResponse:
        response = view(request)
        if login_of_callback(request):
            unfinished_logins.forget(response, request.GET["state"])
        return response

    return wrapper


def login_of_callback(request: HttpRequest) -> UnfinishedLogin | None:
    return unfinished_logins.find(request, request.GET.get("state", ""))


def completes_renewal(request: HttpRequest) -> bool:
    """Return whether a callback completes the silent renewal of a session."""
    login = login_of_callback(request)
    return login is not None and login.is_renewal


def address_here(request: HttpRequest, address: str) -> str:
    """Return the URL if it is on this host, else that of the home page."""
    safe = url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())
    return address if safe else "/"


@never_cache
def logout(request: HttpRequest) -> HttpResponse:
    """End the session, also at the provider if it supports OpenID Connect RP-Initiated Logout 1.0.

    Only the form of the button ends it: a link that leads here shows the home page.
    """
    if request.method != "POST":
        return redirect(settings.LOGOUT_REDIRECT_URL)
    end = end_of_provider_session(request) if sessions.is_of_provider(request.session) else None
    auth.logout(request)
    if end is None:
        return redirect(settings.LOGOUT_REDIRECT_URL)
    # A redirect would fail: the content security policy forbids forms to lead to another site.
    response = render(request, "logged_out.html", {"end": end, "provider": urlsplit(end).hostname})
    response["Refresh"] = f"0; url={end}"
    return response


def end_of_provider_session(request: HttpRequest) -> str | None:
    try:
        endpoint = provider().discovery.endpoint("end_session_endpoint")
    except (IssuerUnavailable, LoginRefused):
        return None
    parameters = {
        "client_id": settings.OIDC_RP_CLIENT_ID,
        "id_token_hint": request.session.get("oidc_id_token", ""),
        "post_logout_redirect_uri": request.build_absolute_uri("/"),
    }
    return endpoint and f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"
