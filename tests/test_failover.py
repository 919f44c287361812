"""Failovers of a replica set: requests are refused in time, and nothing that was shown or acknowledged is lost."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from requests import Response

from tests.conftest import RUN
from tests.crowd import unique
from tests.live import LiveServer
from tests.replica_set import Member, ReplicaSet
from tests.test_database_unavailable import eventually, log_in

DATABASE = "failover"
PATIENCE = 30
# Seconds. The service answers within these limits, whatever the database does.
REFUSED, DURING_ELECTION, ALIVE, READY = 3.0, 5.0, 0.5, 2.0


class Deployment:
    """gunicorn over a replica set of three, and a user with an experiment."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self.replicas = replicas
        self.live = LiveServer(MONGODB_URI=replicas.uri, MONGODB_NAME=DATABASE, OIDC_USER_ENTITLEMENTS="[]")
        self.live.start()
        self.headers = {"Authorization": f"Bearer {self.live.manage('token', 'keeper@example.org')}"}
        created = self.call("POST", "/experiment", {"name": "wine", "public": True}).json()
        self.runs = f"/experiment/{created['id']}/drift"

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        return requests.request(
            method, f"{self.live.api}{path}", json=body, headers=self.headers | headers, timeout=PATIENCE
        )

    def report(self, key: str) -> Response:
        return self.call("POST", self.runs, RUN, **{"Idempotency-Key": key})

    def is_ready(self) -> bool:
        return requests.get(f"{self.live.url}/readyz", timeout=PATIENCE).ok


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    replicas = ReplicaSet(tmp_path_factory.mktemp("replicas"), election_milliseconds=4_000)
    try:
        replicas.start()
        deployment = Deployment(replicas)
        yield deployment
        deployment.live.stop()
    finally:
        replicas.stop()


@contextmanager
def frozen(deployment: Deployment, *members: Member) -> Iterator[None]:
    """Freeze members inside the block. Afterwards, wait until the service is ready again."""
    for member in members:
        member.freeze()
    try:
        yield
    finally:
        for member in members:
            member.thaw()
        deployment.replicas.wait_for_primary()
        eventually(deployment.is_ready)


def test_a_write_that_a_failover_may_roll_back_is_not_shown(deployment: Deployment) -> None:
    primary = deployment.replicas.wait_for_primary()
    run = deployment.report("shown").json()
    with frozen(deployment, *deployment.replicas.secondaries()), primary.client() as client:
        runs = client[DATABASE]["drifts_drift"]
        [stored] = runs.find({})
        # Only the primary has it.
        runs.insert_one(stored | {"_id": "0" * 32, "model": "unacknowledged"})
        found = deployment.call("POST", f"{deployment.runs}/search", {})
        assert [each["id"] for each in found.json()] == [run["id"]]
        assert deployment.call("GET", f"{deployment.runs}/{'0' * 32}").status_code == 404


def test_without_a_majority_requests_are_refused_in_time(deployment: Deployment) -> None:
    requests_ = {
        "run": lambda: deployment.call("POST", deployment.runs, RUN),
        "keyed run": lambda: deployment.report("no majority"),
        "bulk": lambda: deployment.call("POST", f"{deployment.runs}/bulk", [RUN]),
        "experiment": lambda: deployment.call("POST", "/experiment", {"name": unique("beer")}),
        "refused login": lambda: log_in(deployment.live.url, unique("nobody")),
        "change": lambda: deployment.call("PATCH", deployment.runs.removesuffix("/drift"), {"tags": ["late"]}),
    }
    with frozen(deployment, *deployment.replicas.secondaries()), ThreadPoolExecutor(40) as pool:
        # The check of eight passwords at once would take seconds.
        numbers = {"refused login": 2}
        sent = {name: [pool.submit(send) for _ in range(numbers.get(name, 8))] for name, send in requests_.items()}
        for _ in range(10):
            alive = requests.get(f"{deployment.live.url}/livez", timeout=PATIENCE)
            assert alive.ok
            assert alive.elapsed.total_seconds() < ALIVE
            time.sleep(0.1)
        for name, responses in sent.items():
            for response in (each.result() for each in responses):
                assert response.status_code == 503, (name, response.text)
                assert int(response.headers["Retry-After"]) > 0
                assert response.elapsed.total_seconds() < DURING_ELECTION, name
    assert deployment.report("no majority").status_code == 201
    assert "503 after" in deployment.live.log.read_text()


def test_a_primary_that_stops_responding_is_replaced(deployment: Deployment) -> None:
    primary = deployment.replicas.wait_for_primary()
    with frozen(deployment, primary):
        reports: list[Response] = []
        while not reports or reports[-1].status_code != 201:
            reports.append(deployment.report("frozen"))
        *refusals, report = reports
        for refusal in refusals:
            assert refusal.status_code == 503
            assert int(refusal.headers["Retry-After"]) > 0
            assert refusal.elapsed.total_seconds() < DURING_ELECTION
        assert refusals
        assert report.status_code == 201
    assert deployment.report("frozen").headers["Idempotent-Replayed"] == "true"
