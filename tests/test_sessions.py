"""Browser sessions: login at an OpenID provider, access, renewal, and logout."""

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib import auth
from django.contrib.sessions.models import Session
from django.utils.encoding import iri_to_uri
from pytest_django import Settings

from accounts import fetching, unfinished_logins
from accounts.claims import Profile
from accounts.exceptions import IssuerUnavailable
from accounts.issuers import TrustedIssuer
from accounts.models import User
from accounts.provider import provider as configured_provider
from accounts.unfinished_logins import MAX_ADDRESS_CHARACTERS, MAX_LOGINS, PREFIX
from core.api import rate_limits
from core.api.throttling import RENEWALS_PER_LOGIN
from core.models import RequestCount
from core.mongodb.documents import mongodb
from experiments.models import Experiment
from tests.caller import Client
from tests.provider import SigningKey
from tests.relying_party import CLIENT_ID, CLIENT_SECRET, LoginProvider, Person

HTML = {"Accept": "text/html"}
PASSWORD = "correct horse battery"
NO_EMAIL = {"email": None, "email_verified": None}


@pytest.fixture(scope="module")
def openid_server() -> Iterator[LoginProvider]:
    server = LoginProvider()
    yield server
    server.stop()


@pytest.fixture
def openid(openid_server: LoginProvider, settings: Settings) -> Iterator[LoginProvider]:
    """The provider of the browser login."""
    settings.OIDC_ISSUERS = [{"issuer": openid_server.issuer, "entitlements": "realm_access/roles"}]
    settings.OIDC_RP_ISSUER = openid_server.issuer
    settings.OIDC_RP_CLIENT_ID = CLIENT_ID
    settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
    configured_provider.cache_clear()
    yield openid_server
    configured_provider.cache_clear()


class Browser:
    """A browser with cookies. The tests follow its redirects to the provider and back."""

    def __init__(self, openid: LoginProvider) -> None:
        self.openid = openid
        self.client = Client(enforce_csrf_checks=True, raise_request_exception=False)

    def get(self, address: str, **query: str) -> Any:
        return self.client.get(address, query, headers=HTML)

    def begin(self, **query: str) -> dict[str, str]:
        """Follow the redirect to the provider, and return the query parameters of its redirect back."""
        return self.openid.authorize(self.get("/login/provider", **query).headers["Location"])

    def come_back(self, sent: dict[str, str]) -> Any:
        return self.get("/login/callback", **sent)

    @property
    def unfinished_logins(self) -> list[str]:
        """The cookies of logins that the browser has not completed, the oldest first."""
        return [name for name, cookie in self.client.cookies.items() if name.startswith(PREFIX) and cookie.value]

    def log_in(self, person: Person, **query: str) -> Any:
        self.openid.person = person
        return self.come_back(self.begin(**query))

    def follow_renewal(self, response: Any) -> Any:
        """The final address of a request that is redirected through the provider."""
        assert response.headers["Location"].startswith(f"{self.openid.issuer}/authorization?")
        return self.come_back(self.openid.authorize(response.headers["Location"]))

    def make_renewal_due(self) -> None:
        session = self.client.session
        session["claims"] |= {"renew_at": time.time() - 1}
        session.save()

    @property
    def is_logged_in(self) -> bool:
        return auth.SESSION_KEY in self.client.session

    def post(self, path: str, body: Any = None, csrf: bool = True) -> Any:
        """A request to the API as from a page's script."""
        self.get("/login")  # sets the CSRF cookie
        headers = {"X-CSRFToken": self.client.cookies["csrftoken"].value} if csrf else {}
        return self.client.post(f"/api/v1{path}", body, content_type="application/json", headers=headers)


@pytest.fixture
def browser(openid: LoginProvider) -> Browser:
    return Browser(openid)


# Login


def test_a_first_login_registers_the_user_and_returns_to_the_page(browser: Browser, openid: LoginProvider) -> None:
    response = browser.log_in(Person("ada"), next="/admin/?q=1")
    assert response.status_code == 302
    assert response.headers["Location"] == "/admin/?q=1"
    [user] = User.objects.all()
    assert (user.issuer, user.subject, user.email) == (openid.issuer, "ada", "ada@example.org")
    assert "ada@example.org" in browser.get("/").content.decode()
    assert browser.client.get("/api/v1/user/self").json()["subject"] == "ada"


