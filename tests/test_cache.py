"""The cache: what is cached, how a write drops it, and a Redis that is killed, hangs or holds foreign values."""

import json
import logging
import pickle
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.cache import caches
from django.core.management import call_command
from pytest_django import Settings

from core import cache
from core.cache import Cached, Store, generation_key
from core.mongodb.documents import collection_of
from drifts.documents import new_document
from drifts.models import Drift
from drifts.overdue import fail_overdue_runs
from drifts.recomputation import recompute_runs
from driftwatch import health
from experiments.models import Experiment
from pages.suggestions import Suggestions
from tests.caller import Caller
from tests.conftest import RUN
from tests.crowd import RemoteUser, unique
from tests.live import LiveServer
from tests.provider import Provider
from tests.redis_server import MISSING, REDIS, RedisServer
from tests.session import through_session
from tests.test_database_unavailable import eventually
from tests.test_doctor import doctor
from tests.test_metrics import Read, value
from tests.test_overdue_runs import new
from tests.test_upgrades import never

__all__ = ["value"]

pytestmark = pytest.mark.skipif(not REDIS, reason=MISSING)

Write = Callable[[Caller, str, str], object]
STATISTICS = {"group_by": ["model", "job_status"], "interval": "day", "measures": ["parameters.p"]}
# The longest request while Redis hangs, on a busy machine.
BOUND_SECONDS = 2.0
VALUES = Cached[str]("values", str, str, late_seconds=10)


@pytest.fixture(autouse=True)
def unchecked() -> None:
    """The process has not checked the cache before the test."""
    health.cache_check.forget()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.remove()


