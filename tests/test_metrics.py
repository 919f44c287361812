"""`/metrics`: who may read it, and what it counts, over all workers and after killed ones."""

import datetime
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from django.test import Client
from prometheus_client import REGISTRY
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from core import timestamps
from core.background import Worker
from core.metrics import MAX_EXPERIMENTS, BoundedNames
from drifts.models import Drift
from drifts.overdue import fail_overdue_runs
from driftwatch.management.commands.serve import is_free
from driftwatch.metrics import MAX_CONNECTIONS, QuietHandler, serve_metrics, state
from driftwatch.tasks import TASKS
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN
from tests.crowd import RemoteUser
from tests.live import ROOT, LiveServer
from tests.ports import free_port
from tests.provider import Provider

TOKEN = "a token of Prometheus"
Read = Callable[..., float]


@pytest.fixture
def value(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The increase of a counter of this process since the start of the test. No experiment has a label before."""
    monkeypatch.setattr("core.metrics.experiments", BoundedNames(MAX_EXPERIMENTS))
    before = samples(REGISTRY.collect())
    return lambda name, **labels: sample(samples(REGISTRY.collect()), name, labels) - sample(before, name, labels)


def samples(families: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def sample(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, labels: dict[str, str]) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def scraped(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = requests.get(f"{url}/metrics", timeout=10)
    assert response.status_code == 200, response.text
    return samples(text_string_to_metric_families(response.text))


# Access


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.8.8.8", {}, 200),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("10.1.2.3", {}, 200),
        ("::ffff:10.1.2.3", {}, 200),
        ("fd00::7", {}, 200),
        ("192.0.2.1", {}, 403),
        ("10.2.0.1", {}, 403),
        ("", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}, 403),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}, 403),
        ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}, 403),
        ("127.0.0.1", {"Via": "1.1 proxy"}, 403),
        ("10.1.2.3", {"X-Forwarded-For": ""}, 403),
        ("192.0.2.1", {"Authorization": f"Bearer {TOKEN}"}, 200),
        ("192.0.2.1", {"Authorization": f"bearer  {TOKEN}", "X-Forwarded-For": "198.51.100.1"}, 200),
        ("192.0.2.1", {"Authorization": "Bearer another"}, 401),
        ("127.0.0.1", {"Authorization": "Bearer another"}, 401),
        ("127.0.0.1", {"Authorization": "Bearer"}, 401),
        ("127.0.0.1", {"Authorization": "Bearer größe"}, 401),
    ],
)
def test_metrics_are_for_operators(
    client: Client, settings: Settings, address: str, headers: dict[str, str], status: int
) -> None:
    settings.METRICS_TOKEN = TOKEN
    settings.METRICS_NETWORKS = ["10.1.0.0/16", "fd00::/8"]
    response = client.get("/metrics", REMOTE_ADDR=address, headers=headers)
    assert response.status_code == status
    assert ("driftwatch_build_info" in response.content.decode()) is (status == 200)
    if status != 200:
        assert "METRICS_TOKEN" in response.json()["message"]
    assert ("WWW-Authenticate" in response) is (status == 401)


def test_without_a_metrics_token_no_token_is_right(client: Client, settings: Settings) -> None:
    assert not settings.METRICS_TOKEN
    for token in ("Bearer", "Bearer ", "Bearer x"):
        assert client.get("/metrics", headers={"Authorization": token}).status_code == 401


def test_prometheus_needs_no_host_name_of_the_service_and_no_https(client: Client, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["drift.example.org"]
    settings.SECURE_SSL_REDIRECT = True
    for path in ("/metrics", "/livez", "/readyz"):
        assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.post("/metrics").status_code == 405


def test_openmetrics_is_spoken_on_request(client: Client) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    response = client.get("/metrics", headers=accept)
    assert response["Content-Type"].startswith("application/openmetrics-text")
    assert response.content.endswith(b"# EOF\n")


# Counts


def test_requests_are_measured_by_route_method_and_status_class(anonymous: Caller, value: Read) -> None:
    anonymous.post("/experiment/search", {})
    anonymous.post("/experiment/search", {"$where": "1"})
    anonymous.get("/nothing")
    name, route = "driftwatch_http_request_duration_seconds_count", "/api/v1/experiment/search"
    assert value(name, route=route, method="POST", status="2xx") == 1
    assert value(name, route=route, method="POST", status="4xx") == 1
    assert value(name, route="none", method="GET", status="4xx") == 1


def test_commands_to_the_database_are_measured(anonymous: Caller, value: Read) -> None:
    anonymous.post("/experiment/search", {})
    assert value("driftwatch_database_command_duration_seconds_count", command="aggregate") >= 1
    assert value("driftwatch_database_command_duration_seconds_sum", command="aggregate") > 0


RUNNING, FAILED = {"job_status": "Running", "model": "forest"}, {"job_status": "Failed", "model": "forest"}
CLEAN = {**RUN, "drift_detected": False}


@pytest.mark.parametrize(
    ("first", "changes", "counted"),
    [
        (RUN, [], {"drift": 1}),
        (CLEAN, [], {"no_drift": 1}),
        (FAILED, [], {"unknown": 1}),
        (RUNNING, [], {}),
        (RUNNING, [{"tags": ["late"]}], {}),
        (RUNNING, [RUN], {"drift": 1}),
        (RUNNING, [FAILED], {"unknown": 1}),
        (RUNNING, [CLEAN, {"tags": ["late"]}], {"no_drift": 1}),
        (RUN, [{"drift_detected": False}], {"drift": 1}),
        (FAILED, [RUN], {"unknown": 1}),
    ],
)
def test_a_run_counts_once_when_its_outcome_is_first_stored(
    editor: Caller,
    experiment: Experiment,
    value: Read,
    first: dict[str, Any],
    changes: list[dict[str, Any]],
    counted: dict[str, int],
) -> None:
    path = f"/experiment/{experiment.id}/drift"
    run = editor.post(path, first).json()["id"]
    for change in changes:
        assert editor.patch(f"{path}/{run}", change).status_code == 200
    found = {
        verdict: value("driftwatch_runs_total", experiment=str(experiment.id), verdict=verdict)
        for verdict in ("drift", "no_drift", "unknown")
    }
    assert {verdict: number for verdict, number in found.items() if number} == counted
    assert value("driftwatch_failed_runs_total", reason="reported") == counted.get("unknown", 0)


def test_bulk_counts_each_run_and_a_refused_bulk_none(editor: Caller, experiment: Experiment, value: Read) -> None:
    path = f"/experiment/{experiment.id}/drift/bulk"
    assert editor.post(path, [RUN, RUN, CLEAN, RUNNING, FAILED]).status_code == 201
    assert editor.post(path, [RUN, {"job_status": "Completed"}]).status_code == 422
    counts = {each: value("driftwatch_runs_total", experiment=str(experiment.id), verdict=each) for each in VERDICTS}
    assert counts == {"drift": 2, "no_drift": 1, "unknown": 1}


VERDICTS = ("drift", "no_drift", "unknown")


def test_an_overdue_run_is_shown_and_counts_once_when_it_is_made_failed(
    editor: Caller, experiment: Experiment, value: Read, client: Client
) -> None:
    path = f"/experiment/{experiment.id}/drift"
    run = editor.post(path, {**RUNNING, "run_timeout": 60}).json()["id"]
    editor.post(path, RUNNING)
    long_ago = timestamps.now() - datetime.timedelta(hours=1)
    Drift.objects.filter(pk=run, experiment=experiment).update(created_at=long_ago)
    assert runs_now(client) == {"running": 2, "overdue": 1}
    fail_overdue_runs(lambda: False)
    assert runs_now(client) == {"running": 1, "overdue": 0}
    assert editor.patch(f"{path}/{run}", RUN).status_code == 200
    assert value("driftwatch_failed_runs_total", reason="overdue") == 1
    assert value("driftwatch_runs_total", experiment=str(experiment.id), verdict="unknown") == 1
    assert value("driftwatch_runs_total", experiment=str(experiment.id), verdict="drift") == 0


def runs_now(client: Client) -> dict[str, float]:
    state.shared.forget()
    found = samples(text_string_to_metric_families(client.get("/metrics").content.decode()))
    return {name: sample(found, f"driftwatch_runs_{name}", {}) for name in ("running", "overdue")}


def test_a_repeated_request_counts_its_run_once(editor: Caller, experiment: Experiment, value: Read) -> None:
    for _ in range(3):
        sent = editor.post(f"/experiment/{experiment.id}/drift", RUN, headers={"Idempotency-Key": "1"})
        assert sent.status_code == 201
    assert value("driftwatch_runs_total", experiment=str(experiment.id), verdict="drift") == 1


def test_the_number_of_names_is_bounded() -> None:
    names = BoundedNames(2)
    assert [names.label_of(name) for name in "abcab"] == ["a", "b", "other", "a", "b"]


def test_refused_tokens_and_failed_logins_are_counted(anonymous: Caller, value: Read) -> None:
    name = "driftwatch_authentication_failures_total"
    assert Caller("no token").get("/user/self").status_code == 401
    # A request without a token has not failed to authenticate.
    assert anonymous.get("/user/self").status_code == 401
    assert value(name, way="token") == 1
    anonymous.client.post("/login", {"username": "nobody", "password": "wrong"})
    assert value(name, way="login") == 1


def test_refusals_by_rate_are_counted(anonymous: Caller, value: Read, settings: Settings) -> None:
    settings.RATE_LIMIT_ANONYMOUS = "2/hour"
    statuses = [anonymous.post("/experiment/search", {}).status_code for _ in range(4)]
    assert value("driftwatch_refused_requests_total", reason="rate") == statuses.count(429) == 2


def test_cache_hits_are_counted(editor: Caller, experiment: Experiment, value: Read) -> None:
    for _ in range(3):
        assert editor.get(f"/experiment/{experiment.id}").status_code == 200
    name = "driftwatch_cache_requests_total"
    assert (value(name, cache="identities", result="hit"), value(name, cache="identities", result="miss")) == (2, 1)


def test_the_state_of_background_tasks_is_shown(client: Client) -> None:
    Worker(TASKS).run_once()
    state.shared.forget()
    found = samples(text_string_to_metric_families(client.get("/metrics").content.decode()))
    for task in TASKS:
        labels = {"task": task.name}
        succeeded = sample(found, "driftwatch_background_task_last_success_timestamp_seconds", labels)
        assert abs(succeeded - time.time()) < 60
        assert sample(found, "driftwatch_background_task_failures_in_a_row", labels) == 0
    assert sample(found, "driftwatch_database_up", {}) == 1
    checks = {dict(labels)["check"] for name, labels in found if name == "driftwatch_ready"}
    assert checks == {"mongodb", "clock", "migrations", "serving"}


# Several workers


@pytest.fixture
def alone(testrun_uid: str, worker_id: str, provider: Provider, tmp_path: Path) -> Iterator[LiveServer]:
    """A service of its own, whose workers may be killed. Its temporary files are in `tmp_path`."""
    server = LiveServer(
        MONGODB_NAME=f"metrics_{testrun_uid[:8]}_{worker_id}",
        OIDC_ISSUERS=f'[{{"issuer": "{provider.issuer}", "audience": ["driftwatch"]}}]',
        OIDC_USER_ENTITLEMENTS="[]",
        TMPDIR=str(tmp_path),
    )
    server.start()
    yield server
    server.stop()


def test_counts_are_sums_of_all_workers_and_survive_killed_ones(alone: LiveServer, provider: Provider) -> None:
    user = RemoteUser(alone.api, provider.token("counter"))
    assert user.call("POST", "/user").status_code == 201
    path = user.new_experiment()
    labels = {"experiment": path.removeprefix("/experiment/"), "verdict": "drift"}
    for round_ in range(3):
        for _ in range(10):
            assert user.call("POST", f"{path}/drift", RUN).status_code == 201
        assert sample(scraped(alone.url), "driftwatch_runs_total", labels) == 10 * (round_ + 1)
        victim = psutil.Process(alone.process.pid).children()[0]
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait(10)
        while not alone.has_all_workers():
            time.sleep(0.05)
    # A second scrape of each worker, whichever responds, has the same count.
    assert {sample(scraped(alone.url), "driftwatch_runs_total", labels) for _ in range(6)} == {30}


def test_requests_are_served_without_the_files_of_the_counts(alone: LiveServer, tmp_path: Path) -> None:
    [directory] = tmp_path.glob("driftwatch-metrics-*")
    shutil.rmtree(directory)
    directory.touch()
    replace_workers(alone)
    assert {
        requests.get(f"{alone.url}{path}", timeout=10).status_code for path in ("/experiments", "/readyz", "/metrics")
    } == {200}
    directory.unlink()
    replace_workers(alone)
    requests.get(f"{alone.url}/experiments", timeout=10)
    labels = {"route": "/experiments", "method": "GET", "status": "2xx"}
    assert sample(scraped(alone.url), "driftwatch_http_request_duration_seconds_count", labels) == 1


def replace_workers(server: LiveServer) -> None:
    workers = psutil.Process(server.process.pid).children()
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, 10)
    while not server.has_all_workers():
        time.sleep(0.05)


COUNT_MANY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from core.metrics import REFUSED_REQUESTS
for _ in range(2):
    for number in range(2_000):
        REFUSED_REQUESTS.labels(str(number)).inc()
print(sum(REFUSED_REQUESTS.labels(str(number))._value.get() for number in range(2_000)))
"""


@pytest.mark.parametrize("space", [0, 100_000])
def test_a_process_counts_on_when_its_disk_is_full(tmp_path: Path, space: int) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COUNT_MANY, str(space)]
    printed = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    assert float(printed) == 4_000
    shown = [*MultiProcessCollector(None, str(tmp_path)).collect()]  # type: ignore[no-untyped-call]
    assert bool(shown) is (space > 0)


