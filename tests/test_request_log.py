"""Each request has one line in the log, under its id, with no token, email or other text of the client."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from django.test import Client
from pytest_django import Settings

from drifts.models import Drift
from tests.caller import Caller
from tests.live import LiveServer

LOGGER = "core.request_log"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Any]]:
    """The records of requests in this process."""
    caplog.set_level(logging.INFO)
    return lambda: [record for record in caplog.records if record.name == LOGGER]


def test_the_line_of_a_request(editor: Caller, drift: Drift, lines: Callable[[], list[Any]]) -> None:
    path = f"/experiment/{drift.experiment_id}/drift/{drift.id}"
    for _ in range(2):
        assert editor.get(path).status_code == 200
    first, line = lines()
    assert (line.method, line.status, line.user_id, line.address) == ("GET", 200, editor.id, "127.0.0.1")
    assert line.route == "/api/v1/experiment/{experiment_id}/drift/{drift_id}"
    # The run with its experiment; at first, the user of the token too.
    assert (line.database_commands, first.database_commands > 1) == (1, True)
    assert 0 < line.database_ms <= line.duration_ms


@pytest.mark.parametrize(
    ("path", "route", "status"),
    [
        ("/api/v1/user/ada@example.org", "none", 404),
        ("/livez?token=secret", "/livez", 200),
        ("/readyz", "/readyz", 200),
        ("/login?next=/secret", "/login", 200),
        ("/experiments/secret/chart", "/experiments/{experiment_id}/chart", 404),
    ],
)
def test_the_line_names_the_route_and_not_the_address(
    client: Client, lines: Callable[[], list[Any]], path: str, route: str, status: int
) -> None:
    assert client.get(path, headers={"User-Agent": "secret", "Authorization": ""}).status_code == status
    [line] = lines()
    assert (line.route, line.status, line.user_id) == (route, status, None)
    shown = json.dumps({name: str(value) for name, value in vars(line).items()}) + line.getMessage()
    assert "secret" not in shown
    assert "ada@" not in shown


def test_a_method_of_the_client_is_not_in_the_line(client: Client, lines: Callable[[], list[Any]]) -> None:
    client.generic("SECRET", "/livez")
    [line] = lines()
    assert (line.method, line.status) == ("other", 405)


def test_a_streamed_response_is_logged_at_its_end_with_its_queries(
    admin: Caller, lines: Callable[[], list[Any]]
) -> None:
    assert admin.post("/experiment", {"name": "wine"}).status_code == 201
    response = admin.get("/audit/export")
    assert len(lines()) == 1
    assert b"".join(response.streaming_content)
    response.close()
    export = lines()[1]
    assert (export.route, export.status) == ("/api/v1/audit/export", 200)
    # The events are read while they are sent.
    assert export.database_commands >= 2


@pytest.mark.parametrize(("share", "successes"), [(0.0, 0), (1.0, 20)])
def test_successes_are_sampled_and_refusals_are_not(
    anonymous: Caller, lines: Callable[[], list[Any]], settings: Settings, share: float, successes: int
) -> None:
    settings.LOG_REQUEST_SHARE = share
    for _ in range(20):
        assert anonymous.post("/experiment/search", {}).status_code == 200
        assert anonymous.post("/experiment", {}).status_code == 401
    statuses = [line.status for line in lines()]
    assert (statuses.count(200), statuses.count(401)) == (successes, 20)


def test_all_lines_of_a_service_are_json_under_the_ids_of_their_requests(
    live_json: LiveServer, json_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    ids = [f"request-{number}" for number in range(30)]
    for each in ids:
        requests.get(f"{live_json.url}/livez", headers={"X-Request-ID": each}, timeout=10)
    # gunicorn logs this refusal.
    refused = requests.get(f"{live_json.url}/livez", headers={"Cookie": "a" * 66_000}, timeout=10)
    wait_for(lambda: len(live_json.log.read_text().splitlines()) > 31)
    lines = json_lines()
    assert {line["request_id"] for line in lines if line["logger"] == LOGGER} >= {*ids}
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in lines))
    [of_gunicorn] = [line for line in lines if line.get("request_id") == refused.headers["X-Request-ID"]]
    assert (of_gunicorn["logger"], of_gunicorn["level"]) == ("gunicorn.error", "WARNING")
    assert any(line["logger"] == "gunicorn.error" and "Listening at" in line["message"] for line in lines)


def test_a_fault_is_logged_with_its_traceback_under_its_id(
    caplog: pytest.LogCaptureFixture, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("experiments.models.Experiment.objects.visible_to", fail)
    client.raise_request_exception = False
    response = client.get("/experiments", headers={"X-Request-ID": "pipeline-7"})
    assert response.status_code == 500
    [fault] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert fault.exc_info
    assert vars(fault)["request_id"] == "pipeline-7"


@pytest.fixture
def live_json(testrun_uid: str, worker_id: str) -> Iterator[LiveServer]:
    server = LiveServer(MONGODB_NAME=f"log_{testrun_uid[:8]}_{worker_id}", LOG_FORMAT="json")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def json_lines(live_json: LiveServer) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [json.loads(line) for line in live_json.log.read_text().splitlines()]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
