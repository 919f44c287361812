"""Runs that never end: `drifts/overdue.py` makes a Running run Failed once its time-out is over."""

import datetime
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DatabaseError
from django.urls import reverse
from pytest_django import Settings

from audit.models import Event
from core.mongodb.documents import collection_of, mongodb
from drifts import models as drift_models
from drifts import overdue
from drifts.models import Drift
from drifts.overdue import fail_overdue_runs, note_with_reason, overdue_count, overdue_runs, running_count
from driftwatch.tasks import TASKS
from experiments.models import DeletedExperiment, Experiment
from experiments.run_rules import MAX_RUN_TIMEOUT
from tests.caller import Caller
from tests.conftest import purge_in_background
from tests.live import ROOT
from tests.profiler import commands
from tests.session import through_session
from tests.test_background_tasks import environment
from tests.test_first_starts import at_once
from tests.test_observed_at import as_older_record
from tests.test_recomputation import meanwhile
from tests.test_runs_page import Shown
from tests.test_upgrades import after, never, refuse_every_second_call, stored
from tests.times import time_of

RUN = {"job_status": "Running", "model": "forest"}
FINISHED = {"job_status": "Completed", "model": "forest", "drift_detected": True}
REASON = "Failed by Drift Watch: no heartbeat or result within 60 s."
HOUR = 3_600
# A program that fails the overdue runs of a database as often as there are any.
FAILING = "from drifts.overdue import fail_overdue_runs; fail_overdue_runs(lambda: False)"


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}/drift"


@pytest.fixture
def run(editor: Caller, path: str) -> str:
    """The path of a run that is overdue."""
    return f"{path}/{new(editor, path, run_timeout=60)}"


def new(editor: Caller, path: str, *, age: int = HOUR, heartbeat: int | None = None, **fields: Any) -> str:
    """Report a run that is `age` seconds old by the database's clock, and return its id."""
    response = editor.post(path, {**RUN, **fields})
    assert response.status_code == 201, response.content
    times = {"created_at": ago(age)} | ({} if "observed_at" in fields else {"observed_at": ago(age)})
    if heartbeat is not None:
        times["heartbeat_at"] = ago(heartbeat)
    pk: str = response.json()["id"]
    collection_of(Drift).update_one({"_id": uuid.UUID(pk).hex}, [{"$set": times}])
    return pk


def ago(seconds: int) -> dict[str, Any]:
    return {"$subtract": ["$$NOW", seconds * 1_000]}


def id_of(run: str) -> str:
    return run.rpartition("/")[2]


def events() -> list[Event]:
    return list(Event.objects.filter(action="run_overdue"))


# Conditions of being overdue.


@pytest.mark.parametrize(
    ("of_experiment", "of_run", "age", "heartbeat", "is_overdue"),
    [
        (None, None, 10 * 365 * 24 * HOUR, None, False),
        (60, None, 30, None, False),
        (60, None, 90, None, True),
        (None, 60, 30, None, False),
        (None, 60, 90, None, True),
        (60, HOUR, 90, None, False),
        (HOUR, 60, 90, None, True),
        (60, None, 90, 30, False),
        (60, 60, HOUR, 90, True),
        (60, None, 30, 90, False),
        (60, MAX_RUN_TIMEOUT, HOUR, None, False),
        (MAX_RUN_TIMEOUT, None, MAX_RUN_TIMEOUT + 60, None, True),
    ],
)
def test_a_run_is_overdue_once_its_own_time_out_or_that_of_its_experiment_is_over(
    of_experiment: int | None,
    of_run: int | None,
    age: int,
    heartbeat: int | None,
    is_overdue: bool,
    editor: Caller,
    experiment: Experiment,
    path: str,
) -> None:
    Experiment.objects.update(run_timeout=of_experiment)
    pk = new(editor, path, age=age, heartbeat=heartbeat, run_timeout=of_run)
    assert overdue_count() == is_overdue
    fail_overdue_runs(never)
    run = editor.get(f"{path}/{pk}").json()
    assert (run["job_status"], run["overdue"]) == (("Failed", True) if is_overdue else ("Running", False))
    assert (running_count(), overdue_count()) == (not is_overdue, 0)