def use(address: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process use the Redis at an address, which it has not asked before."""
    settings.CACHE_URL = address
    settings.CACHES = {"default": {**settings.CACHE_IN_REDIS, "LOCATION": [address], "KEY_PREFIX": "driftwatch"}}
    monkeypatch.setattr(cache, "store", Store())
    monkeypatch.setattr(cache, "AWAY_SECONDS", 0.05)


@pytest.fixture
def redis(server: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """An empty Redis, which this process uses."""
    server.client().flushall()
    use(server.address, settings, monkeypatch)
    return server


@pytest.fixture
def alone() -> Iterator[RedisServer]:
    """A Redis of this test alone."""
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own(alone: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A Redis of this test alone, which this process uses."""
    use(alone.address, settings, monkeypatch)
    return alone


def shown(caller: Caller, experiment: Experiment) -> list[Any]:
    """Return all that is cached of an experiment's runs, as the API and the pages show it."""
    rows = caller.post(f"/experiment/{experiment.pk}/drift/stats", STATISTICS)
    assert rows.status_code == 200, rows.content
    summary = Drift.objects.summaries_of([experiment.pk])[experiment.pk]
    return [rows.json(), summary, Suggestions.of(experiment)]


def store_unheard(experiment: Experiment, **fields: Any) -> None:
    """Store a run as nothing of this release does: without a drop."""
    collection_of(Drift).insert_one(new_document(experiment, {**RUN, **fields}))


# Cached values, and their readers.


@pytest.mark.usefixtures("redis")
def test_statistics_summaries_and_suggestions_are_cached(reader: Caller, experiment: Experiment, value: Read) -> None:
    Drift.objects.create_in(experiment, **RUN, parameters={"p": 0.5, "a.b": {"$c": [1]}}, tags=["t"])
    first = shown(reader, experiment)
    store_unheard(experiment)
    assert shown(reader, experiment) == first
    for name in ("statistics", "summaries", "suggestions"):
        assert value("driftwatch_cache_requests_total", cache=name, result="miss") == 1, name
        assert value("driftwatch_cache_requests_total", cache=name, result="hit") == 1, name


def test_a_process_alone_caches_suggestions_only(reader: Caller, experiment: Experiment) -> None:
    Drift.objects.create_in(experiment, **RUN)
    first = shown(reader, experiment)
    store_unheard(experiment, model="other")
    rows, summary, suggestions = shown(reader, experiment)
    assert suggestions == first[2]
    assert {row["group"]["model"] for row in rows} == {"forest", "other"}
    assert summary.runs.number == 2
    Drift.objects.create_in(experiment, **RUN)
    assert Suggestions.of(experiment).values["model"] == ["forest", "other"]


@pytest.mark.usefixtures("redis")
def test_each_request_has_statistics_of_its_own(reader: Caller, experiment: Experiment) -> None:
    for model in ("forest", "other"):
        Drift.objects.create_in(experiment, **{**RUN, "model": model}, parameters={"p": 1, "q": 2})
    bodies: list[dict[str, Any]] = [
        {},
        {"filter": {"model": "other"}},
        {"filter": {"created_at": {"$gte": "2100-01-01"}}},
        {"group_by": "model"},
        {"interval": "day"},
        {"interval": "day", "time_zone": "Pacific/Marquesas"},
        {"interval": "week"},
        {"measures": "parameters.p"},
        {"measures": "parameters.q"},
        {"measures": "parameters.p", "percentiles": [1]},
        {"unsupported": True},
    ]
    path = f"/experiment/{experiment.pk}/drift/stats"
    first, second = ([reader.post(path, body).content for body in bodies] for _ in range(2))
    assert first == second
    assert len(set(first)) == len(bodies)


@pytest.mark.usefixtures("redis")
def test_cached_numbers_reach_only_those_who_may_read_them_now(
    manager: Caller, reader: Caller, stranger: Caller, anonymous: Caller, experiment: Experiment
) -> None:
    Drift.objects.create_in(experiment, **RUN)
    path = f"/experiment/{experiment.pk}/drift/stats"
    assert shown(manager, experiment)
    assert [caller.post(path, STATISTICS).status_code for caller in (reader, stranger, anonymous)] == [200, 403, 403]
    assert stranger.post("/drift/stats", STATISTICS).json() == []
    permissions = [{"entity": manager.id, "level": "Manage"}]
    assert manager.patch(f"/experiment/{experiment.pk}", {"permissions": permissions}).status_code == 200
    assert reader.post(path, STATISTICS).status_code == 403
    assert manager.delete(f"/experiment/{experiment.pk}").status_code == 204
    assert manager.post(path, STATISTICS).status_code == 404


# Drops after writes.

WRITES: dict[str, Write] = {
    "a new run": lambda caller, path, run: caller.post(path, {**RUN, "model": "other"}),
    "bulk ingest": lambda caller, path, run: caller.post(f"{path}/bulk", [{**RUN, "model": "other"}] * 2),
    "a replacement": lambda caller, path, run: caller.put(f"{path}/{run}", {**RUN, "model": "other"}),
    "a change": lambda caller, path, run: caller.patch(f"{path}/{run}", {"job_status": "Failed"}),
    "a deletion": lambda caller, path, run: caller.delete(f"{path}/{run}"),
    "a time-out": lambda caller, path, run: fail_overdue_runs(never),
}


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_reader_sees_each_write_at_once(editor: Caller, experiment: Experiment, write: Write) -> None:
    path = f"/experiment/{experiment.pk}/drift"
    run = new(editor, path, run_timeout=60, parameters={"p": 1})
    before = shown(editor, experiment)
    response = write(editor, path, run)
    assert response is None or response.status_code < 300, response.content  # type: ignore[attr-defined]
    after = shown(editor, experiment)
    caches["default"].clear()
    assert after == shown(editor, experiment)
    assert after != before


@pytest.mark.usefixtures("redis")
def test_a_reader_sees_writes_of_shells_at_once(reader: Caller, experiment: Experiment) -> None:
    shown(reader, experiment)
    Drift.objects.create(**RUN, experiment=experiment)
    assert shown(reader, experiment)[1].runs.number == 1
    Drift.objects.bulk_create([Drift(**RUN, experiment=experiment)])
    assert shown(reader, experiment)[1].runs.number == 2


@pytest.mark.usefixtures("redis")
def test_a_reader_sees_imported_runs_at_once(experiment: Experiment, tmp_path: Path) -> None:
    run = Drift.objects.create_in(experiment, **RUN)
    call_command("export", str(tmp_path), stdout=StringIO(), stderr=StringIO())
    run.delete()
    assert Drift.objects.summaries_of([experiment.pk])[experiment.pk].runs.number == 0
    call_command("import", str(tmp_path), stdout=StringIO(), stderr=StringIO())
    assert Drift.objects.summaries_of([experiment.pk])[experiment.pk].runs.number == 1


@pytest.mark.usefixtures("redis")
def test_a_reader_sees_a_heartbeat_at_once(editor: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.pk}/drift"
    run = new(editor, path)
    alive = {"filter": {"heartbeat_at": {"$exists": True}}}
    assert editor.post(f"{path}/stats", alive).json() == []
    assert editor.post(f"{path}/{run}/heartbeat").status_code == 204
    assert editor.post(f"{path}/stats", alive).json()[0]["count"] == 1


@pytest.mark.usefixtures("redis")
def test_a_reader_sees_writes_of_the_portal_and_of_background_work(
    admin: Caller, settings: Settings, experiment: Experiment
) -> None:
    drifts = [Drift.objects.create_in(experiment, **RUN, parameters={"d": "ks"}) for _ in range(3)]
    browser = through_session(admin, settings).client
    before = shown(admin, experiment)
    admin.patch(f"/experiment/{experiment.pk}", {"field_map": {"detector": "parameters.d"}})
    recompute_runs(never)
    mapped = shown(admin, experiment)
    assert (before[2].values["detector"], mapped[2].values["detector"]) == ([], ["ks"])
    chosen = {"action": "delete_selected", "_selected_action": [drift.pk for drift in drifts[:2]], "post": "yes"}
    assert browser.post("/admin/drifts/drift/", chosen).status_code == 302
    assert shown(admin, experiment)[1].runs.number == 1


@pytest.mark.usefixtures("redis")
def test_a_value_from_before_a_write_is_not_found_if_it_is_stored_afterwards() -> None:
    owner = uuid.uuid4()

    def slow() -> str:
        cache.drop(owner)
        return "old"

    assert VALUES.get(owner, slow) == "old"
    assert VALUES.get(owner, lambda: "new") == "new"
    assert VALUES.get(owner, lambda: "newer") == "new"


# Foreign values.


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_values_that_this_release_did_not_store_there_are_not_found(
    redis: RedisServer, tmp_path: Path, settings: Settings
) -> None:
    owner, other = uuid.uuid4(), uuid.uuid4()
    assert VALUES.get(owner, lambda: "made") == VALUES.get(owner, lambda: "again") == "made"
    VALUES.get(other, lambda: "of another owner")
    client = redis.client()
    key, of_other = (f"driftwatch:1:values:{each.hex}:" for each in (owner, other))
    own = client.get(key)
    assert isinstance(own, bytes)
    foreign = [pickle.dumps(Bomb(tmp_path / "file")), b"", b"\xff\x00", own[:16] + b'"x"', client.get(of_other)]
    for stored in foreign:
        client.set(key, stored)  # type: ignore[arg-type]
        assert VALUES.get(owner, lambda: "made anew") == "made anew", stored
    client.delete(key)
    client.rpush(key, "a list")
    assert VALUES.get(owner, lambda: "made anew") == "made anew"
    client.set(f"driftwatch:1:{generation_key(owner)}", pickle.dumps(Bomb(tmp_path / "file")))
    assert VALUES.get(owner, lambda: "a new generation") == "a new generation"
    assert VALUES.get(owner, lambda: "again") == "a new generation"
    cache.signing_key.cache_clear()
    settings.VERSION = "99.0.0"
    assert VALUES.get(owner, lambda: "another release") == "another release"
    cache.signing_key.cache_clear()
    assert not (tmp_path / "file").exists()


@pytest.mark.usefixtures("redis")
def test_a_large_value_is_not_kept() -> None:
    owner = uuid.uuid4()
    assert VALUES.get(owner, lambda: "x" * cache.MAX_BYTES)
    assert VALUES.get(owner, lambda: "small") == "small"


# Redis away.


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message.partition(",")[0] for record in caplog.records if record.name == "core.cache"]


