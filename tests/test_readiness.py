"""The readiness check: when a process is not ready, and why."""

import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client
from pymongo.errors import OperationFailure

from core import timestamps
from core.capacity import RESERVED_THREADS
from driftwatch import health
from driftwatch.worker import MAX_CLOSING

NOW = datetime.datetime(2026, 11, 28, 12, 0, tzinfo=datetime.UTC)
REPLICA = {"isWritablePrimary": True, "setName": "driftwatch"}


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """The process has checked nothing before the test, and keeps no result of it."""
    health.readiness.forget()
    yield
    health.readiness.forget()


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
        ({"isWritablePrimary": False, "setName": "driftwatch"}, False),
    ],
    ids=["a replica set", "a sharded cluster", "a single server", "a secondary"],
)
def test_transactions_need_the_primary_of_a_replica_set_or_a_sharded_cluster(
    server: dict[str, Any], is_suitable: bool
) -> None:
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
    assert health.clock_problem(health.clock_difference(hello(), asked_at, answered_at)) == problem


def test_a_process_with_a_wrong_clock_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    right = timestamps.now
    monkeypatch.setattr(timestamps, "now", lambda: right() + seconds(60))
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    clock = response.json()["checks"]["clock"]
    assert clock["status"] == "failed"
    assert clock["difference_ms"] == pytest.approx(60_000, abs=1_000)
    assert "ahead of the database's" in clock["problem"]


def test_a_check_that_fails_is_named_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> bool:
        raise DatabaseError from OperationFailure("not authorized", 13)

    monkeypatch.setattr(health, "migrations_are_applied", refuse)
    checks = Client().get("/readyz").json()["checks"]
    statuses = {name: check["status"] for name, check in checks.items()}
    assert statuses == {"mongodb": "ok", "clock": "ok", "migrations": "failed", "serving": "ok"}
    assert checks["migrations"]["problem"] == "the migrations cannot be read"
    assert "not authorized" in caplog.text


def test_each_check_has_its_duration() -> None:
    checks = Client().get("/readyz").json()["checks"]
    assert all(check["ms"] >= 0 for check in checks.values())
    assert checks["mongodb"]["ms"] > 0
    assert "problem" not in checks["mongodb"]


def test_many_requests_share_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = counted(monkeypatch, applied=False)
    assert {Client().get("/readyz").status_code for _ in range(20)} == {503}
    assert len(checked) < 5


def test_migrations_are_asked_for_until_they_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CACHE_SECONDS", 0)
    readiness = health.Readiness()
    missing = counted(monkeypatch, applied=False)
    assert [readiness.get()["migrations"]["status"] for _ in range(3)] == ["failed"] * 3
    assert len(missing) == 3
    applied = counted(monkeypatch, applied=True)
    assert [readiness.get()["migrations"]["status"] for _ in range(3)] == ["ok"] * 3
    assert len(applied) == 1


def counted(monkeypatch: pytest.MonkeyPatch, *, applied: bool) -> list[None]:
    """Set whether the migrations are applied; return a list that grows with each question."""
    asked: list[None] = []

    def respond() -> bool:
        asked.append(None)
        return applied

    monkeypatch.setattr(health, "migrations_are_applied", respond)
    return asked


def test_requests_during_a_slow_check_hold_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = threading.Barrier(2), threading.Event()

    def check_slowly() -> bool:
        begun.wait(10)
        return over.wait(10)

    monkeypatch.setattr(health, "migrations_are_applied", check_slowly)
    readiness = health.Readiness()

    def statuses() -> set[str]:
        return {check["status"] for check in readiness.get().values()}

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(statuses)
        begun.wait(10)
        assert statuses() == {"unknown"}, "at once"
        over.set()
        assert waiting.result() == {"ok"}
    assert statuses() == {"ok"}


def test_a_thread_is_left_for_the_liveness_check() -> None:
    """One thread waits for the database, and some for clients to close."""
    assert 1 + MAX_CLOSING < RESERVED_THREADS