@pytest.mark.parametrize(("age", "is_overdue"), [(90, True), (0, False)])
@pytest.mark.parametrize("observed_at", ["2020-01-01T00:00:00Z", "+23 hours"])
def test_the_time_at_which_the_data_was_looked_at_has_no_effect(
    age: int, is_overdue: bool, observed_at: str, editor: Caller, path: str
) -> None:
    if observed_at.startswith("+"):
        observed_at = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=23)).isoformat()
    pk = new(editor, path, age=age, run_timeout=60, observed_at=observed_at)
    fail_overdue_runs(never)
    assert editor.get(f"{path}/{pk}").json()["overdue"] is is_overdue


def test_the_clock_of_the_service_has_no_effect(
    run: str, editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = new(editor, path, age=30, run_timeout=60)
    for hours in (-5, 5):
        time = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
        monkeypatch.setattr("core.timestamps.now", lambda time=time: time)
        fail_overdue_runs(never)
    monkeypatch.undo()
    assert [editor.get(each).json()["job_status"] for each in (run, f"{path}/{alive}")] == ["Failed", "Running"]


@pytest.mark.parametrize("fields", [FINISHED, {"job_status": "Failed"}])
def test_a_run_that_has_ended_is_never_overdue(fields: dict[str, Any], run: str, editor: Caller) -> None:
    before = editor.patch(run, fields).json()
    assert overdue_count() == 0
    fail_overdue_runs(never)
    assert editor.get(run).json() == before
    assert before["overdue"] is False


# The run afterwards.


def test_an_overdue_run_becomes_failed_with_the_reason_in_its_note(run: str, editor: Caller) -> None:
    before = editor.get(run)
    fail_overdue_runs(never)
    after = editor.get(run)
    assert after.json() == before.json() | {
        "job_status": "Failed",
        "overdue": True,
        "note": REASON,
        "updated_at": after.json()["updated_at"],
    }
    assert time_of(after.json()["updated_at"]) > time_of(before.json()["updated_at"])
    assert after.headers["ETag"] != before.headers["ETag"]
    assert editor.patch(run, FINISHED, headers={"If-Match": before.headers["ETag"]}).status_code == 412


@pytest.mark.parametrize(
    ("note", "seconds", "expected"),
    [
        (None, 60, REASON),
        ("two\nlines", 60, f"two\nlines\n{REASON}"),
        ("x" * 2_000, 60, "x" * (1_999 - len(REASON)) + f"\n{REASON}"),
        ("x" * (1_999 - len(REASON)), 60, "x" * (1_999 - len(REASON)) + f"\n{REASON}"),
        ("note", 86_400, "note\nFailed by Drift Watch: no heartbeat or result within 86,400 s."),
    ],
)
def test_the_reason_follows_the_note_whose_end_is_cut_off(note: str | None, seconds: int, expected: str) -> None:
    assert note_with_reason(note, seconds) == expected
    assert len(expected) <= 2_000


def test_the_note_of_a_client_is_kept_before_the_reason(editor: Caller, experiment: Experiment, path: str) -> None:
    Experiment.objects.update(run_timeout=60)
    run = f"{path}/{new(editor, path, note='é' * 2_000)}"
    fail_overdue_runs(never)
    note = editor.get(run).json()["note"]
    assert note == "é" * (1_999 - len(REASON)) + f"\n{REASON}"
    assert editor.put(run, editor.get(run).json()).status_code == 200


def test_a_run_of_an_older_schema_becomes_failed_and_is_upgraded(editor: Caller, path: str) -> None:
    Experiment.objects.update(run_timeout=60)
    pk = new(editor, path)
    as_older_record(pk)
    fail_overdue_runs(never)
    run = editor.get(f"{path}/{pk}").json()
    assert (run["job_status"], run["overdue"], run["note"]) == ("Failed", True, REASON)
    assert (run["schema_version"], run["series"]) == ("1.1.0", {"model": "forest"})


def test_the_failure_is_an_event_of_the_service_itself(
    run: str, editor: Caller, manager: Caller, experiment: Experiment
) -> None:
    editor.patch(run, {"note": "Started by the nightly pipeline."})
    fail_overdue_runs(never)
    (event,) = manager.post(f"/experiment/{experiment.pk}/audit/search", {"action": "run_overdue"}).json()
    assert (event["actor"]["kind"], event["actor"]["email"], event["way"]) == ("service", "", "command")
    assert (event["target"]["type"], event["target"]["id"]) == ("drift", id_of(run))
    assert event["before"] == {"job_status": "Running", "note": "Started by the nightly pipeline."}
    assert event["after"] == {"job_status": "Failed", "note": f"Started by the nightly pipeline.\n{REASON}"}


# A client that reports later.


@pytest.mark.parametrize("method", ["put", "patch"])
@pytest.mark.parametrize("body", [FINISHED, {**RUN, "job_status": "Failed"}, RUN])
def test_a_later_report_of_the_status_counts(method: str, body: dict[str, Any], run: str, editor: Caller) -> None:
    fail_overdue_runs(never)
    response = getattr(editor, method)(run, body)
    assert (response.status_code, response.json()["job_status"]) == (200, body["job_status"])
    assert response.json()["overdue"] is False
    assert response.json()["note"] == REASON
    assert editor.get(run).json() == response.json()
    assert "overdue" not in stored(id_of(run))
    assert response.json()["verdict"] == ("drift" if body is FINISHED else "unknown")


def test_a_change_of_other_fields_leaves_the_run_overdue(run: str, editor: Caller) -> None:
    fail_overdue_runs(never)
    changed = editor.patch(run, {"tags": ["looked at"], "overdue": False}).json()
    assert (changed["overdue"], changed["job_status"], changed["tags"]) == (True, "Failed", ["looked at"])


def test_a_run_that_is_running_again_has_its_time_out_again(run: str, editor: Caller) -> None:
    fail_overdue_runs(never)
    assert editor.patch(run, {"job_status": "Running"}).status_code == 200
    assert editor.post(f"{run}/heartbeat").status_code == 204
    fail_overdue_runs(never)
    assert editor.get(run).json()["job_status"] == "Running"
    collection_of(Drift).update_one({}, [{"$set": {"heartbeat_at": ago(90)}}])
    fail_overdue_runs(never)
    assert editor.get(run).json()["note"] == f"{REASON}\n{REASON}"
    assert len(events()) == 2


def test_a_client_cannot_report_that_a_run_is_overdue(editor: Caller, path: str) -> None:
    for body in ({**RUN, "job_status": "Failed", "overdue": True}, {**FINISHED, "overdue": True}):
        created = editor.post(path, body).json()
        assert created["overdue"] is False
        assert "overdue" not in stored(created["id"])


def test_a_run_that_an_older_copy_of_the_service_has_completed_is_not_overdue(
    run: str, editor: Caller, path: str
) -> None:
    """An older copy does not know the field, and leaves it in the run."""
    fail_overdue_runs(never)
    collection_of(Drift).update_one({}, {"$set": {"job_status": "Completed"}})
    assert editor.get(run).json()["overdue"] is False
    assert editor.post(f"{path}/search", {"overdue": True}).json() == []
    assert len(editor.post(f"{path}/search", {"overdue": False}).json()) == 1


# Several at once.


def test_several_threads_at_once_make_each_run_failed_once(editor: Caller, path: str) -> None:
    ids = [new(editor, path, run_timeout=60) for _ in range(12)]
    at_once(lambda: fail_overdue_runs(never), 4)
    assert [editor.get(f"{path}/{pk}").json()["note"] for pk in ids] == [REASON] * 12
    assert sorted(event.target.object_id for event in events()) == sorted(ids)


def test_several_processes_at_once_make_each_run_failed_once(editor: Caller, path: str) -> None:
    ids = [new(editor, path, run_timeout=60) for _ in range(30)]
    arguments = [sys.executable, "manage.py", "shell", "--verbosity=0", "--command", FAILING]
    processes = [subprocess.Popen(arguments, cwd=ROOT, env=environment()) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0] * 3
    assert [editor.get(f"{path}/{pk}").json()["note"] for pk in ids] == [REASON] * 30
    assert sorted(event.target.object_id for event in events()) == sorted(ids)


@pytest.mark.parametrize(
    ("report", "kept"),
    [
        (lambda editor, run: editor.patch(run, FINISHED), {"job_status": "Completed", "note": None}),
        (lambda editor, run: editor.put(run, FINISHED), {"job_status": "Completed", "note": None}),
        (lambda editor, run: editor.post(f"{run}/heartbeat"), {"job_status": "Running", "note": None}),
        (lambda editor, run: editor.patch(run, {"run_timeout": None}), {"job_status": "Running", "note": None}),
        (lambda editor, run: editor.patch(run, {"note": "new"}), {"job_status": "Failed", "note": f"new\n{REASON}"}),
        (lambda editor, run: editor.delete(run), None),
    ],
)
def test_a_report_during_the_failure_is_never_overwritten(
    report: Callable[[Caller, str], Any],
    kept: dict[str, Any] | None,
    run: str,
    editor: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The report comes after the run was read as overdue, and before that is written."""
    meanwhile(monkeypatch, overdue, "note_with_reason", lambda: report(editor, run))
    fail_overdue_runs(never)
    response = editor.get(run)
    if kept is None:
        assert response.status_code == 404
    else:
        assert {name: response.json()[name] for name in kept} == kept
    assert len(events()) == (kept is not None and kept["job_status"] == "Failed")


def test_a_failure_during_a_report_does_not_overwrite_it(
    run: str, editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, drift_models, "changed_document", lambda: fail_overdue_runs(never))
    changed = editor.patch(run, FINISHED)
    assert (changed.status_code, changed.json()["job_status"], changed.json()["overdue"]) == (200, "Completed", False)
    assert editor.get(run).json() == changed.json()
    assert len(events()) == 1


def test_all_reports_win_against_the_failures_at_the_same_time(editor: Caller, path: str) -> None:
    ids = [new(editor, path, run_timeout=60) for _ in range(12)]
    editors = [Caller(editor.token, editor.user) for _ in ids]
    with ThreadPoolExecutor(6) as pool:
        failing = pool.submit(fail_overdue_runs, never)
        reports = list(pool.map(lambda caller, pk: caller.patch(f"{path}/{pk}", FINISHED), editors, ids))
        failing.result()
    assert {report.status_code for report in reports} == {200}
    runs = [editor.get(f"{path}/{pk}").json() for pk in ids]
    assert {(run["job_status"], run["verdict"], run["overdue"]) for run in runs} == {("Completed", "drift", False)}
    # Some runs were Failed before their report, and each of these once.
    assert len(events()) == sum(run["note"] == REASON for run in runs)


# Experiments.


def test_runs_of_a_deleted_experiment_are_left_to_the_purge(
    run: str, editor: Caller, path: str, experiment: Experiment
) -> None:
    Experiment.objects.update(run_timeout=60)
    new(editor, path)
    experiment.delete()
    assert overdue_runs() == []
    fail_overdue_runs(never)
    assert {document["job_status"] for document in collection_of(Drift).find()} == {"Running"}
    assert (events(), overdue_count()) == ([], 0)
    purge_in_background()
    assert (running_count(), overdue_count()) == (0, 0)


def test_runs_of_an_archived_experiment_become_failed(
    run: str, editor: Caller, manager: Caller, experiment: Experiment
) -> None:
    manager.post(f"/experiment/{experiment.pk}/archive")
    fail_overdue_runs(never)
    assert editor.get(run).json()["overdue"] is True


def test_the_time_out_of_an_experiment_counts_as_soon_as_it_is_set(
    editor: Caller, manager: Caller, experiment: Experiment, path: str
) -> None:
    runs = [f"{path}/{new(editor, path)}" for _ in range(2)]
    for seconds, status in ((2 * HOUR, "Running"), (None, "Running"), (60, "Failed")):
        assert manager.patch(f"/experiment/{experiment.pk}", {"run_timeout": seconds}).status_code == 200
        fail_overdue_runs(never)
        assert [editor.get(run).json()["job_status"] for run in runs] == [status] * 2


def test_experiments_take_turns(
    editor: Caller, manager: Caller, experiment: Experiment, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "AT_ONCE", 2)
    other = manager.post("/experiment", {"name": "another", "permissions": []}).json()["id"]
    Experiment.objects.update(run_timeout=60)
    for _ in range(5):
        new(editor, path)
        new(manager, f"/experiment/{other}/drift")
        new(editor, path, run_timeout=60)
    fail_overdue_runs(after(6))
    failed = [run["experiment_id"] for run in collection_of(Drift).find({"job_status": "Failed", "run_timeout": None})]
    assert sorted(failed) == sorted([experiment.pk.hex, uuid.UUID(other).hex] * 2)
    fail_overdue_runs(never)
    assert (running_count(), len(events())) == (0, 15)


# Stops and failures.


def test_the_work_stops_before_the_next_run_when_asked(editor: Caller, path: str) -> None:
    for _ in range(3):
        new(editor, path, run_timeout=60)
    fail_overdue_runs(after(1))
    assert (running_count(), len(events())) == (2, 1)


def test_a_run_that_cannot_be_written_does_not_hold_up_the_others(
    editor: Caller, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [new(editor, path, run_timeout=60) for _ in range(3)]
    # Only another client of the database stores such a run.
    collection_of(Drift).update_one({"_id": uuid.UUID(ids[1]).hex}, {"$set": {"parameters": None, "note": 5}})
    fail_overdue_runs(never)
    assert [stored(pk)["job_status"] for pk in ids] == ["Failed", "Running", "Failed"]
    (problem,) = {record.message for record in caplog.records if record.levelname == "ERROR"}
    assert problem.startswith(f"Run {ids[1]} of experiment {id_of(path.removesuffix('/drift'))} cannot be made Failed")


def test_a_run_that_is_locked_does_not_hold_up_the_others(editor: Caller, path: str) -> None:
    """MongoDB ends the transaction of a process that was killed after a minute."""
    ids = [new(editor, path, run_timeout=60) for _ in range(3)]
    runs = collection_of(Drift)
    with runs.database.client.start_session() as session, session.start_transaction():
        runs.update_one({"_id": uuid.UUID(ids[1]).hex}, {"$set": {"note": "locked"}}, session=session)
        fail_overdue_runs(never)
        assert [stored(pk)["job_status"] for pk in ids] == ["Failed", "Running", "Failed"]
        session.abort_transaction()
    fail_overdue_runs(never)
    assert stored(ids[1])["job_status"] == "Failed"


@pytest.mark.parametrize("name", ["overdue_runs", "fail_if_overdue"])
def test_the_work_waits_for_a_database_that_is_unavailable(
    run: str, editor: Caller, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_every_second_call(monkeypatch, overdue, name)
    fail_overdue_runs(never)
    assert editor.get(run).json()["overdue"] is True
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_the_run_and_its_event_are_stored_together_or_not_at_all(
    run: str, editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ValueError("no event")

    with monkeypatch.context() as patch:
        patch.setattr(overdue, "record", fail)
        fail_overdue_runs(never)
    assert (editor.get(run).json()["job_status"], events()) == ("Running", [])
    fail_overdue_runs(never)
    assert (editor.get(run).json()["job_status"], len(events())) == ("Failed", 1)


# Cost, and numbers.


def test_running_runs_without_a_time_out_are_not_read(
    editor: Caller, path: str, experiment: Experiment, manager: Caller
) -> None:
    other = manager.post("/experiment", {"name": "another", "run_timeout": 60}).json()["id"]
    DeletedExperiment.objects.create(id=uuid.uuid4(), name="deleted")
    Experiment.objects.bulk_create(Experiment(name=f"experiment {number}") for number in range(100))
    Drift.objects.create_all_in(experiment, [RUN] * 500)
    Drift.objects.create_all_in(Experiment.objects.get(pk=other), [FINISHED] * 500)
    pk = new(editor, path, run_timeout=60)
    late = new(manager, f"/experiment/{other}/drift")
    with commands() as entries:
        assert {key.run_id for key in overdue_runs()} == {uuid.UUID(pk).hex, uuid.UUID(late).hex}
        assert overdue_count() == 2
    finding, counting = (entry for entry in entries if entry["command"]["aggregate"] == Experiment._meta.db_table)
    for entry in (finding, counting):
        assert entry["keysExamined"] < 10
        assert entry["docsExamined"] < 10


def test_running_runs_are_counted_from_indexes_alone(
    editor: Caller, manager: Caller, path: str, experiment: Experiment
) -> None:
    deleted = Experiment.objects.get(pk=manager.post("/experiment", {"name": "deleted"}).json()["id"])
    Drift.objects.create_all_in(deleted, [RUN] * 5 + [FINISHED] * 5)
    deleted.delete_by(None)
    Drift.objects.create_all_in(experiment, [RUN] * 20 + [FINISHED] * 20)
    with commands() as entries:
        assert running_count() == 20
    _, *counts = sorted(entries, key=lambda entry: entry["command"]["aggregate"] != DeletedExperiment._meta.db_table)
    assert [(entry["planSummary"].count("IXSCAN"), entry["docsExamined"]) for entry in counts] == [(1, 0)] * 2
    assert max(entry["keysExamined"] for entry in counts) <= 26


def test_the_numbers_have_a_limit(editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "MAX_RUNNING", 2)
    monkeypatch.setattr(overdue, "MAX_OVERDUE", 1)
    for _ in range(3):
        new(editor, path, run_timeout=60)
    assert (running_count(), overdue_count()) == (2, 1)


@pytest.mark.parametrize("number", [running_count, overdue_count])
def test_a_number_that_takes_too_long_is_an_error(number: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "METRIC_SECONDS", 1e-6)
    with pytest.raises(DatabaseError):
        number()


@pytest.mark.parametrize(("number", "queries"), [(running_count, 2), (overdue_count, 2)])
def test_a_number_takes_few_queries(number: Callable[[], int], queries: int) -> None:
    with commands() as entries:
        number()
    assert len(entries) == queries


def test_the_work_is_a_background_task() -> None:
    (task,) = (task for task in TASKS if task.run is fail_overdue_runs)
    assert (task.name, task.every) == ("fail_overdue_runs", datetime.timedelta(seconds=15))


# Filters, documents and pages.


def test_overdue_runs_are_found_by_a_filter(run: str, editor: Caller, path: str) -> None:
    fail_overdue_runs(never)
    others = [editor.post(path, body).json()["id"] for body in (RUN, FINISHED, {**RUN, "job_status": "Failed"})]

    def found(body: dict[str, Any]) -> set[str]:
        return {each["id"] for each in editor.post(f"{path}/search", body).json()}

    assert found({"overdue": True}) == found({"overdue": {"$ne": False}}) == {id_of(run)}
    assert found({"overdue": False}) == found({"$nor": [{"overdue": True}]}) == set(others)
    assert editor.post(f"{path}/search", {"overdue": "yes"}).status_code == 422


def test_the_openapi_document_has_the_field_and_the_heartbeat(anonymous: Caller) -> None:
    document = anonymous.get("/openapi.json").json()
    run = document["components"]["schemas"]["Drift"]
    assert "overdue" in run["required"]
    assert (run["properties"]["overdue"]["type"], run["properties"]["overdue"]["readOnly"]) == ("boolean", True)
    operation = document["paths"]["/api/v1/experiment/{experiment_id}/drift/{drift_id}/heartbeat"]["post"]
    assert {"204", "401", "403", "404", "409"} <= operation["responses"].keys()
    assert "requestBody" not in operation
    assert operation["operationId"] == "drift_heartbeat"


def test_an_overdue_run_is_marked_on_the_pages(
    run: str, editor: Caller, path: str, experiment: Experiment, settings: Settings
) -> None:
    fail_overdue_runs(never)
    editor.post(path, {**RUN, "job_status": "Failed"})
    browser = through_session(editor, settings).client
    page = f"/experiments/{experiment.pk}"
    mark = "Overdue. Drift Watch made this run Failed because no heartbeat or result came within its time-out."
    assert Shown(browser.get(page)).texts("table.runs .tag") == [mark]
    assert Shown(browser.get(f"{page}?where=overdue eq true")).runs == [id_of(run)]
    shown = Shown(browser.get(f"{page}/runs/{id_of(run)}"))
    assert shown.texts(".facts .tag") == [mark]
    assert REASON in shown.text


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        (RUN, ["86400, of the experiment"]),
        ({**RUN, "run_timeout": 60}, ["60"]),
        (FINISHED, []),
    ],
)
def test_the_page_of_a_running_run_shows_the_time_out_that_counts(
    fields: dict[str, Any], shown: list[str], reader: Caller, experiment: Experiment, settings: Settings
) -> None:
    Experiment.objects.update(run_timeout=86_400)
    run = Drift.objects.create_in(experiment, **fields)
    browser = through_session(reader, settings).client
    for part in ("", "/state"):
        page = Shown(browser.get(f"/experiments/{experiment.pk}/runs/{run.pk}{part}"))
        facts = zip(page.texts("dl.facts dt"), page.texts("dl.facts dd"), strict=True)
        assert [value for name, value in facts if name == "Time-out (seconds)"] == shown


def test_an_overdue_run_is_marked_in_the_portal_and_found_there(
    run: str, editor: Caller, admin: Caller, path: str, settings: Settings
) -> None:
    fail_overdue_runs(never)
    editor.post(path, {**RUN, "job_status": "Failed"})
    browser = through_session(admin, settings).client
    changelist = reverse("admin:drifts_drift_changelist")
    assert Shown(browser.get(changelist)).texts(".field-marked_verdict") == ["Failed", "Failed, overdue"]
    assert Shown(browser.get(changelist, {"overdue": "yes"})).texts(".field-marked_verdict") == ["Failed, overdue"]
    form = browser.get(reverse("admin:drifts_drift_change", args=[id_of(run)]))
    assert Shown(form).all(".field-overdue img", "alt") == ["True"]


def test_an_export_has_the_field(run: str, editor: Caller, admin: Caller, settings: Settings) -> None:
    fail_overdue_runs(never)
    browser = through_session(admin, settings).client
    action = {"action": "export_as_json", "_selected_action": id_of(run)}
    response = browser.post(reverse("admin:drifts_drift_changelist"), action)
    assert json.loads(b"".join(response.streaming_content)) == [editor.get(run).json()]


def test_old_running_runs_are_on_the_dashboard_with_and_without_a_time_out(
    editor: Caller, admin: Caller, path: str, settings: Settings
) -> None:
    """The index of the Running runs begins with their time-outs."""
    for number, timeout in enumerate((None, 10**6, None, 10**6)):
        new(editor, path, age=(30 - number) * 24 * HOUR, model=f"model {number}", run_timeout=timeout)
    stale = through_session(admin, settings).client.get("/admin/").context["dashboard"].stale
    assert [run.model for run in stale] == ["model 3", "model 2", "model 1", "model 0"]


def test_a_database_has_at_most_twelve_indexes_of_runs_beside_that_of_ids() -> None:
    assert len(mongodb().database[Drift._meta.db_table].index_information()) <= 13