def test_background_work_shows_its_own_metrics(live: LiveServer) -> None:
    port = free_port()
    environment = {**live.environment, "WORK_METRICS_PORT": str(port)}
    work = subprocess.Popen([sys.executable, "manage.py", "work"], cwd=ROOT, env=environment)
    try:
        wait_until_taken(port)
        found = scraped(f"http://127.0.0.1:{port}")
        assert sample(found, "driftwatch_database_up", {}) == 1
        assert sample(found, "process_start_time_seconds", {}) > 0
        assert requests.get(f"http://127.0.0.1:{port}/livez", timeout=10).status_code == 404
        forwarded = {"X-Forwarded-For": "192.0.2.1"}
        assert requests.get(f"http://127.0.0.1:{port}/metrics", headers=forwarded, timeout=10).status_code == 403
    finally:
        work.terminate()
        assert work.wait(30) == 0


def test_idle_connections_to_the_metrics_of_background_work_take_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuietHandler, "timeout", 60)
    before, port = threading.active_count(), free_port()
    server = serve_metrics("127.0.0.1", port)
    try:
        with ExitStack() as connections:
            for _ in range(2 * MAX_CONNECTIONS):
                connections.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            # Connections are served in order: this one is closed after the others are taken.
            with socket.create_connection(("127.0.0.1", port), 10) as beyond:
                assert beyond.recv(1) == b""
            assert threading.active_count() <= before + 1 + MAX_CONNECTIONS
        while threading.active_count() > before + 1:
            time.sleep(0.05)
        assert requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).status_code == 200
    finally:
        server.shutdown()
        server.server_close()