def test_a_later_login_finds_the_user_by_issuer_and_subject_and_updates_the_email(
    browser: Browser, openid: LoginProvider
) -> None:
    namesake = User.objects.create(issuer="https://other.example", subject="ada", email="ada@example.org")
    user = User.objects.create(issuer=openid.issuer, subject="ada", email="old@example.org")
    browser.log_in(Person("ada"))
    user.refresh_from_db()
    assert user.email == "ada@example.org"
    assert browser.client.session[auth.SESSION_KEY] == str(user.pk) != str(namesake.pk)
    assert User.objects.count() == 2


def test_a_login_gives_the_session_a_new_key(browser: Browser) -> None:
    browser.openid.person = Person("ada")
    sent = browser.begin()
    before = browser.client.session.session_key
    browser.come_back(sent)
    assert browser.client.session.session_key != before


def test_claims_that_the_id_token_lacks_come_from_userinfo(browser: Browser) -> None:
    at_userinfo = {"email": "ada@example.org", "email_verified": True, "realm_access": {"roles": ["admins"]}}
    browser.log_in(Person("ada", id_token={"email": None, "realm_access": None}, userinfo=at_userinfo))
    assert browser.get("/admin/").status_code == 200


@pytest.mark.parametrize("lacking", [NO_EMAIL, {"realm_access": None}], ids=["email", "entitlements"])
def test_a_login_uses_signed_userinfo(lacking: dict[str, Any], browser: Browser, openid: LoginProvider) -> None:
    info = {"sub": "ada", "email": "ada@example.org", "email_verified": True, "realm_access": {"roles": ["users"]}}
    person = Person("ada", id_token=lacking, userinfo=openid.sign(info | {"iss": openid.issuer, "aud": CLIENT_ID}))
    assert browser.log_in(person).status_code == 302
    assert browser.is_logged_in


def test_a_login_refuses_signed_userinfo_of_another_key(browser: Browser, openid: LoginProvider) -> None:
    info = {"sub": "ada", "email": "ada@example.org", "email_verified": True}
    forged = openid.sign(info, SigningKey(openid.keys[0].key_id))
    response = browser.log_in(Person("ada", id_token=NO_EMAIL, userinfo=forged))
    assert response.status_code == 400
    assert "Signature verification failed" in response.content.decode()


def test_a_login_with_too_narrow_a_scope_for_userinfo_has_no_entitlements(browser: Browser, settings: Settings) -> None:
    person = Person("ada", id_token={"realm_access": None}, userinfo=403)
    assert browser.log_in(person).status_code == 403
    settings.OIDC_USER_ENTITLEMENTS = []
    assert browser.log_in(person).status_code == 302
    assert browser.client.get("/api/v1/entitlements").json() == {"items": []}


def test_a_login_requests_no_userinfo_for_claims_that_are_present(browser: Browser, settings: Settings) -> None:
    settings.OIDC_USER_ENTITLEMENTS = []
    browser.openid.requests.clear()
    assert browser.log_in(Person("ada", ())).status_code == 302
    assert "/userinfo" not in browser.openid.requests


def test_a_login_trusts_emails_of_a_provider_as_configured(browser: Browser, settings: Settings) -> None:
    person = Person("ada", id_token={"email_verified": None, "upn": "ada@corp.example"})
    response = browser.log_in(person)
    assert response.status_code == 400
    assert "the claim email_verified is missing." in response.content.decode()
    settings.OIDC_ISSUERS = [settings.OIDC_ISSUERS[0] | {"trust_email": True, "email": "upn"}]
    configured_provider.cache_clear()
    assert browser.log_in(person).status_code == 302
    assert User.objects.get().email == "ada@corp.example"


BASIC, POST = "client_secret_basic", "client_secret_post"