LEFT, BACK = "The cache does not respond", "The cache responds again."


def is_back() -> bool:
    return cache.store.problem() is None


def test_a_killed_redis_is_left_and_used_again(
    own: RedisServer, caplog: pytest.LogCaptureFixture, value: Read, reader: Caller, experiment: Experiment
) -> None:
    caplog.set_level(logging.INFO)
    Drift.objects.create_in(experiment, **RUN)
    first = shown(reader, experiment)
    own.kill()
    for _ in range(3):
        assert shown(reader, experiment) == first
        time.sleep(0.06)
    assert value("driftwatch_cache_failures_total") > 3
    assert logged(caplog) == [LEFT]
    own.start()
    time.sleep(0.06)
    assert shown(reader, experiment) == shown(reader, experiment) == first
    assert logged(caplog) == [LEFT, BACK]


def test_a_write_while_redis_hangs_is_seen_afterwards(own: RedisServer, reader: Caller, experiment: Experiment) -> None:
    Drift.objects.create_in(experiment, **RUN)
    shown(reader, experiment)
    own.freeze()
    started = time.monotonic()
    Drift.objects.create_in(experiment, **RUN)
    shown(reader, experiment)
    assert time.monotonic() - started < BOUND_SECONDS
    own.thaw()
    eventually(is_back)
    assert shown(reader, experiment)[1].runs.number == 2


