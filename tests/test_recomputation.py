"""The recomputation of stored runs after a change of `series_by` or `field_map`, and its progress."""

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from core import timestamps
from core.mongodb.documents import collection_of
from drifts import batches
from drifts import models as drift_models
from drifts.models import Drift
from drifts.recomputation import recompute_runs
from drifts.upgrades import upgrade_runs
from experiments.models import Experiment, ExperimentQuerySet
from tests.caller import Caller
from tests.profiler import commands
from tests.test_observed_at import as_older_record
from tests.test_upgrades import (
    after,
    during_the_next_batch,
    never,
    outside_the_transaction,
    refuse_every_second_call,
)

RUN = {"job_status": "Completed", "model": "forest", "drift_detected": False, "parameters": {"p": 0.25, "d": "ks"}}
MAP = {"p_value": "parameters.p", "detector": "parameters.d"}
SERIES = {"detector": "ks", "model": "forest"}


@pytest.fixture
def address(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}"


@pytest.fixture
def path(address: str) -> str:
    return f"{address}/drift"


@pytest.fixture(autouse=True)
def small_batches_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_SIZE", 3)
    monkeypatch.setattr(batches, "LONGEST_PAUSE", 0)


@pytest.fixture
def runs(editor: Caller, path: str) -> list[str]:
    """The ids of ten runs, the oldest first. The first one has schema 1.0.0."""
    ids = [editor.post(path, RUN).json()["id"] for _ in range(10)]
    as_older_record(ids[0])
    return ids


def stored_runs() -> list[dict[str, Any]]:
    return list(collection_of(Drift).find().sort("_id"))


def set_map(manager: Caller, address: str, **more: Any) -> dict[str, Any]:
    response = manager.patch(address, {"field_map": MAP, **more})
    assert response.status_code == 200
    recomputation: dict[str, Any] = response.json()["recomputation"]
    return recomputation


def test_stored_runs_follow_a_changed_map(runs: list[str], manager: Caller, address: str, path: str) -> None:
    set_map(manager, address)
    recompute_runs(never)
    assert manager.get(address).json()["recomputation"] is None
    for pk in runs:
        run = manager.get(f"{path}/{pk}").json()
        assert (run["p_value"], run["detector"], run["series"]) == (0.25, "ks", SERIES)
        assert (run["schema_version"], run["observed_at"]) == ("1.1.0", run["created_at"])
    assert {tuple(run["derived"]) for run in stored_runs()} == {("detector", "p_value", "observed_at")}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_neither_mapped_nor_part_of_a_series(
    runs: list[str], number: float, manager: Caller, address: str, path: str
) -> None:
    """The API refuses such parameters, but a restored database may have them."""
    collection_of(Drift).update_one({"_id": uuid.UUID(runs[5]).hex}, {"$set": {"parameters.p": number}})
    numbers = ("p_value", "statistic", "threshold", "sample_size")
    changed = {"field_map": dict.fromkeys(numbers, "parameters.p"), "series_by": ["model", "parameters.p"]}
    assert manager.patch(address, changed).status_code == 200
    recompute_runs(never)
    (found,) = (run for run in stored_runs() if uuid.UUID(run["_id"]) == uuid.UUID(runs[5]))
    assert {name for name in numbers if name in found} == set()
    assert found["series"] == {"model": "forest"}


def test_times_of_bson_are_not_mapped(runs: list[str], manager: Caller, address: str) -> None:
    """JSON has no times. A restored database may have them."""
    collection_of(Drift).update_one({"_id": uuid.UUID(runs[5]).hex}, {"$set": {"parameters.t": timestamps.now()}})
    set_map(manager, address, field_map={"observed_at": "parameters.t"})
    recompute_runs(never)
    assert {run["rules_version"] for run in stored_runs()} == {1}


def test_stored_runs_follow_changed_series(runs: list[str], manager: Caller, address: str) -> None:
    changed = manager.patch(address, {"series_by": ["parameters.d"]}).json()
    assert changed["recomputation"]["field"] == "series_by"
    recompute_runs(never)
    assert [run["series"] for run in stored_runs()] == [{"parameters.d": "ks"}] * 10


def test_a_recomputation_changes_no_times_and_no_sent_values(
    runs: list[str], manager: Caller, editor: Caller, address: str, path: str
) -> None:
    editor.patch(f"{path}/{runs[3]}", {"detector": "psi"})
    before = {run["_id"]: (run["created_at"], run["updated_at"], run["parameters"]) for run in stored_runs()}
    set_map(manager, address)
    recompute_runs(never)
    assert {run["_id"]: (run["created_at"], run["updated_at"], run["parameters"]) for run in stored_runs()} == before
    assert editor.get(f"{path}/{runs[3]}").json()["detector"] == "psi"


