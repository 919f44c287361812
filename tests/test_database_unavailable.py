"""An unavailable database: the service refuses requests with the reason, and recovers once the database is back."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from pymongo import MongoClient
from requests import Response

from core.mongodb.embedded import EmbeddedServer
from tests.conftest import RUN
from tests.live import ROOT, LiveServer
from tests.ports import free_port

PATIENCE = 30


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=10).ok
    except requests.RequestException:
        return False


# A database that the service does not start itself.


class Deployment:
    """gunicorn over a MongoDB of its own that the tests stop and start, and a user."""

    def __init__(self, directory: Path) -> None:
        self.database = EmbeddedServer(directory)
        self.database.start()
        self.live = LiveServer(MONGODB_URI=self.database.uri, MONGODB_NAME="unavailable", OIDC_USER_ENTITLEMENTS="[]")
        self.live.start()
        self.url = self.live.url
        self.headers = {"Authorization": f"Bearer {self.live.manage('token', 'keeper@example.org')}"}
        created = self.call("POST", "/experiment", {"name": "wine", "public": True}).json()
        self.experiment = f"/experiment/{created['id']}"

    def stop(self) -> None:
        self.live.stop()
        self.database.stop()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """Send a request with the user's token, unless `headers` replace it."""
        url = f"{self.live.api}{path}"
        return requests.request(method, url, json=body, headers=headers or self.headers, timeout=PATIENCE)

    def ask_anonymously(self, method: str, path: str, body: Any = None) -> Response:
        return requests.request(method, f"{self.live.api}{path}", json=body, timeout=PATIENCE)

    def kill_database(self) -> None:
        assert self.database.process
        self.database.process.kill()
        self.database.process.wait()

    def start_database(self) -> None:
        """Start it at the same address, with the same data."""
        self.database.start()
        eventually(lambda: is_ready(self.url))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("mongodb"))
    yield deployment
    deployment.stop()


REQUESTS: dict[str, Callable[[Deployment], Response]] = {
    "asking who one is": lambda to: to.call("GET", "/user/self"),
    "asking for a public experiment": lambda to: to.ask_anonymously("GET", to.experiment),
    "asking for one's own experiment": lambda to: to.call("GET", to.experiment),
    "searching experiments": lambda to: to.ask_anonymously("POST", "/experiment/search", {}),
    "searching runs": lambda to: to.call("POST", f"{to.experiment}/drift/search", {}),
    "creating an experiment": lambda to: to.call("POST", "/experiment", {"name": "beer"}),
    "changing an experiment": lambda to: to.call("PATCH", to.experiment, {"tags": ["late"]}),
    "deleting an experiment": lambda to: to.call("DELETE", to.experiment),
    "reporting a run": lambda to: to.call("POST", f"{to.experiment}/drift", RUN),
    "logging in": lambda to: log_in(to.url),
    "using the API from a page": lambda to: requests.get(
        f"{to.url}/api/v1/user/self", cookies={"sessionid": "s" * 32}, timeout=PATIENCE
    ),
}
# Pages for a user who is logged in. The page for an unknown experiment reads the database as well.
PAGES = ("/", "/experiments", "/admin/", "/nothing%0Aforged")


def open_page(to: Deployment, path: str) -> Response:
    headers, cookies = {"Accept": "text/html"}, {"sessionid": "s" * 32}
    return requests.get(f"{to.url}{path}", headers=headers, cookies=cookies, timeout=PATIENCE)


def log_in(url: str, name: str = "admin") -> Response:
    with requests.Session() as browser:
        page = browser.get(f"{url}/admin/login/", timeout=PATIENCE)
        found = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert found, page.text
        form = {"username": name, "password": "a password", "csrfmiddlewaretoken": found[1]}
        return browser.post(page.url, form, timeout=PATIENCE)


@pytest.fixture(scope="class")
def responses(deployment: Deployment) -> Iterator[dict[str, Response]]:
    """The responses to all of these requests, sent at once while the database is stopped. Each request waits some
    seconds for it.
    """
    calls = REQUESTS | {path: partial(open_page, path=path) for path in PAGES}
    deployment.kill_database()
    with ThreadPoolExecutor(len(calls)) as pool:
        yield dict(zip(calls, pool.map(lambda request: request(deployment), calls.values()), strict=True))
    deployment.start_database()


