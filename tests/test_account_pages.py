"""The account page and the token pages: the user's identity and rights, and tokens that are shown once."""

import datetime
import html
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from pytest_django import Settings

from accounts.models import ServiceToken
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.conftest import GROUP
from tests.session import through_session

TOKENS = "/account/tokens"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def browser(watcher: Caller, settings: Settings) -> Client:
    """The watcher's browser, whose login carried their entitlements."""
    assert watcher.user
    watcher.user.note_entitlements({"users", GROUP}, issued_at=1)
    return through_session(watcher, settings).client


def make(client: Client, **fields: Any) -> Any:
    form = {"name": "nightly", "days": "30", "level": "Read", **fields}
    return client.post(TOKENS, urlencode(form, doseq=True), content_type=FORM)


def secret_in(page: Any) -> str:
    found = re.search(r'<pre class="secret" id="token"[^>]*>([^<]+)</pre>', page.content.decode())
    assert found
    return found[1]


def test_users_see_their_identity_and_groups(browser: Client, watcher: Caller) -> None:
    page = browser.get("/account").content.decode()
    assert watcher.user
    for text in ("watcher@example.org", watcher.id, watcher.user.issuer, "watcher", GROUP, "users"):
        assert text in page
    assert "Administrator</dd>" not in page
    assert 'href="/account"' in browser.get("/experiments").content.decode()


def test_administrators_see_that_they_are_administrators(admin: Caller, settings: Settings) -> None:
    assert "Administrator</dd>" in through_session(admin, settings).client.get("/account").content.decode()


def test_a_token_is_shown_once_and_works(browser: Client, experiment: Experiment, watcher: Caller) -> None:
    made = make(browser, experiments=[str(experiment.pk), ""], entitlements=[GROUP])
    assert made.status_code == 201
    assert "no-store" in made.headers["Cache-Control"]
    secret = secret_in(made)
    command = html.unescape(made.content.decode())
    assert f'curl -s http://testserver/api/v1/user/self \\\n  -H "Authorization: Bearer {secret}"' in command
    assert Caller(secret).get("/user/self").json()["id"] == watcher.id
    assert Caller(secret).get(f"/experiment/{experiment.pk}").status_code == 200
    page = browser.get(TOKENS).content.decode()
    assert "nightly" in page
    assert secret not in page
    token = ServiceToken.objects.get()
    assert (token.level, token.experiments, token.entitlements) == ("Read", [str(experiment.pk)], [GROUP])


def test_the_home_page_links_staff_to_the_portal(browser: Client, admin: Caller, settings: Settings) -> None:
    html = {"Accept": "text/html"}
    assert "/admin/" not in browser.get("/", headers=html).content.decode()
    assert "/admin/" in through_session(admin, settings).client.get("/", headers=html).content.decode()


def test_a_short_lived_token_comes_with_its_refresh_token(browser: Client) -> None:
    page = make(browser, refresh="on").content.decode()
    assert 'id="refresh"' in page
    assert "/api/v1/token/refresh" in page
    assert "Copy both tokens now. They are not shown again." in page
    assert "The token is valid for 10 minutes." in page


def test_the_form_offers_only_what_the_maker_may_pass_on(
    admin: Caller, experiment: Experiment, browser: Client, settings: Settings
) -> None:
    page = browser.get(TOKENS).content.decode()
    assert str(experiment.pk) in page
    assert f'value="{GROUP}" checked' in page
    assert 'value="admins"' not in through_session(admin, settings).client.get(TOKENS).content.decode()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": ""}, "Name: Must not be empty."),
        ({"days": "0"}, "Expires after (days): Must be at least 1."),
        ({"days": "9" * 5000}, "Expires after (days): Must be an integer."),
        ({"days": "soon"}, "Expires after (days): Must be an integer."),
        ({"level": "Own"}, "Choose one of: Read, Edit, Manage."),
        (
            {"experiments": "wine"},
            'Add by id: "wine" is not an experiment\'s id. Copy it from the address of the experiment.',
        ),
        ({"entitlements": "admins"}, "You do not have admins"),
    ],
)
def test_an_invalid_token_is_refused_and_the_form_keeps_its_values(
    browser: Client, fields: dict[str, str], problem: str
) -> None:
    response = make(browser, **fields)
    assert response.status_code == 422
    page = html.unescape(response.content.decode())
    assert problem in page
    assert f'value="{fields.get("name", "nightly")}"' in page
    assert not ServiceToken.objects.exists()


def test_two_tokens_cannot_share_a_name(browser: Client) -> None:
    make(browser)
    response = make(browser)
    assert response.status_code == 409
    assert "You already have a token with this name." in response.content.decode()


def test_only_its_maker_revokes_a_token(browser: Client, editor: Caller, settings: Settings) -> None:
    secret = secret_in(make(browser))
    token = ServiceToken.objects.get()
    other = through_session(editor, settings).client
    assert "nightly" not in other.get(TOKENS).content.decode()
    assert other.post(f"{TOKENS}/{token.pk}/revoke").status_code == 404
    assert Caller(secret).get("/user/self").status_code == 200
    done = browser.post(f"{TOKENS}/{token.pk}/revoke", follow=True)
    assert "Token “nightly” was revoked." in done.content.decode()
    assert Caller(secret).get("/user/self").status_code == 401


def test_a_token_without_an_id_is_not_found(browser: Client) -> None:
    response = browser.post(f"{TOKENS}/nightly/revoke")
    assert response.status_code == 404
    assert "This token does not exist. It may have been deleted." in response.content.decode()


def test_the_newest_tokens_are_listed_with_their_states(browser: Client, watcher: Caller) -> None:
    assert watcher.user
    ServiceToken.objects.issue(watcher.user, "over", datetime.timedelta(seconds=-1))
    ServiceToken.objects.issue(watcher.user, "in use", datetime.timedelta(days=1))
    ServiceToken.objects.issue(watcher.user, "taken back", datetime.timedelta(days=1))
    ServiceToken.objects.filter(name="taken back").revoke()
    page = browser.get(TOKENS).content.decode()
    assert page.index("taken back") < page.index("in use") < page.index("over")
    for state in ("Active", "Expired", "Revoked"):
        assert f"<td>{state}</td>" in page