def test_a_client_that_breaks_off_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    server = serve_metrics("127.0.0.1", port)
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(b"GET /metrics")
            # The close then resets the connection.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert requests.get(f"http://127.0.0.1:{port}/nothing", timeout=10).status_code == 404
        while server.free._value < MAX_CONNECTIONS:  # type: ignore[attr-defined]
            time.sleep(0.05)
    finally:
        server.shutdown()
        server.server_close()
    assert "Traceback" not in capfd.readouterr().err


def test_background_work_says_that_its_port_is_taken(live: LiveServer) -> None:
    port = urlsplit(live.url).port
    with pytest.raises(subprocess.CalledProcessError) as failed:
        subprocess.run(
            [sys.executable, "manage.py", "work"],
            cwd=ROOT,
            env={**live.environment, "WORK_METRICS_PORT": str(port)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert f"Port {port} cannot be used (Address already in use)" in failed.value.stderr


def wait_until_taken(port: int) -> None:
    deadline = time.monotonic() + 30
    while is_free(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_files_of_the_counts_are_removed_at_the_end(alone: LiveServer, tmp_path: Path) -> None:
    [directory] = tmp_path.glob("driftwatch-metrics-*")
    scraped(alone.url)
    assert list(directory.glob("*.db"))
    alone.process.terminate()
    alone.process.wait(30)
    assert not directory.exists()