class TestUnavailableDatabase:
    @pytest.mark.parametrize("request_", REQUESTS)
    def test_a_request_that_needs_the_database_is_refused_with_retry_after(
        self, request_: str, responses: dict[str, Response]
    ) -> None:
        response = responses[request_]
        assert response.status_code == 503, response.text
        assert response.headers["Content-Type"] == "application/json"
        assert int(response.headers["Retry-After"]) > 0
        assert (response.json()["code"], response.json()["status"]) == (503, "Service Unavailable")
        assert response.elapsed.total_seconds() < 4

    @pytest.mark.parametrize("path", PAGES)
    def test_a_page_that_needs_the_database_shows_an_error_page(
        self, path: str, responses: dict[str, Response], deployment: Deployment
    ) -> None:
        response = responses[path]
        assert response.status_code == 503, response.text
        assert response.headers["Content-Type"].startswith("text/html")
        assert int(response.headers["Retry-After"]) > 0
        assert "The database does not respond" in response.text
        logged = deployment.live.log.read_text()
        assert "503 after " in logged
        assert "\nforged" not in logged

    def test_the_service_is_alive_but_not_ready(self, responses: dict[str, Response], deployment: Deployment) -> None:
        alive = requests.get(f"{deployment.url}/livez", timeout=1)
        assert alive.status_code == 200
        ready = requests.get(f"{deployment.url}/readyz", timeout=PATIENCE)
        assert ready.status_code == 503
        assert int(ready.headers["Retry-After"]) > 0
        assert ready.json()["status"] == "unavailable"

    def test_requests_without_queries_are_served(self, responses: dict[str, Response], deployment: Deployment) -> None:
        for path in ("/", "/api/v1/openapi.json", "/api/v1/docs"):
            assert requests.get(f"{deployment.url}{path}", timeout=PATIENCE).ok

    def test_an_invalid_token_is_still_refused(self, responses: dict[str, Response], deployment: Deployment) -> None:
        refused = deployment.call("GET", "/user/self", Authorization="Bearer a.b.c")
        assert refused.status_code == 401


def test_a_database_that_stops_responding_delays_no_request_for_long(deployment: Deployment) -> None:
    """The process of MongoDB holds its connections and answers nothing."""
    calls = REQUESTS | {path: partial(open_page, path=path) for path in PAGES}
    assert deployment.database.process
    deployment.database.process.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            sent = {name: pool.submit(request, deployment) for name, request in calls.items()}
            # A browser with a session sends it.
            alive = open_page(deployment, "/livez")
            ready = requests.get(f"{deployment.url}/readyz", timeout=PATIENCE)
            responses = {name: response.result() for name, response in sent.items()}
    finally:
        deployment.database.process.send_signal(signal.SIGCONT)
    eventually(lambda: is_ready(deployment.url))
    assert alive.ok
    assert alive.elapsed.total_seconds() < 0.5
    assert ready.elapsed.total_seconds() < 2.5
    assert {name: response.status_code for name, response in responses.items()} == dict.fromkeys(calls, 503)
    slow = {name: response.elapsed for name, response in responses.items() if response.elapsed.total_seconds() > 5}
    assert slow == {}
    assert all(int(response.headers["Retry-After"]) > 0 for response in responses.values())


def test_acknowledged_runs_survive_the_death_of_the_database(deployment: Deployment) -> None:
    """MongoDB is killed while runs arrive, and started again under the same gunicorn."""
    workers = gunicorn_workers(deployment)

    def report_until_refused() -> tuple[list[str], int]:
        acknowledged = []
        while (response := deployment.call("POST", f"{deployment.experiment}/drift", RUN)).status_code == 201:
            acknowledged.append(response.json()["id"])
        return acknowledged, response.status_code

    with ThreadPoolExecutor(4) as pool:
        reports = [pool.submit(report_until_refused) for _ in range(4)]
        time.sleep(1)
        deployment.kill_database()
        results = [report.result() for report in reports]
    assert {status for _, status in results} == {503}
    deployment.start_database()
    acknowledged = [identifier for identifiers, _ in results for identifier in identifiers]
    assert acknowledged
    missing = [
        identifier
        for identifier in acknowledged
        if deployment.call("GET", f"{deployment.experiment}/drift/{identifier}").status_code != 200
    ]
    assert missing == []
    assert gunicorn_workers(deployment) == workers


