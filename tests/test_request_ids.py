"""Each request has an id: the client's if it is sane, else a new one. Responses, errors and events name it."""

import re

import pytest
import requests
from django.test import Client

from audit.models import Action, Event
from audit.trail import record
from experiments.models import Experiment
from tests.caller import Caller
from tests.live import LiveServer

NEW = re.compile(r"[0-9a-f]{32}")
SANE = ["12345678", "pipeline-7.run_3", "A" * 64]
INSANE = ["", "1234567", "a" * 65, "two words", "line\tfeed", "größe-der-id", '"; drop', "a,b,c,d,e,f"]


@pytest.mark.parametrize("sent", SANE)
def test_a_sane_id_of_the_client_is_taken(anonymous: Caller, sent: str) -> None:
    response = anonymous.post("/experiment/search", {}, headers={"X-Request-ID": sent})
    assert (response.status_code, response["X-Request-ID"]) == (200, sent)


@pytest.mark.parametrize("sent", INSANE)
def test_any_other_id_is_replaced(anonymous: Caller, sent: str) -> None:
    response = anonymous.post("/experiment/search", {}, headers={"X-Request-ID": sent})
    assert response.status_code == 200
    assert NEW.fullmatch(response["X-Request-ID"])


def test_requests_have_different_ids(anonymous: Caller) -> None:
    assert len({anonymous.post("/experiment/search", {})["X-Request-ID"] for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/user/self", 401),
        ("/api/v1/nothing", 404),
        ("/api/v1/experiment/1", 404),
        ("/static/driftwatch/icon.svg", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/", 204),
        ("/login", 200),
    ],
)
def test_every_response_names_its_id(client: Client, path: str, status: int) -> None:
    response = client.get(path, headers={"X-Request-ID": "pipeline-7"})
    assert (response.status_code, response["X-Request-ID"]) == (status, "pipeline-7")
    response.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/experiment/search", "{", 400),
        ("POST", "/experiment", {"name": "wine"}, 401),
        ("GET", "/user/self", None, 401),
        ("GET", "/nothing", None, 404),
        ("PUT", "/experiment/search", {}, 405),
        ("POST", "/experiment/search", {"$where": "1"}, 422),
    ],
)
def test_every_error_names_its_id(anonymous: Caller, method: str, path: str, body: object, status: int) -> None:
    response = anonymous.request(method, path, body, headers={"X-Request-ID": "pipeline-7"})
    assert (response.status_code, response.json()["request_id"]) == (status, "pipeline-7")


def test_an_error_page_shows_its_id(client: Client) -> None:
    page = client.get("/experiments/nothing", headers={"Accept": "text/html", "X-Request-ID": "pipeline-7"})
    assert page.status_code == 404
    assert "Request id: <code>pipeline-7</code>" in page.content.decode()


def test_a_request_that_gunicorn_refuses_has_an_id_too(live: LiveServer) -> None:
    response = requests.get(f"{live.url}/livez", headers={"Cookie": "a" * 66_000}, timeout=10)
    assert response.status_code == 431
    assert NEW.fullmatch(response.json()["request_id"])
    assert response.headers["X-Request-ID"] == response.json()["request_id"]
    assert response.json()["request_id"] in live.log.read_text()


def test_browsers_of_other_sites_may_send_and_read_it(client: Client, settings: object) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://dash.example.org"]  # type: ignore[attr-defined]
    origin = {"Origin": "https://dash.example.org"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-request-id"}
    preflight = client.options("/api/v1/experiment/search", headers=origin | asked)
    assert "x-request-id" in preflight["Access-Control-Allow-Headers"]
    response = client.get("/livez", headers=origin)
    assert "X-Request-ID" in response["Access-Control-Expose-Headers"]


def test_an_event_names_the_id_of_its_request_and_is_found_by_it(
    manager: Caller, admin: Caller, experiment: Experiment
) -> None:
    sent = {"X-Request-ID": "pipeline-7"}
    assert manager.patch(f"/experiment/{experiment.id}", {"description": "new"}, headers=sent).status_code == 200
    assert manager.patch(f"/experiment/{experiment.id}", {"description": "newer"}).status_code == 200
    [event] = admin.post("/audit/search", {"request_id": "pipeline-7"}).json()
    assert (event["request_id"], event["after"]) == ("pipeline-7", {"description": "new"})
    assert NEW.fullmatch(
        str(Event.objects.exclude(request_id="pipeline-7").get(target__name=experiment.name).request_id)
    )


def test_an_event_of_a_command_has_none(experiment: Experiment) -> None:
    record(Action.EXPERIMENT_UPDATED, None, experiment, after={"a": 1})
    assert Event.objects.get().request_id is None