def test_the_progress_is_shown_and_resumed(runs: list[str], manager: Caller, reader: Caller, address: str) -> None:
    begun = set_map(manager, address)
    assert begun == {"field": "field_map", "done": 0, "total": 10, "started_at": begun["started_at"]}
    assert begun["started_at"].endswith("Z")
    recompute_runs(after(2))
    assert reader.get(address).json()["recomputation"] == begun | {"done": 6}
    assert sum("p_value" in run for run in stored_runs()) == 6
    recompute_runs(never)
    assert reader.get(address).json()["recomputation"] is None
    assert sum("p_value" in run for run in stored_runs()) == 10


def test_a_further_change_begins_again(runs: list[str], manager: Caller, address: str) -> None:
    set_map(manager, address)
    recompute_runs(after(2))
    restarted = set_map(manager, address, field_map={"statistic": "parameters.p"})
    assert restarted["done"] == 0
    recompute_runs(never)
    assert [("p_value" in run, run.get("statistic")) for run in stored_runs()] == [(False, 0.25)] * 10


def test_a_change_during_a_batch_begins_again(
    runs: list[str], manager: Caller, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch has read the older rules and the older progress, and may store neither after the change."""
    set_map(manager, address)
    during_the_next_batch(monkeypatch, lambda: set_map(manager, address, field_map={"statistic": "parameters.p"}))
    recompute_runs(after(1))
    assert manager.get(address).json()["recomputation"]["done"] == 0
    recompute_runs(never)
    assert manager.get(address).json()["recomputation"] is None
    assert [("p_value" in run, run.get("statistic")) for run in stored_runs()] == [(False, 0.25)] * 10


def test_experiments_take_turns(runs: list[str], manager: Caller, editor: Caller, address: str) -> None:
    other = manager.post("/experiment", {"name": "another"}).json()["id"]
    manager.post(f"/experiment/{other}/drift", RUN)
    set_map(manager, address)
    set_map(manager, f"/experiment/{other}")
    recompute_runs(after(3))
    assert manager.get(address).json()["recomputation"]["done"] in {3, 6}
    recompute_runs(after(1))
    assert manager.get(f"/experiment/{other}").json()["recomputation"] is None
    recompute_runs(never)


def test_a_deleted_experiment_ends_its_recomputation(
    runs: list[str], manager: Caller, experiment: Experiment, address: str
) -> None:
    set_map(manager, address)
    recompute_runs(after(1))
    experiment.delete()
    recompute_runs(never)
    assert sum("p_value" in run for run in stored_runs()) == 3


@pytest.mark.parametrize(
    "value",
    [
        {"p": 0.3, "$ref": "x", "$id": "y"},
        {"$id": "y", "$ref": "x", "p": 0.3},
        {"p": 0.3, "list": [{"$id": {"$ref": "x", "p": 1}, "$ref": "y"}]},
    ],
)
def test_parameters_that_look_like_references_are_data(
    runs: list[str], manager: Caller, editor: Caller, address: str, path: str, value: dict[str, Any]
) -> None:
    """The driver reads such objects as references, and writes their names in another order."""
    pk = editor.post(path, RUN | {"parameters": value}).json()["id"]
    set_map(manager, address)
    recompute_runs(after(9))
    assert manager.get(address).json()["recomputation"] is None
    run = editor.get(f"{path}/{pk}").json()
    assert (run["p_value"], run["parameters"]) == (0.3, value)


# Failures


def test_a_run_that_changes_whenever_it_is_read_does_not_hold_up_the_others(
    runs: list[str], manager: Caller, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changing = {"_id": uuid.UUID(runs[4]).hex}

    def change_before(updates: Any) -> int:
        collection_of(Drift).update_one(changing, {"$inc": {"parameters.changes": 1}})
        return write(updates)

    write = batches.write
    monkeypatch.setattr(batches, "write", change_before)
    set_map(manager, address)
    recompute_runs(after(9))
    assert manager.get(address).json()["recomputation"] is None
    assert [run["_id"] for run in stored_runs() if "p_value" not in run] == [changing["_id"]]
    assert [changing["_id"] in record.message for record in caplog.records if record.levelname == "ERROR"] == [True]


def test_a_stop_between_two_attempts_keeps_the_progress(
    runs: list[str], manager: Caller, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_map(manager, address)
    with monkeypatch.context() as patch:
        patch.setattr(batches, "write", lambda updates: 0)
        recompute_runs(after(2))
    assert manager.get(address).json()["recomputation"]["done"] == 0
    recompute_runs(never)
    assert [run["series"] for run in stored_runs()] == [SERIES] * 10


def test_a_recomputation_waits_for_a_database_that_is_unavailable(
    runs: list[str], manager: Caller, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_every_second_call(monkeypatch, ExperimentQuerySet, "ids")
    set_map(manager, address)
    recompute_runs(never)
    assert manager.get(address).json()["recomputation"] is None


# Requests that have read the older rules


def test_a_change_of_a_run_that_overlaps_the_recomputation_follows_the_new_rules(
    runs: list[str], manager: Caller, editor: Caller, address: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recompute() -> None:
        set_map(manager, address)
        recompute_runs(never)

    meanwhile(monkeypatch, drift_models, "changed_document", recompute)
    changed = editor.patch(f"{path}/{runs[5]}", {"model": "pine"}).json()
    assert changed["p_value"] == 0.25
    assert changed["series"] == {"detector": "ks", "model": "pine"}
    assert editor.get(f"{path}/{runs[5]}").json() == changed


@pytest.mark.parametrize("name", ["", "/bulk"])
def test_a_run_that_is_stored_after_the_recomputation_follows_the_new_rules_soon(
    manager: Caller, editor: Caller, address: str, path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass of the upgrade is over too: the next one visits the runs of requests that had not ended."""

    def recompute() -> None:
        set_map(manager, address)
        recompute_runs(never)
        upgrade_runs(never)

    meanwhile(monkeypatch, drift_models, "insert_many" if name else "insert_one", recompute)
    assert editor.post(path + name, [RUN] if name else RUN).status_code == 201
    (late,) = stored_runs()
    assert "p_value" not in late
    assert manager.get(address).json()["recomputation"] is None
    upgrade_runs(never)
    (mended,) = stored_runs()
    assert mended == late | {
        "p_value": 0.25,
        "detector": "ks",
        "series": SERIES,
        "derived": ["detector", "p_value", "observed_at"],
        "rules_version": 1,
    }


def test_an_upgrade_that_overlaps_the_recomputation_follows_the_new_rules(
    runs: list[str], manager: Caller, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recompute() -> None:
        set_map(manager, address)
        recompute_runs(never)

    # The first reading looks for runs of the time at which the last pass ended, and finds none.
    meanwhile(monkeypatch, batches, "first_runs", recompute, call=2)
    upgrade_runs(never)
    assert [run["series"] for run in stored_runs()] == [SERIES] * 10


def test_a_run_from_a_slow_request_and_a_fast_clock_is_found(
    manager: Caller, editor: Caller, address: str, path: str
) -> None:
    """The time is just within the two minutes that a request may take, and was visited before the run was stored."""
    upgrade_runs(never)
    run = editor.post(path, RUN).json()["id"]
    set_map(manager, address)
    recompute_runs(never)
    upgrade_runs(never)
    as_of_older_rules(run, timestamps.now() - datetime.timedelta(seconds=110))
    upgrade_runs(never)
    assert stored_runs()[0]["series"] == SERIES


def as_of_older_rules(run: str, created_at: datetime.datetime) -> None:
    older = {"$set": {"created_at": created_at, "series": {"model": "forest"}, "derived": ["observed_at"]}}
    collection_of(Drift).update_one(
        {"_id": uuid.UUID(run).hex}, older | {"$unset": dict.fromkeys(("p_value", "detector", "rules_version"), "")}
    )


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, other: Callable[[], object], call: int = 1
) -> None:
    """Run something else before a call of a function: the next one, or a later one."""
    function = getattr(module, name)
    left = iter(range(call - 1))

    def called(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is None:
            monkeypatch.setattr(module, name, function)
            outside_the_transaction(other)
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, called)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("drift/search?sort_by=observed_at", {}),
        ("drift/search", {"p_value": None}),
        ("drift/stats", {"interval": "day"}),
    ],
)
def test_background_work_changes_no_result_of_a_query_that_runs_meanwhile(
    runs: list[str], editor: Caller, address: str, query: str, body: dict[str, Any]
) -> None:
    """Each query reads the state of one moment. Otherwise a longer one misses runs whose keys in an index change."""
    with commands() as sent:
        assert editor.post(f"{address}/{query}", body).status_code == 200
    queries = [each["command"] for each in sent if each["command"].get("aggregate") == Drift._meta.db_table]
    assert queries
    assert {command["readConcern"]["level"] for command in queries} == {"snapshot"}
