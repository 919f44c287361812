"""Caches: no response is stored, but for static files and the OpenAPI document."""

from typing import Any

import pytest
from pytest_django import Settings

from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.conftest import RUN
from tests.session import through_session

PAGE = {"Accept": "text/html"}
NO_STORE = "no-store"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/user/self", None, 200),
        ("PUT", "/user/self", None, 200),
        ("GET", "/entitlement", None, 200),
        ("POST", "/experiment/search", {}, 200),
        ("POST", "/experiment", {"name": "new"}, 201),
        ("GET", "{experiment}", None, 200),
        ("PATCH", "{experiment}", {"tags": ["a"]}, 200),
        ("GET", "{experiment}/access", None, 200),
        ("POST", "{experiment}/drift", RUN, 201),
        ("POST", "{experiment}/drift/bulk", [RUN], 201),
        ("DELETE", "{experiment}", None, 204),
        ("POST", "/token", {"name": "nightly"}, 201),
        ("GET", "/token", None, 200),
        ("POST", "/token/refresh", {"refresh": "nonsense"}, 401),
        ("POST", "/experiment", {}, 422),
        ("POST", "/experiment", "{", 400),
        ("GET", "/audit/export", None, 403),
        ("GET", "/nothing", None, 404),
        ("PUT", "/token", None, 405),
    ],
)
def test_no_cache_stores_a_response_to_a_user(
    method: str, path: str, body: Any, status: int, manager: Caller, experiment: Experiment
) -> None:
    response = manager.request(method, path.format(experiment=f"/experiment/{experiment.pk}"), body)
    assert (response.status_code, response.headers["Cache-Control"]) == (status, NO_STORE)


def test_no_cache_stores_a_replay_an_export_or_a_refused_token(manager: Caller, admin: Caller) -> None:
    key = {"Idempotency-Key": "nightly"}
    for _ in range(2):
        replayed = manager.post("/token", {"name": "nightly"}, headers=key)
    assert replayed.headers["Idempotent-Replayed"]
    for response in (replayed, admin.get("/audit/export"), Caller("a.b.c").get("/user/self")):
        assert response.headers["Cache-Control"] == NO_STORE


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/login",
        "/experiments",
        "/account/tokens",
        "/experiments/{id}",
        "/experiments/{id}/timeline.csv",
        "/experiments/00000000-0000-0000-0000-000000000000",
        "/nothing",
        "/admin/",
        "/admin/drifts/drift/",
        "/admin/nothing/",
    ],
)
def test_no_cache_stores_a_page_with_a_session(
    path: str, admin: Caller, experiment: Experiment, settings: Settings
) -> None:
    response = through_session(admin, settings).client.get(path.format(id=experiment.pk), headers=PAGE)
    assert NO_STORE in response.headers["Cache-Control"]


def test_no_cache_stores_a_response_to_nobody(experiment: Experiment, anonymous: Caller) -> None:
    Experiment.objects.update(public=True)
    for path in (f"/experiment/{experiment.pk}", "/user/self"):
        assert anonymous.get(path).headers["Cache-Control"] == NO_STORE


def test_the_openapi_document_is_stored_by_clients_which_ask_each_time(manager: Caller) -> None:
    first = manager.get("/openapi.json")
    again = manager.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code) == (200, 304)
    for response in (first, again):
        assert response.headers["Cache-Control"] == "private, no-cache"


def test_static_files_keep_their_lifetime() -> None:
    response = Client().get("/static/pages/runs.css")
    response.close()
    assert response.status_code == 200
    assert "max-age" in response.headers["Cache-Control"]