@pytest.mark.parametrize(
    ("offered", "configured", "used"),
    [
        ([POST, BASIC], "", BASIC),
        ([BASIC], "", BASIC),
        (None, "", BASIC),
        ([POST], "", POST),
        (["private_key_jwt", POST], "", POST),
        ([POST, BASIC], POST, POST),
        ([POST], BASIC, BASIC),
        ("client_secret_post", "", BASIC),
    ],
)
def test_the_clients_secret_is_sent_in_a_way_that_the_provider_offers_basic_first(
    offered: Any, configured: str, used: str, browser: Browser, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser.openid, "auth_methods", offered)
    settings.OIDC_RP_AUTH_METHOD = configured
    browser.openid.used_methods.clear()
    assert browser.log_in(Person("ada")).status_code == 302
    assert browser.openid.used_methods == [used]


def test_the_provider_gets_no_request_before_a_login(browser: Browser, openid: LoginProvider) -> None:
    openid.requests.clear()
    browser.get("/login")
    browser.get("/")
    assert not openid.requests
    browser.log_in(Person("ada"))
    openid.requests.clear()
    browser.get("/")
    assert not openid.requests


@pytest.mark.parametrize(
    ("person", "sentence"),
    [
        (Person("ada", id_token={"nonce": "of another login"}), "the response of another login"),
        (Person("ada", id_token={"nonce": None}), "the response of another login"),
        (Person("ada", id_token={"nonce": "\ud800"}), "the response of another login"),
        (Person("ada", tokens={"id_token": "\ud800"}), "The token is not an ASCII text."),
        (Person("ada", tokens={"id_token": "n" * 5_000}), "The token is not valid"),
        (Person("ada", id_token={"email": "ada\n@example.org"}), "The claim email has no email address."),
        (Person("ada", id_token={"aud": "another-client"}), "Audience doesn&#x27;t match"),
        (Person("ada", id_token={"aud": [CLIENT_ID, "b"], "azp": "b"}), "a response for another service"),
        (Person("ada", id_token={"iss": "https://evil.example"}), "Invalid issuer"),
        (Person("ada", id_token={"exp": 1}), "Signature has expired"),
        (Person("ada", id_token={"email_verified": False}), "has not verified your email"),
        (Person("ada", id_token=NO_EMAIL, userinfo={"sub": "eve"}), "responded for another subject"),
    ],
)
def test_a_response_to_another_login_is_refused(browser: Browser, person: Person, sentence: str) -> None:
    response = browser.log_in(person)
    assert response.status_code == 400
    assert sentence in response.content.decode()
    assert not browser.is_logged_in
    assert not User.objects.exists()


@pytest.mark.parametrize("token", ["\ud800", "a\nb", "größe"])
def test_an_access_token_that_fits_no_header_is_none(browser: Browser, token: str) -> None:
    response = browser.log_in(Person("ada", id_token=NO_EMAIL, tokens={"access_token": token}))
    assert response.status_code == 503
    assert "the token endpoint returned no access token." in response.content.decode()