def gunicorn_workers(deployment: Deployment) -> set[int]:
    return {child.pid for child in psutil.Process(deployment.live.process.pid).children()}


def test_the_service_recovers_without_a_restart(deployment: Deployment) -> None:
    deployment.kill_database()
    assert deployment.call("GET", deployment.experiment).status_code == 503
    deployment.start_database()
    run = deployment.call("POST", f"{deployment.experiment}/drift", RUN)
    assert run.status_code == 201
    path = f"{deployment.experiment}/drift/{run.json()['id']}"
    assert deployment.call("PATCH", path, {"tags": ["back"]}).json()["tags"] == ["back"]
    found = deployment.call("POST", f"{deployment.experiment}/drift/search", {"tags": "back"}).json()
    assert [item["id"] for item in found] == [run.json()["id"]]
    created = deployment.call("POST", "/experiment", {"name": "beer"}).json()
    assert deployment.call("DELETE", f"/experiment/{created['id']}").status_code == 204
    assert log_in(deployment.url).status_code == 200


# A database that `manage.py serve` runs itself.


def environment(directory: Path, **further: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "MONGODB_URI"}
    own = {"DJANGO_SETTINGS_MODULE": "driftwatch.settings", "VAR_DIR": str(directory), "WEB_CONCURRENCY": "2"}
    return {**inherited, **own, "OIDC_USER_ENTITLEMENTS": "[]", **further}


