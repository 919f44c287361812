"""`SECRET_KEY` and `SECRET_KEY_FALLBACKS`: everything signed or sealed works on after a change of the secret."""

import re
import runpy
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import RequestFactory
from pytest_django import Settings

from accounts import unfinished_logins
from accounts.models import ServiceToken, User
from accounts.tokens import access_token, refresh_token
from accounts.unfinished_logins import UnfinishedLogin
from core.models import StoredResponse
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.conftest import RUN
from tests.live import ROOT
from tests.provider import claims_of, compact
from tests.test_bearer_tokens import hmac_with
from tests.test_settings import PRODUCTION, problems

OLD, NEW = "the secret of last year, which is long enough", "the secret of this year, which is long enough"
KEY = {"Idempotency-Key": "nightly 42"}
PASSWORD = "correct horse battery"

# Each begins under the old secret, and returns a check whether it works on under the new one.
Continues = Callable[[], bool]


def an_access_token(record: ServiceToken, **_: Any) -> Continues:
    token = access_token(record)
    return lambda: Caller(token).get("/user/self").status_code == 200


def a_refresh_token(record: ServiceToken, **_: Any) -> Continues:
    token = refresh_token(record)
    return lambda: Caller().post("/token/refresh", {"refresh": token}).status_code == 200


def a_token_of_an_earlier_release(record: ServiceToken, **_: Any) -> Continues:
    claims = {**claims_of(access_token(record)), "iss": "driftwatch"}
    token = compact({"alg": "HS256", "typ": "JWT"}, claims, hmac_with(OLD.encode()))
    return lambda: Caller(token).get("/user/self").status_code == 200


def a_session(**_: Any) -> Continues:
    User.objects.create_superuser("root", "root@example.org", PASSWORD)
    browser = Client()
    browser.post("/login", {"username": "root", "password": PASSWORD})
    # Twice: the session gets the hash of the new secret.
    return lambda: [browser.get("/admin/").status_code for _ in range(2)] == [200, 200]


def a_form(**_: Any) -> Continues:
    User.objects.create_superuser("root", "root@example.org", PASSWORD)
    browser = Client(enforce_csrf_checks=True)
    (token,) = re.findall('name="csrfmiddlewaretoken" value="([^"]+)"', browser.get("/login").content.decode())
    form = {"username": "root", "password": PASSWORD, "csrfmiddlewaretoken": token}
    return lambda: browser.post("/login", form).status_code == 302


def a_cursor(editor: Caller, experiment: Experiment, **_: Any) -> Continues:
    for model in ("a", "b"):
        Drift.objects.create(experiment=experiment, job_status="Running", model=model)
    search = f"/experiment/{experiment.id}/drift/search?page_size=1"
    (address,) = re.findall('<([^>]+)>; rel="next"', editor.post(search, {}).headers["Link"])
    following = address.partition("/api/v1")[2]
    return lambda: [run["model"] for run in editor.post(following, {}).json()] == ["a"]


def a_login_at_the_provider(**_: Any) -> Continues:
    response = HttpResponse()
    unfinished_logins.remember(RequestFactory().get("/"), response, "state", UnfinishedLogin("n", "v", "/", False))
    request = RequestFactory().get("/")
    request.COOKIES = {name: cookie.value for name, cookie in response.cookies.items()}
    return lambda: unfinished_logins.find(request, "state") is not None


def a_stored_response(editor: Caller, experiment: Experiment, **_: Any) -> Continues:
    path = f"/experiment/{experiment.id}/drift"
    first = editor.post(path, RUN, headers=KEY)
    assert first.status_code == 201

    def is_repeated() -> bool:
        again = editor.post(path, RUN, headers=KEY)
        return again.headers.get("Idempotent-Replayed") == "true" and again.json() == first.json()

    return is_repeated


THINGS = [
    an_access_token,
    a_refresh_token,
    a_token_of_an_earlier_release,
    a_session,
    a_cursor,
    a_login_at_the_provider,
    a_stored_response,
]


@pytest.fixture
def record(editor: Caller) -> ServiceToken:
    assert editor.user
    return ServiceToken.objects.issue(
        editor.user, "nightly", timedelta(hours=1), entitlements=["users"], issued_by_operator=True, refreshable=True
    )


@pytest.mark.parametrize("begin", [*THINGS, a_form], ids=lambda begin: begin.__name__)
def test_an_older_secret_works_on(
    begin: Callable[..., Continues], settings: Settings, record: ServiceToken, editor: Caller, experiment: Experiment
) -> None:
    settings.SECRET_KEY = OLD
    goes_on = begin(record=record, editor=editor, experiment=experiment)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, ["an even older secret, long enough", OLD]
    assert goes_on()


@pytest.mark.parametrize("begin", THINGS, ids=lambda begin: begin.__name__)
def test_a_secret_that_is_dropped_works_no_more(
    begin: Callable[..., Continues], settings: Settings, record: ServiceToken, editor: Caller, experiment: Experiment
) -> None:
    settings.SECRET_KEY = OLD
    goes_on = begin(record=record, editor=editor, experiment=experiment)
    settings.SECRET_KEY = NEW
    # A page without a login redirects to it, and an unknown cursor is no list.
    with pytest.raises((AssertionError, TypeError)):
        assert goes_on()


def test_instances_with_the_secrets_in_another_order_claim_the_same_idempotency_keys(
    settings: Settings, editor: Caller, experiment: Experiment
) -> None:
    """While `SECRET_KEY` changes, they serve at once."""
    claimed = []
    for current, older in ((OLD, NEW), (NEW, OLD)):
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = current, [older]
        assert editor.post(f"/experiment/{experiment.id}/drift", RUN, headers=KEY).status_code == 201
        claimed.append(set(StoredResponse.objects.values_list("pk", flat=True)))
        StoredResponse.objects.all().delete()
    assert claimed[0] == claimed[1]


def test_new_signatures_are_by_the_new_secret(settings: Settings, record: ServiceToken) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    token, goes_on = access_token(record), a_session()
    settings.SECRET_KEY_FALLBACKS = []
    assert Caller(token).get("/user/self").status_code == 200
    assert goes_on()
    assert Session.objects.count() == 1


@pytest.mark.parametrize(("text", "secrets"), [("", []), (" , ", []), ("a, b ,,", ["a", "b"])])
@pytest.mark.parametrize("is_file", [False, True], ids=["variable", "file"])
def test_older_secrets_are_a_list_without_an_empty_one(
    text: str, secrets: list[str], is_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty secret would be known to everybody."""
    (tmp_path / "fallbacks").write_text(f"{text}\n")
    name, value = ("_FILE", str(tmp_path / "fallbacks")) if is_file else ("", text)
    monkeypatch.setenv(f"SECRET_KEY_FALLBACKS{name}", value)
    assert runpy.run_path(str(ROOT / "driftwatch" / "settings.py"))["SECRET_KEY_FALLBACKS"] == secrets


def test_production_refuses_a_weak_older_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    random = "k2v^8w#1ql0c!x7z$m9d@e4r&t5y*u6i"
    assert problems(monkeypatch, {**PRODUCTION, "SECRET_KEY_FALLBACKS": random}) == []
    for weak, weakness in (("short", "is shorter"), ("x" * 32, "repeats a pattern")):
        (problem,) = problems(monkeypatch, {"SECRET_KEY_FALLBACKS": f"{random}, {weak}"})
        assert f"SECRET_KEY_FALLBACKS {weakness}" in problem