@pytest.mark.parametrize("text", ["\ud800", "\0", "e" * 5_000])
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"])
def test_an_address_that_the_provider_cannot_have_is_a_failure_of_the_provider(
    browser: Browser, openid: LoginProvider, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    respond = openid.response

    def response(path: str, authorization: str) -> Any:
        document = respond(path, authorization)
        return {**document, name: f"https://127.0.0.1:1/{text}"} if "well-known" in path else document  # type: ignore[dict-item]

    openid.person = Person("ada", id_token=NO_EMAIL)
    monkeypatch.setattr(openid, "response", response)
    begun = browser.get("/login/provider")
    if begun.status_code == 302 and name != "authorization_endpoint":
        begun = browser.come_back(openid.authorize(begun.headers["Location"]))
    assert begun.status_code == (302 if name == "authorization_endpoint" and text[0] == "e" else 503)
    begun.content.decode()


def test_an_id_token_of_another_key_is_refused(browser: Browser, openid: LoginProvider) -> None:
    openid.signing_key = SigningKey(openid.keys[0].key_id)
    try:
        response = browser.log_in(Person("ada"))
    finally:
        openid.signing_key = None
    assert response.status_code == 400
    assert "Signature verification failed" in response.content.decode()


def test_a_state_of_another_browser_is_refused_and_ends_no_session(browser: Browser, openid: LoginProvider) -> None:
    browser.log_in(Person("ada"))
    openid.person = Person("eve")
    sent = Browser(openid).begin()
    for forged in (sent, {"error": "login_required"}, {"code": sent["code"], "state": "made up"}, {}):
        response = browser.come_back(forged)
        assert response.status_code == 400
        assert "started in another browser" in response.content.decode()
    assert "ada@example.org" in browser.get("/").content.decode()


def test_a_response_is_accepted_once(browser: Browser, openid: LoginProvider) -> None:
    openid.person = Person("ada")
    sent = browser.begin()
    assert browser.come_back(sent).status_code == 302
    assert browser.come_back(sent).status_code == 400


def test_a_code_that_was_used_elsewhere_is_refused(browser: Browser, openid: LoginProvider) -> None:
    openid.person = Person("ada")
    used = browser.begin()
    assert browser.come_back(used).status_code == 302
    response = browser.come_back(browser.begin() | {"code": used["code"]})
    assert response.status_code == 400
    assert "refused to complete the login" in response.content.decode()
    assert not browser.is_logged_in


def test_a_code_of_another_browser_fails_without_its_verifier(browser: Browser, openid: LoginProvider) -> None:
    openid.person = Person("eve")
    stolen = Browser(openid).begin()
    response = browser.come_back(browser.begin() | {"code": stolen["code"]})
    assert response.status_code == 400
    assert not browser.is_logged_in


def test_a_code_is_ignored_beside_a_password_login(browser: Browser, openid: LoginProvider) -> None:
    openid.person = Person("eve", id_token={"nonce": "None"})
    sent = Browser(openid).begin()
    browser.get("/login")
    address = f"/login?code={sent['code']}&state={sent['state']}"
    form = {"username": "x", "password": "y", "csrfmiddlewaretoken": browser.client.cookies["csrftoken"].value}
    assert browser.client.post(address, form).status_code == 200
    assert not browser.is_logged_in
    assert sent["code"] in openid.codes


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x"])
def test_a_login_never_redirects_to_another_host(browser: Browser, address: str) -> None:
    assert browser.log_in(Person("ada"), next=address).headers["Location"] == "/"
    User.objects.create_superuser("root", "root@example.org", PASSWORD)
    form = {"username": "root", "password": PASSWORD, "next": address}
    form["csrfmiddlewaretoken"] = browser.get("/login", next=address).context["csrf_token"]
    assert browser.client.post("/login", form).headers["Location"] == "/"


def test_a_cancelled_login_is_explained(browser: Browser, openid: LoginProvider) -> None:
    openid.person = Person("ada")
    response = browser.come_back({"error": "access_denied", "state": browser.begin()["state"]})
    assert response.status_code == 400
    assert "access_denied" in response.content.decode()


def test_the_text_of_an_unknown_error_is_quoted_and_escaped(
    browser: Browser, openid: LoginProvider, caplog: pytest.LogCaptureFixture
) -> None:
    openid.person = Person("ada")
    response = browser.come_back({"error": "x\n2026-11-28 ERROR root: " + "!" * 99, "state": browser.begin()["state"]})
    assert response.status_code == 400
    quoted = "the unknown error 'x\\n2026-11-28 ERROR root: " + "!" * 25 + "'."
    assert f"Login refused: The login provider did not log you in: {quoted}" in caplog.messages


def test_a_user_without_a_user_entitlement_is_refused_and_not_registered(browser: Browser) -> None:
    response = browser.log_in(Person("ada", ("guests",)))
    assert response.status_code == 403
    assert "none of your groups may use this service" in response.content.decode()
    assert not browser.is_logged_in
    assert not User.objects.exists()


def test_a_deactivated_user_cannot_log_in_and_is_logged_out_at_once(browser: Browser) -> None:
    browser.log_in(Person("ada"))
    User.objects.update(is_active=False)
    assert "ada@example.org" not in browser.get("/").content.decode()
    assert browser.log_in(Person("ada")).status_code == 403


def test_an_unavailable_provider_is_reported_on_a_page(browser: Browser, settings: Settings) -> None:
    settings.OIDC_RP_ISSUER = "http://127.0.0.1:9"
    configured_provider.cache_clear()
    response = browser.get("/login/provider")
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert "The login with the provider failed." in response.content.decode()


def test_without_a_provider_the_login_page_explains_how_to_make_a_local_account(settings: Settings) -> None:
    configured_provider.cache_clear()
    assert "Continue with" not in Client().get("/login").content.decode()
    assert Client().get("/login/provider").status_code == 400


def test_mongodb_deletes_sessions_when_they_expire() -> None:
    indexes = mongodb().database[Session._meta.db_table].index_information()
    [expiring] = [index for index in indexes.values() if "expireAfterSeconds" in index]
    assert (expiring["key"], expiring["expireAfterSeconds"]) == ([("expire_date", 1)], 0)


# Unfinished logins


def test_an_unfinished_login_is_a_cookie_of_its_browser_and_no_session(browser: Browser, settings: Settings) -> None:
    settings.SESSION_COOKIE_SECURE = True
    response = browser.get("/login/provider")
    [(name, cookie)] = response.cookies.items()
    assert name.startswith("login_")
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"]) == (True, True, "Lax")
    assert 0 < cookie["max-age"] <= 600
    assert not Session.objects.exists()
    browser.openid.person = Person("ada")
    browser.come_back(browser.openid.authorize(response.headers["Location"]))
    assert browser.is_logged_in
    assert not browser.unfinished_logins
    assert Session.objects.count() == 1


@pytest.mark.parametrize(
    ("person", "status"), [(Person("ada", ("guests",)), 403), (Person("ada", id_token={"nonce": "of another"}), 400)]
)
def test_a_refused_login_leaves_no_session_and_no_cookie(browser: Browser, person: Person, status: int) -> None:
    assert browser.log_in(person).status_code == status
    assert not browser.unfinished_logins
    assert not Session.objects.exists()


def test_a_login_that_the_provider_breaks_off_leaves_no_session(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def userinfo(self: Any, token: str, claims: Any) -> Any:
        raise IssuerUnavailable("the userinfo endpoint does not respond.")

    monkeypatch.setattr(TrustedIssuer, "userinfo", userinfo)
    response = browser.log_in(Person("ada", id_token=NO_EMAIL))
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert not Session.objects.exists()


def test_few_logins_wait_for_a_slow_provider(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.openid.person = Person("ada")
    sent = browser.begin()
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.01)
    with ExitStack() as others:
        for _ in range(fetching.MAX_WAITING):
            others.enter_context(configured_provider().waiting.admit())
        browser.openid.requests.clear()
        response = browser.come_back(sent)
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert not browser.openid.requests
    assert not Session.objects.exists()


def test_a_login_waits_for_its_provider_for_a_limited_time(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def userinfo(self: Any, token: str, claims: Any) -> Any:
        left.append(fetching.deadline.get(float("inf")) - time.monotonic())
        return Profile()

    left: list[float] = []
    monkeypatch.setattr(TrustedIssuer, "userinfo", userinfo)
    browser.log_in(Person("ada", id_token=NO_EMAIL))
    assert left
    assert left[0] <= 5


def test_an_unfinished_login_expires(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.openid.person = Person("ada")
    sent = browser.begin()
    monkeypatch.setattr(unfinished_logins, "LIFETIME_SECONDS", -1)
    assert browser.come_back(sent).status_code == 400
    assert not browser.is_logged_in


def test_the_cookie_of_one_login_is_not_accepted_for_another(browser: Browser) -> None:
    browser.openid.person = Person("ada")
    first, second = browser.begin(), browser.begin()
    browser.client.cookies[PREFIX + second["state"]] = browser.client.cookies[PREFIX + first["state"]].value
    assert browser.come_back(second).status_code == 400
    assert browser.come_back(first).status_code == 302


def test_a_browser_keeps_its_newest_logins(browser: Browser) -> None:
    browser.openid.person = Person("ada")
    browser.client.cookies[f"{PREFIX}forged"] = "a value without a signature"
    sent = [browser.begin() for _ in range(MAX_LOGINS + 1)]
    assert browser.unfinished_logins == [PREFIX + each["state"] for each in sent[1:]]
    assert browser.come_back(sent[0]).status_code == 400
    assert browser.come_back(sent[1]).status_code == 302


def test_the_cookies_of_logins_are_small(browser: Browser) -> None:
    browser.openid.person = Person("ada")
    # Random text does not compress. JSON adds quotes.
    address = f"/experiments?q={secrets.token_urlsafe(MAX_ADDRESS_CHARACTERS)[: MAX_ADDRESS_CHARACTERS - 17]}"
    sent = [browser.begin(next=address) for _ in range(MAX_LOGINS)]
    assert len(browser.client.cookies.output(header="", attrs=[])) < 8000
    assert browser.come_back(sent[0]).headers["Location"] == address
    assert browser.log_in(Person("ada"), next=f"{address}longer").headers["Location"] == "/experiments"
    assert browser.log_in(Person("ada"), next=f"/{'a' * MAX_ADDRESS_CHARACTERS}").headers["Location"] == "/"


def test_the_cookies_of_logins_are_small_in_every_alphabet(browser: Browser) -> None:
    address = "".join(chr(0x4E00 + secrets.randbelow(20_000)) for _ in range(MAX_ADDRESS_CHARACTERS // 6 - 5))
    for _ in range(MAX_LOGINS):
        sent = browser.begin(next=f"/{address}")
    assert len(browser.client.cookies.output(header="", attrs=[])) < 8000
    assert iri_to_uri(f"/{address}") == browser.come_back(sent).headers["Location"]
    assert browser.log_in(Person("ada"), next=f"/{address * 2}").headers["Location"] == "/"


def test_cookies_with_any_name_prevent_no_login(browser: Browser) -> None:
    names = [f"{PREFIX}{state}" for state in ("a@b", "a b", "é", "", "a/b", "[]")]
    cookies = "; ".join(f"{name}=value" for name in names)
    response = browser.client.get("/login/provider", headers=HTML | {"Cookie": cookies})
    assert response.status_code == 302


@pytest.mark.parametrize("address", ["//[", "http://[a", "\x00", "\ud7ff\ufffd"])
def test_an_address_that_is_malformed_leads_to_the_home_page(browser: Browser, address: str) -> None:
    assert browser.log_in(Person("ada"), next=address).headers["Location"] == "/"


@pytest.fixture
def login_limit(settings: Settings) -> Iterator[None]:
    settings.RATE_LIMIT_LOGIN = "3/day"
    rate_limits.limiter.cache_clear()
    yield
    rate_limits.limiter.cache_clear()
    mongodb().database[RequestCount._meta.db_table].delete_many({})


def assert_too_many(response: Any) -> None:
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    assert "<h1>Too many requests</h1>" in response.content.decode()


@pytest.mark.usefixtures("login_limit")
def test_logins_at_the_provider_are_limited_by_address(browser: Browser) -> None:
    assert {browser.log_in(Person("ada")).status_code for _ in range(3)} == {302}
    browser.openid.requests.clear()
    assert_too_many(browser.get("/login/provider"))
    assert_too_many(browser.come_back({"code": "a guess", "state": "a guess"}))
    assert not browser.openid.requests
    assert browser.client.get("/login/provider", REMOTE_ADDR="192.0.2.9").status_code == 302


@pytest.mark.usefixtures("login_limit")
def test_silent_renewals_do_not_count_as_logins(browser: Browser) -> None:
    browser.log_in(Person("ada"))
    for _ in range(4):
        browser.make_renewal_due()
        assert browser.follow_renewal(browser.get("/")).headers["Location"] == "/"


@pytest.mark.usefixtures("login_limit")
def test_a_renewal_that_is_sent_again_and_again_is_limited(browser: Browser) -> None:
    browser.log_in(Person("ada"))
    browser.make_renewal_due()
    sent = browser.openid.authorize(browser.get("/").headers["Location"])
    cookies = {name: browser.client.cookies[name] for name in browser.unfinished_logins}
    statuses = []
    for _ in range(3 * RENEWALS_PER_LOGIN):
        browser.client.cookies.update(cookies)
        statuses.append(browser.come_back(sent).status_code)
    assert statuses == [302, *[400] * (3 * RENEWALS_PER_LOGIN - 1)]
    browser.client.cookies.update(cookies)
    assert_too_many(browser.come_back(sent))


# Access


def test_the_entitlement_and_not_a_stored_flag_makes_an_administrator(browser: Browser) -> None:
    browser.log_in(Person("ada", ("admins",)))
    assert browser.get("/admin/accounts/user/").status_code == 200
    assert not User.objects.get().is_superuser

    browser.log_in(Person("ada"))
    User.objects.update(is_superuser=True)
    response = browser.get("/admin/accounts/user/")
    assert response.status_code == 403
    assert "ada@example.org is not staff" in response.content.decode()


def test_the_api_accepts_a_session_and_requires_its_csrf_token(browser: Browser) -> None:
    browser.log_in(Person("ada"))
    refused = browser.post("/experiment", {"name": "wine"}, csrf=False)
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["message"]
    made = browser.post("/experiment", {"name": "wine"})
    assert made.status_code == 201
    assert browser.client.get(f"/api/v1/experiment/{made.json()['id']}").status_code == 200
    assert browser.client.get("/api/v1/entitlements").json() == {"items": ["users"]}
    assert browser.post("/user/search", {}).status_code == 403


def test_a_bearer_token_takes_precedence_over_the_session(browser: Browser, openid: LoginProvider) -> None:
    browser.log_in(Person("ada"))
    token = openid.token("eve", "users")
    response = browser.client.get("/api/v1/user/self", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 403
    assert "not registered" in response.json()["message"]


def test_a_local_administrator_logs_in_with_a_password_and_has_every_permission(browser: Browser) -> None:
    Experiment.objects.create(name="nobody's")
    User.objects.create_superuser("root", "root@example.org", PASSWORD)
    form = {"username": "root", "password": PASSWORD, "next": "/admin/"}
    form["csrfmiddlewaretoken"] = browser.get("/login").context["csrf_token"]
    assert browser.client.post("/login", form).headers["Location"] == "/admin/"
    assert browser.get("/admin/").status_code == 200
    assert len(browser.post("/experiment/search", {}).json()) == 1


def test_a_session_of_an_issuer_that_is_no_longer_configured_is_refused(browser: Browser, settings: Settings) -> None:
    browser.log_in(Person("ada"))
    settings.OIDC_RP_ISSUER = ""
    configured_provider.cache_clear()
    assert browser.client.get("/api/v1/user/self").status_code == 401
    browser.make_renewal_due()
    assert "Logged in" not in browser.get("/").content.decode()


# Renewal


def test_a_page_is_redirected_through_the_provider_when_renewal_is_due(browser: Browser) -> None:
    browser.log_in(Person("ada"))
    token, key = browser.client.cookies["csrftoken"].value, browser.client.session.session_key
    browser.make_renewal_due()
    response = browser.get("/admin/", q="1")
    assert dict(parse_qsl(urlsplit(response.headers["Location"]).query))["prompt"] == "none"
    assert browser.follow_renewal(response).headers["Location"] == "/admin/?q=1"
    assert browser.client.session["claims"]["renew_at"] > time.time()
    assert (browser.client.cookies["csrftoken"].value, browser.client.session.session_key) == (token, key)


def test_any_other_request_is_anonymous_while_renewal_is_due(browser: Browser) -> None:
    browser.log_in(Person("ada", ("admins",)))
    browser.make_renewal_due()
    assert browser.client.get("/api/v1/user/self").status_code == 401
    assert browser.post("/experiment", {"name": "wine"}).status_code == 401
    assert browser.client.get("/admin/").headers["Location"].startswith("/admin/login/")


def test_a_page_is_shown_as_to_a_visitor_while_the_provider_is_unavailable(
    openid: LoginProvider, settings: Settings
) -> None:
    passing = LoginProvider()
    settings.OIDC_RP_ISSUER = passing.issuer
    settings.OIDC_RP_ENTITLEMENTS = "realm_access/roles"
    browser = Browser(passing)
    browser.log_in(Person("ada", ("admins",)))
    assert browser.get("/admin/").status_code == 200
    passing.stop()
    configured_provider.cache_clear()
    browser.make_renewal_due()
    assert "Logged in" not in browser.get("/").content.decode()
    assert browser.get("/admin/").headers["Location"].startswith("/admin/login/")


def test_renewal_removes_a_lost_entitlement(browser: Browser, openid: LoginProvider) -> None:
    browser.log_in(Person("ada", ("admins",)))
    assert browser.get("/admin/").status_code == 200
    openid.person = Person("ada", ("users",))
    browser.make_renewal_due()
    browser.follow_renewal(browser.get("/admin/"))
    assert browser.get("/admin/").status_code == 403
    assert browser.client.get("/api/v1/entitlements").json() == {"items": ["users"]}


def test_renewal_logs_out_a_user_who_is_no_longer_admitted(browser: Browser, openid: LoginProvider) -> None:
    browser.log_in(Person("ada"))
    openid.person = Person("ada", ())
    browser.make_renewal_due()
    assert browser.follow_renewal(browser.get("/")).status_code == 403
    assert not browser.is_logged_in


def test_renewal_logs_out_a_user_who_logged_out_at_the_provider(browser: Browser, openid: LoginProvider) -> None:
    browser.log_in(Person("ada"))
    openid.person = None
    browser.make_renewal_due()
    assert browser.follow_renewal(browser.get("/")).headers["Location"] == "/"
    assert not browser.is_logged_in
    assert browser.get("/").status_code == 200


def test_renewal_switches_to_the_user_now_logged_in_at_the_provider(browser: Browser, openid: LoginProvider) -> None:
    browser.log_in(Person("ada", ("admins",)))
    openid.person = Person("eve")
    browser.make_renewal_due()
    browser.follow_renewal(browser.get("/"))
    assert browser.client.get("/api/v1/user/self").json()["subject"] == "eve"
    assert browser.client.get("/api/v1/entitlements").json() == {"items": ["users"]}


def test_two_tabs_renew_and_each_returns_to_its_address(browser: Browser, openid: LoginProvider) -> None:
    browser.log_in(Person("ada"))
    browser.make_renewal_due()
    callbacks = [openid.authorize(browser.get("/", tab=tab).headers["Location"]) for tab in "ab"]
    assert [browser.come_back(sent).headers["Location"] for sent in callbacks] == ["/?tab=a", "/?tab=b"]


def test_renewal_does_not_redirect_to_another_host(browser: Browser) -> None:
    browser.log_in(Person("ada"))
    browser.make_renewal_due()
    response = browser.client.get("//evil.example/", headers=HTML)
    assert browser.follow_renewal(response).headers["Location"] in ("/", "/evil.example/")


# Logout


def test_logout_needs_a_post_and_ends_the_session_here_and_at_the_provider(
    browser: Browser, openid: LoginProvider
) -> None:
    browser.log_in(Person("ada"))
    assert browser.get("/logout").headers["Location"] == "/"
    assert "sessionid" in browser.client.cookies
    assert browser.client.post("/logout").status_code == 403
    form = {"csrfmiddlewaretoken": browser.get("/").context["csrf_token"]}
    response = browser.client.post("/logout", form)
    assert not browser.is_logged_in
    wait, _, end = response.headers["Refresh"].partition("; url=")
    assert wait == "0"
    assert end.startswith(f"{openid.issuer}/end_session?")
    sent = dict(parse_qsl(urlsplit(end).query))
    assert sent["client_id"] == CLIENT_ID
    assert sent["post_logout_redirect_uri"] == "http://testserver/"
    assert sent["id_token_hint"].count(".") == 2


def test_a_local_user_logs_out_without_a_provider(browser: Browser) -> None:
    User.objects.create_superuser("root", "root@example.org", PASSWORD)
    browser.client.login(username="root", password=PASSWORD)
    form = {"csrfmiddlewaretoken": browser.get("/").context["csrf_token"]}
    assert browser.client.post("/admin/logout/", form).headers["Location"] == "/"
    assert not browser.is_logged_in
