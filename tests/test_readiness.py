"""The readiness check: when a process is not ready, and why."""

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client
from pymongo.errors import OperationFailure

from core import timestamps
from driftwatch import health

NOW = datetime.datetime(2026, 11, 28, 12, 0, tzinfo=datetime.UTC)
REPLICA = {"isWritablePrimary": True, "setName": "driftwatch"}


def hello(**more: Any) -> dict[str, Any]:
    return {**REPLICA, "localTime": NOW.replace(tzinfo=None), **more}


def seconds(number: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=number)


@pytest.mark.parametrize(
    ("server", "is_suitable"),
    [
        (REPLICA, True),
        ({"isWritablePrimary": True, "msg": "isdbgrid"}, True),
        ({"isWritablePrimary": True}, False),
    ],
    ids=["a replica set", "a sharded cluster", "a single server"],
)
def test_transactions_need_a_replica_set_or_a_sharded_cluster(server: dict[str, Any], is_suitable: bool) -> None:
    assert (health.replica_set_problem(server) is None) is is_suitable


@pytest.mark.parametrize(
    ("asked_at", "answered_at", "problem"),
    [
        (NOW, NOW, None),
        (NOW + seconds(1), NOW + seconds(1.1), None),
        (NOW - seconds(1.1), NOW - seconds(1), None),
        (NOW - seconds(3), NOW + seconds(3), None),
        (NOW + seconds(1.1), NOW + seconds(1.2), "this machine's clock is 1.1 s ahead of the database's"),
        (NOW - seconds(3.2), NOW - seconds(3), "this machine's clock is 3.0 s behind the database's"),
    ],
)
def test_a_clock_further_than_a_second_from_the_databases_is_a_problem(
    asked_at: datetime.datetime, answered_at: datetime.datetime, problem: str | None
) -> None:
    assert health.clock_problem(hello(), asked_at, answered_at) == problem


def test_a_process_with_a_wrong_clock_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    right = timestamps.now
    monkeypatch.setattr(timestamps, "now", lambda: right() + seconds(60))
    health.readiness.clear()
    response = Client().get("/readyz")
    health.readiness.clear()
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "ahead of the database's" in response.json()["checks"]["clock"]


def test_a_check_that_fails_is_named_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> bool:
        raise DatabaseError from OperationFailure("not authorized", 13)

    monkeypatch.setattr(health, "migrations_are_applied", refuse)
    health.readiness.clear()
    checks = Client().get("/readyz").json()["checks"]
    health.readiness.clear()
    assert checks == {"mongodb": "ok", "clock": "ok", "migrations": "they cannot be read"}
    assert "not authorized" in caplog.text


def test_many_requests_share_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bool] = []
    monkeypatch.setattr(health, "migrations_are_applied", lambda: not checked.append(True))  # type: ignore[func-returns-value]
    health.readiness.clear()
    assert {Client().get("/readyz").status_code for _ in range(20)} == {200}
    assert len(checked) < 5


def test_many_requests_during_a_slow_check_hold_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = threading.Barrier(2), threading.Event()

    def check_slowly() -> dict[str, str]:
        begun.wait(10)
        over.wait(10)
        return dict.fromkeys(health.CHECKS, health.OK)

    monkeypatch.setattr(health, "checked", check_slowly)
    monkeypatch.setattr(health, "MAX_WAITING", 1)
    readiness = health.Readiness()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(readiness.checks)
        begun.wait(10)
        assert set(readiness.checks().values()) == {"unknown"}, "at once"
        over.set()
        assert set(waiting.result().values()) == {"ok"}
    assert set(readiness.checks().values()) == {"ok"}