class Serving:
    """`manage.py serve` and its descendant processes."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.var = directory
        self.log = directory / "serve.log"
        self.environment = environment(directory, PORT=str(self.port), TRASH_DAYS="0")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        eventually(self.is_ready_or_over, 60)
        assert self.process.poll() is None, self.log.read_text()
        # The first worker serves before the second is forked.
        eventually(lambda: any(len(child.children()) >= 2 for child in psutil.Process(self.process.pid).children()))
        # A worker that starts looks for libraries with short-lived processes.
        started = self.descendants()
        time.sleep(0.5)
        self.children = [child for child in self.descendants() if child in started]

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def is_ready_or_over(self) -> bool:
        return is_ready(self.url) or self.process.poll() is not None

    def recovers(self) -> bool:
        """Return whether it serves still or again, after whatever a test has done to it."""
        with contextlib.suppress(AssertionError):
            eventually(self.is_ready_or_over)
        return is_ready(self.url)

    def stop(self) -> None:
        """Stop all of it, whatever state the test left it in."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in filter(is_alive, self.children):
            child.kill()

    @property
    def mongod(self) -> psutil.Process | None:
        """The MongoDB server that is a child of `serve` itself, not of its gunicorn."""
        below = psutil.Process(self.process.pid).children()
        return next((child for child in below if child.name() == "mongod"), None)

    @property
    def worker(self) -> psutil.Process | None:
        """`manage.py work`, a child of `serve`."""
        below = psutil.Process(self.process.pid).children()
        return next((child for child in below if is_alive(child) and child.cmdline()[-1:] == ["work"]), None)

    def manage(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def leaves_nothing_behind(self) -> bool:
        return not any(is_alive(child) for child in self.children)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of `serve`. The first test fills it; the others find it."""
    return tmp_path_factory.mktemp("var")


@pytest.fixture(scope="module")
def started() -> Iterator[list[Serving]]:
    """All that were started. Each takes seconds, so that a test goes on with the last one if it still serves."""
    started: list[Serving] = []
    yield started
    for serving in started:
        serving.stop()


@pytest.fixture
def serving(directory: Path, started: list[Serving]) -> Serving:
    """The one that the previous test left, or a new one."""
    if not (started and started[-1].recovers()):
        for serving in started:
            serving.stop()
        started.append(Serving(directory))
    return started[-1]


def test_serve_stores_sample_data_at_its_first_start(serving: Serving) -> None:
    eventually(lambda: "3 sample experiments" in serving.log.read_text())
    found = requests.post(f"{serving.url}/api/v1/experiment/search", json={}, timeout=PATIENCE).json()
    assert {"credit scoring", "weld inspection"} < {experiment["name"] for experiment in found}


def test_serve_restarts_its_database_and_its_background_worker_after_a_kill(serving: Serving) -> None:
    headers = {"Authorization": f"Bearer {serving.manage('token', 'keeper@example.org')}"}
    experiments = f"{serving.url}/api/v1/experiment"
    created = requests.post(experiments, json={"name": "kept"}, headers=headers, timeout=PATIENCE).json()
    killed, worker = serving.mongod, serving.worker
    assert killed
    assert worker
    killed.kill()
    killed.wait(PATIENCE)
    eventually(lambda: is_ready(serving.url))
    kept = requests.get(f"{experiments}/{created['id']}", headers=headers, timeout=PATIENCE)
    assert kept.json() == created
    assert all(is_alive(child) for child in serving.children if child != killed)
    # The background tasks went on, and continue.
    assert requests.delete(f"{experiments}/{created['id']}", headers=headers, timeout=PATIENCE).status_code == 204
    with MongoClient[Any](EmbeddedServer(serving.var / "mongodb").uri) as client:
        records = client["driftwatch"]["experiments_deletedexperiment"]
        eventually(lambda: records.find_one({"purged_at": {"$ne": None}}))
    assert serving.worker == worker
    worker.kill()
    eventually(lambda: serving.worker and serving.worker != worker)
    assert "manage.py work ended with status -9, and no background task runs." in serving.log.read_text()


def test_serve_stops_its_processes_at_sigterm(serving: Serving) -> None:
    assert_stopped_by(signal.SIGTERM, serving)


def test_serve_starts_the_database_when_the_process_that_held_it_ends(directory: Path, started: list[Serving]) -> None:
    """An example is a `manage.py shell` that was opened before."""
    with process_with_the_database(directory) as end_it:
        started.append(serving := Serving(directory))
        assert serving.mongod is None, "it runs below the other process"
        end_it()
        eventually(lambda: serving.mongod)
        eventually(lambda: is_ready(serving.url))


@contextlib.contextmanager
def process_with_the_database(directory: Path) -> Iterator[Callable[[], None]]:
    """Run a process that holds the embedded database, and give a function that ends it."""
    code = "from core.mongodb import embedded; embedded.server(); print('up', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "--verbosity=0", "--command", code],
        cwd=ROOT,
        env=environment(directory),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def end() -> None:
        process.communicate("\n", PATIENCE)

    assert process.stdout
    assert process.stdout.readline() == "up\n"
    try:
        yield end
    finally:
        process.kill()
        process.wait()


def test_serve_stops_its_processes_at_sigint(serving: Serving) -> None:
    assert_stopped_by(signal.SIGINT, serving)


def assert_stopped_by(stop: signal.Signals, serving: Serving) -> None:
    eventually(lambda: serving.worker)
    assert len(serving.descendants()) >= 5, "mongod, gunicorn and its two workers, and the background worker"
    serving.children = serving.descendants()
    serving.process.send_signal(stop)
    assert serving.process.wait(PATIENCE) == 0, serving.log.read_text()
    assert serving.leaves_nothing_behind()


def test_a_killed_serve_leaves_no_process_and_can_be_started_again(
    serving: Serving, directory: Path, started: list[Serving]
) -> None:
    serving.process.kill()
    serving.process.wait()
    started.append(Serving(directory))
    eventually(serving.leaves_nothing_behind, 10)


def test_serve_ends_when_gunicorn_ends(serving: Serving) -> None:
    """The administrator, or the process supervisor, then notices and can start it again."""
    below = psutil.Process(serving.process.pid).children()
    gunicorn = next(child for child in below if "driftwatch.wsgi" in child.cmdline())
    gunicorn.kill()
    assert serving.process.wait(PATIENCE) == 1
    eventually(serving.leaves_nothing_behind, 10)
