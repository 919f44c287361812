"""Several first starts at once: all succeed, with one secret, one administrator and one run of the migrations."""

import datetime
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pymongo import MongoClient
from pymongo.collection import Collection
from pytest_django import Settings

from accounts.models import User
from core.management.commands import migrate
from core.mongodb import lock
from core.mongodb.documents import mongodb
from core.var_dir import created_once
from driftwatch.management.commands import serve
from tests.test_command_failures import manage


def at_once(work: Callable[[], Any], number: int) -> list[Any]:
    together = threading.Barrier(number, timeout=30)

    def go(_: int) -> Any:
        together.wait()
        return work()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(go, range(number)))


@pytest.fixture
def locks() -> Collection[dict[str, Any]]:
    return mongodb().database[lock.COLLECTION]


def test_processes_agree_on_one_secret(tmp_path: Path) -> None:
    def new_secret() -> str:
        time.sleep(0.01)
        return uuid.uuid4().hex

    secrets = at_once(lambda: created_once(tmp_path / "secret_key", new_secret), 8)
    assert secrets == [(tmp_path / "secret_key").read_text()] * 8
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_first_starts_create_one_administrator(tmp_path: Path, settings: Settings) -> None:
    settings.VAR_DIR, settings.SAMPLE_DATA = tmp_path, False
    starts = at_once(serve.first_start, 4)
    assert len(set(starts)) == 1
    assert f"password {(tmp_path / 'admin_password').read_text()})" in starts[0][0]
    assert User.objects.get().is_superuser


def test_instances_migrate_one_empty_database_at_once(settings: Settings) -> None:
    name = f"first_{uuid.uuid4().hex[:8]}"
    environment = {"MONGODB_URI": settings.MONGODB_URI, "MONGODB_NAME": name}
    try:
        results = at_once(lambda: manage("migrate", environment), 2)
        with MongoClient[dict[str, Any]](settings.MONGODB_URI) as client:
            applied = [(row["app"], row["name"]) for row in client[name]["django_migrations"].find()]
    finally:
        with MongoClient[dict[str, Any]](settings.MONGODB_URI) as client:
            client.drop_database(name)
    assert [code for code, _ in results] == [0, 0], results
    assert len(applied) == len(set(applied)) > 20


def test_a_look_at_the_migrations_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def locked(name: str) -> Iterator[None]:
        entered.append(name)
        yield

    entered: list[str] = []
    monkeypatch.setattr(migrate, "locked", locked)
    call_command("migrate", check_unapplied=True, verbosity=0)
    call_command("migrate", plan=True, verbosity=0)
    assert not entered
    call_command("migrate", verbosity=0)
    assert entered == ["migrate"]


# The lock.


def test_a_lock_is_held_by_one_process_at_a_time(locks: Collection[dict[str, Any]]) -> None:
    entered: list[str] = []

    def work() -> None:
        with lock.locked("test"):
            entered.append("in")
            time.sleep(0.01)
            entered.append("out")

    at_once(work, 4)
    assert entered == ["in", "out"] * 4
    assert locks.count_documents({}) == 0


def test_a_lock_of_a_killed_process_is_free_when_its_lease_ends(locks: Collection[dict[str, Any]]) -> None:
    assert lock.claim(locks, "test", "killed")
    assert not lock.claim(locks, "test", "next")
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    locks.update_one({"_id": "test"}, {"$set": {"expires_at": past}})
    assert lock.claim(locks, "test", "next")
    assert not lock.claim(locks, "test", "killed")
    locks.delete_one({"_id": "test"})


def test_a_lock_is_renewed_while_its_block_runs(
    locks: Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.01)
    with lock.locked("test"):
        first = locks.find_one()
        deadline = time.monotonic() + 10
        while locks.find_one() == first:
            assert time.monotonic() < deadline, "the lock is not renewed"
