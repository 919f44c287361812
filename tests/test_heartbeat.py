"""Heartbeats: signs of life of Running runs, which change neither the ETag nor `updated_at`."""

import datetime
import uuid
from typing import Any

import pytest

from core.api import conditional
from core.mongodb.documents import collection_of
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import purge_in_background
from tests.test_observed_at import as_older_record
from tests.test_upgrades import outside_the_transaction

RUN = {"job_status": "Running", "model": "forest"}
FINISHED = {"job_status": "Completed", "drift_detected": True}
# A time that no clock of the service or the database shows.
PAST = datetime.datetime(2026, 1, 1)


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}/drift"


@pytest.fixture
def run(editor: Caller, path: str) -> str:
    """The path of a Running run."""
    return f"{path}/{editor.post(path, RUN).json()['id']}"


def beat(caller: Caller, run: str, **options: Any) -> Any:
    return caller.post(f"{run}/heartbeat", **options)


def change(run: str, **fields: Any) -> None:
    """Change stored fields of a run, by its path or its id."""
    collection_of(Drift).update_one({"_id": uuid.UUID(run.rpartition("/")[2]).hex}, {"$set": fields})


@pytest.mark.parametrize("role", ["anonymous", "stranger", "reader", "watcher", "editor", "manager", "admin"])
def test_a_heartbeat_needs_the_level_edit(run: str, role: str, editor: Caller, request: pytest.FixtureRequest) -> None:
    may = role in ("editor", "manager", "admin")
    response = beat(request.getfixturevalue(role), run)
    assert response.status_code == (204 if may else 401 if role == "anonymous" else 403)
    assert (editor.get(run).json()["heartbeat_at"] is not None) == may