def test_a_server_that_refuses_writes_is_away(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    owner = uuid.uuid4()
    VALUES.get(owner, lambda: "stored")
    redis.client().config_set("min-replicas-to-write", 1)
    try:
        for number in range(3):
            cache.drop(owner)
            time.sleep(0.06)
            assert VALUES.get(owner, lambda: f"made {number}") == f"made {number}"  # noqa: B023 - called at once
    finally:
        redis.client().config_set("min-replicas-to-write", 0)
    assert logged(caplog) == [LEFT]
    eventually(is_back)
    assert VALUES.get(owner, lambda: "new") == "new"


def test_a_wrong_password_degrades_the_service_with_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, reader: Caller, experiment: Experiment
) -> None:
    server = RedisServer("--requirepass", "right")
    server.start()
    try:
        use(f"{server.address}?password=secret", settings, monkeypatch)
        assert shown(reader, experiment)
        response = reader.client.get("/readyz")
        assert (response.status_code, response.json()["status"]) == (200, "ok")
        assert response.json()["checks"]["cache"].items() >= {
            ("status", "degraded"),
            ("problem", "the cache does not respond"),
        }
        _, findings = doctor()
        finding = findings["Cache: cache"]
        assert finding["state"] == "warning"
        assert finding["text"].startswith("Redis does not respond: invalid username-password pair")
        assert "secret" not in json.dumps(findings)
        use(f"{server.address}?password=right", settings, monkeypatch)
        health.cache_check.forget()
        assert reader.client.get("/readyz").json()["checks"]["cache"]["status"] == "ok"
        assert doctor()[1]["Cache: cache"]["text"].startswith("Redis ")
    finally:
        server.remove()


def test_without_a_shared_cache_readyz_has_no_check_of_it(anonymous: Caller) -> None:
    assert "cache" not in anonymous.client.get("/readyz").json()["checks"]
    assert doctor()[1]["Cache: cache"]["text"] == "in each process, because CACHE_URL is not set"


# The whole service under load.


class Load:
    """Threads that write and read what they have written, and the responses that they got."""

    def __init__(self, live: LiveServer, token: str) -> None:
        self.user = RemoteUser(live.api, token)
        self.statuses: Counter[int] = Counter()
        self.late = 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.send) for _ in range(2)]

    def __enter__(self) -> "Load":
        assert self.user.call("POST", "/user").status_code == 201
        self.path = f"{self.user.new_experiment()}/drift"
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def send(self) -> None:
        model, written = unique("model"), 0
        while not self.stopping.wait(0.01):
            created = self.user.call("POST", self.path, {**RUN, "model": model})
            written += created.ok
            read = self.user.call("POST", f"{self.path}/stats", {"filter": {"model": model}})
            self.statuses.update([created.status_code, read.status_code])
            self.late += read.ok and read.json()[0]["count"] != written

    def late_reads(self) -> int:
        """Return how many reads of a second did not see the thread's own write."""
        before = self.late
        time.sleep(1)
        return self.late - before


def state(live: LiveServer) -> tuple[int, str, float]:
    """Return the status of `/readyz`, its check of the cache, and the metric of that."""
    response = requests.get(f"{live.url}/readyz", timeout=10)
    lines = requests.get(f"{live.url}/metrics", timeout=10).text.splitlines()
    [up] = [line.rpartition(" ")[2] for line in lines if line.startswith("driftwatch_cache_up ")]
    return response.status_code, response.json()["checks"]["cache"]["status"], float(up)


def test_no_request_fails_while_redis_hangs_is_killed_and_comes_back(
    alone: RedisServer, provider: Provider, testrun_uid: str, worker_id: str
) -> None:
    live = LiveServer(
        MONGODB_NAME=f"cache_{testrun_uid[:8]}_{worker_id}",
        OIDC_ISSUERS=json.dumps([{"issuer": provider.issuer, "audience": ["driftwatch"]}]),
        OIDC_USER_ENTITLEMENTS="[]",
        CACHE_URL=alone.address,
    )
    live.start()
    good, degraded = (200, "ok", 1), (200, "degraded", 0)
    try:
        with Load(live, provider.token(unique("someone"))) as load:
            eventually(lambda: state(live) == good)
            assert load.late_reads() == 0
            alone.freeze()
            eventually(lambda: state(live) == degraded)
            alone.thaw()
            eventually(lambda: state(live) == good)
            alone.kill()
            eventually(lambda: state(live) == degraded)
            alone.start()
            eventually(lambda: state(live) == good)
            # Each process comes back with its next use of the cache.
            eventually(lambda: load.late_reads() == 0)
        assert load.statuses.keys() == {200, 201}, load.statuses
        assert "The cache does not respond" in live.log.read_text()
    finally:
        live.stop()