def test_a_heartbeat_has_the_time_of_the_database_and_changes_nothing_else(
    run: str, editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = editor.get(run)
    assert before.json()["heartbeat_at"] is None
    # The clock of the service is wrong.
    monkeypatch.setattr("core.timestamps.now", lambda: PAST.replace(tzinfo=datetime.UTC))
    response = beat(editor, run)
    assert (response.status_code, response.content) == (204, b"")
    after = editor.get(run)
    heartbeat = after.json()["heartbeat_at"]
    assert heartbeat >= before.json()["created_at"]
    assert after.json() == before.json() | {"heartbeat_at": heartbeat}
    assert after.headers["ETag"] == before.headers["ETag"]


def test_a_later_heartbeat_takes_the_place_of_an_earlier_one(run: str, editor: Caller) -> None:
    change(run, heartbeat_at=PAST)
    assert beat(editor, run).status_code == 204
    assert editor.get(run).json()["heartbeat_at"] > "2026-01-02"


@pytest.mark.parametrize("body", [b"", b"{}", b"not JSON"])
def test_a_heartbeat_needs_no_body_and_reads_none(run: str, editor: Caller, body: bytes) -> None:
    assert editor.request("POST", f"{run}/heartbeat", body, content_type="text/plain").status_code == 204


@pytest.mark.parametrize("fields", [FINISHED, {"job_status": "Failed"}])
def test_a_run_that_has_ended_takes_no_heartbeat(run: str, editor: Caller, fields: dict[str, Any]) -> None:
    before = editor.patch(run, fields)
    response = beat(editor, run)
    assert response.status_code == 409
    assert response.json()["message"] == (
        f"The run is {fields['job_status']}, and only a Running run takes a heartbeat. "
        "Stop sending them, or set job_status to Running first."
    )
    assert editor.get(run).content == before.content
    assert editor.patch(run, {"job_status": "Running"}).status_code == 200
    assert beat(editor, run).status_code == 204


def test_a_run_that_does_not_exist_takes_no_heartbeat(
    run: str, path: str, editor: Caller, manager: Caller, experiment: Experiment
) -> None:
    other = manager.post("/experiment", {"name": "another"}).json()["id"]
    pk = run.rpartition("/")[2]
    for missing in (f"{path}/{uuid.uuid4()}", f"{path}/1", f"/experiment/{other}/drift/{pk}"):
        assert beat(manager, missing).status_code == 404
    assert editor.delete(run).status_code == 204
    assert beat(editor, run).status_code == 404


def test_a_run_of_a_deleted_experiment_takes_no_heartbeat(run: str, editor: Caller, experiment: Experiment) -> None:
    experiment.delete()
    assert beat(editor, run).status_code == 404
    purge_in_background()
    assert beat(editor, run).status_code == 404


def test_a_run_of_an_archived_experiment_takes_heartbeats(
    run: str, editor: Caller, manager: Caller, experiment: Experiment
) -> None:
    assert manager.post(f"/experiment/{experiment.pk}/archive").status_code == 200
    assert beat(editor, run).status_code == 204


def test_an_older_run_takes_heartbeats(run: str, editor: Caller) -> None:
    as_older_record(run.rpartition("/")[2])
    assert beat(editor, run).status_code == 204
    read = editor.get(run).json()
    assert read["heartbeat_at"] is not None
    assert (read["schema_version"], read["observed_at"]) == ("1.0.0", read["created_at"])


def test_a_client_sends_no_heartbeat_in_a_body(run: str, path: str, editor: Caller) -> None:
    """The service ignores the field there, so that a client may send a run back as it has read it."""
    assert beat(editor, run).status_code == 204
    read = editor.get(run).json()
    for body in (read, read | {"heartbeat_at": "2026-01-01T00:00:00Z"}):
        assert editor.put(run, body).json()["heartbeat_at"] == read["heartbeat_at"]
    assert editor.post(path, {**RUN, "heartbeat_at": "2026-01-01T00:00:00Z"}).json()["heartbeat_at"] is None


# Conditional requests


def test_a_heartbeat_between_a_read_and_a_write_breaks_no_condition(run: str, editor: Caller) -> None:
    tag = editor.get(run).headers["ETag"]
    assert beat(editor, run).status_code == 204
    assert editor.patch(run, FINISHED, headers={"If-Match": tag}).status_code == 200
    assert editor.patch(run, FINISHED, headers={"If-Match": tag}).status_code == 412


def test_a_heartbeat_during_a_conditional_write_breaks_neither(
    run: str, editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat comes between the comparison and the write of one transaction, which is repeated then."""
    tag = editor.get(run).headers["ETag"]
    allows, calls = conditional.allows, iter([lambda: beat(editor, run)])

    def compared(*arguments: Any) -> bool:
        for call in calls:
            outside_the_transaction(call)
        return allows(*arguments)

    monkeypatch.setattr(conditional, "allows", compared)
    changed = editor.patch(run, FINISHED, headers={"If-Match": tag}).json()
    assert (changed["job_status"], changed["heartbeat_at"] is not None) == ("Completed", True)
    assert editor.get(run).json() == changed


def test_a_client_that_has_seen_an_earlier_heartbeat_is_sent_the_run_again(run: str, editor: Caller) -> None:
    """Until the run has ended: then its last heartbeat does not change any more."""
    assert beat(editor, run).status_code == 204
    known = {"If-None-Match": editor.get(run).headers["ETag"]}
    assert editor.get(run, headers=known).status_code == 200
    known = {"If-None-Match": editor.patch(run, FINISHED).headers["ETag"]}
    assert editor.get(run, headers=known).status_code == 304


def test_runs_are_found_by_their_last_heartbeat(path: str, editor: Caller) -> None:
    for day in (1, 2, 3):
        run = editor.post(path, {**RUN, "model": str(day)}).json()
        change(run["id"], heartbeat_at=PAST.replace(day=day))
    found = editor.post(f"{path}/search", {"heartbeat_at": {"$lt": "2026-01-03"}}).json()
    assert {run["model"] for run in found} == {"1", "2"}
