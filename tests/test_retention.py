"""Retention: `drifts/retention.py` removes runs because of their age."""

import datetime
import re
import subprocess
import sys
import uuid
from typing import Any

import pytest
from bson import Binary
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from pytest_django import Settings

from audit.models import Event
from core import totals
from core.metrics import REMOVED_RUNS
from core.mongodb.documents import collection_of, mongodb
from drifts import batches, retention
from drifts.models import Drift
from drifts.retention import present, remove_old_runs, see_days
from driftwatch.tasks import TASKS
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.live import ROOT
from tests.profiler import commands, reads_of
from tests.session import through_session
from tests.test_background_tasks import environment
from tests.test_experiment_pages import filled, send
from tests.test_first_starts import at_once
from tests.test_observed_at import as_older_record
from tests.test_recomputation import meanwhile
from tests.test_runs_page import Shown
from tests.test_upgrades import after, never, refuse_every_second_call

DAY = datetime.timedelta(days=1)
MOMENT = datetime.timedelta(milliseconds=1)
# The present time of these tests. Runs that are reported now have their `created_at` later.
NOW = datetime.datetime(2026, 11, 1, 12, tzinfo=datetime.UTC)
CUTOFF = NOW - 30 * DAY
OLD = CUTOFF - DAY
COMPLETED = {"job_status": "Completed", "drift_detected": False}
RUNNING = {"job_status": "Running"}
# A program that removes old runs, and kills itself at the third call of a function.
KILLED = """
import itertools, os, signal
from core.mongodb.documents import mongodb
from drifts import batches, retention
batches.LONGEST_PAUSE, retention.BATCH_SIZE = 0, 3
owner, name = {place}
function, calls = getattr(owner, name), itertools.count(1)
def called(*arguments, **options):
    function(*arguments, **options)
    if next(calls) == 3:
        session = mongodb().session
        print(session.session_id["id"].hex() if session else "", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, called)
retention.remove_old_runs(lambda: False)
"""


@pytest.fixture(autouse=True)
def small_batches_at_a_fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 3)
    monkeypatch.setattr(batches, "LONGEST_PAUSE", 0)
    monkeypatch.setattr(retention, "present", lambda: NOW)


@pytest.fixture
def kept(experiment: Experiment) -> Experiment:
    """The experiment, whose runs are kept for 30 days. The service has known it for long."""
    keep(30)
    return experiment


@pytest.fixture
def browser(manager: Caller, settings: Settings) -> Client:
    return through_session(manager, settings).client


@pytest.fixture
def address(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}/retention"


def keep(days: int | None) -> None:
    """Set the days of all experiments. The service has known them for long."""
    Experiment.objects.update(retention_days=days)
    see_days()
    Experiment.objects.update(retention_seen_at=NOW - 99 * DAY)


def new(experiment: Experiment, observed_at: datetime.datetime, **fields: Any) -> Drift:
    return Drift.objects.create_in(experiment, **{"model": "forest", **COMPLETED, **fields}, observed_at=observed_at)


def older_record(experiment: Experiment, created_at: datetime.datetime, **fields: Any) -> Drift:
    run = new(experiment, created_at, **fields)
    as_older_record(str(run.pk), created_at)
    return run


def left() -> set[uuid.UUID]:
    return set(Drift.objects.values_list("pk", flat=True))


def removed_runs() -> list[int]:
    """The numbers of runs in the events, in their order."""
    events = Event.objects.filter(action="runs_removed").order_by("created_at", "pk")
    return [event.after["runs"] for event in events]


# Runs that are removed.


@pytest.mark.parametrize(
    ("observed_at", "fields", "is_removed"),
    [
        (CUTOFF - MOMENT, {}, True),
        (CUTOFF, {}, False),
        (CUTOFF + MOMENT, {}, False),
        (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), {}, True),
        (OLD, {"job_status": "Failed"}, True),
        (OLD, RUNNING, False),
        (NOW + DAY, {}, False),
    ],
)
def test_a_run_is_removed_once_it_is_older_than_its_days_and_has_ended(
    observed_at: datetime.datetime, fields: dict[str, Any], is_removed: bool, kept: Experiment
) -> None:
    run = new(kept, observed_at, **fields)
    remove_old_runs(never)
    assert left() == (set() if is_removed else {run.pk})
    assert removed_runs() == ([1] if is_removed else [])


def test_the_time_of_the_data_counts_and_not_that_of_the_report(kept: Experiment) -> None:
    late = new(kept, NOW)
    Drift.objects.filter(experiment=kept).update(created_at=OLD)
    new(kept, OLD)
    remove_old_runs(never)
    assert left() == {late.pk}


@pytest.mark.parametrize(
    ("created_at", "fields", "is_removed"),
    [(CUTOFF - MOMENT, {}, True), (CUTOFF, {}, False), (CUTOFF + MOMENT, {}, False), (OLD, RUNNING, False)],
)
def test_an_older_record_counts_by_its_report_before_its_upgrade(
    created_at: datetime.datetime, fields: dict[str, Any], is_removed: bool, kept: Experiment
) -> None:
    run = older_record(kept, created_at, **fields)
    remove_old_runs(never)
    assert left() == (set() if is_removed else {run.pk})


def test_both_kinds_of_runs_are_removed_in_batches_the_oldest_first(kept: Experiment) -> None:
    # Several runs of one time are told apart by their ids.
    dated = [new(kept, OLD - hours * DAY) for hours in (0, 3, 3, 3, 3, 1, 2)]
    records = [older_record(kept, OLD - days * DAY) for days in (2, 1, 1, 1, 0)]
    young = {new(kept, NOW).pk, older_record(kept, NOW).pk}
    remove_old_runs(after(1))
    gone = {run.pk for run in dated + records} | young
    assert gone - left() == {run.pk for run in sorted(dated[1:5], key=lambda run: run.pk)[:3]}
    remove_old_runs(never)
    assert left() == young
    assert removed_runs() == [3, 3, 1, 3, 1, 1]


def test_archived_experiments_are_no_exception_and_deleted_ones_are_left_alone(
    kept: Experiment, manager: Caller
) -> None:
    new(kept, OLD)
    archived = Experiment.objects.create(name="archived", archived_at=NOW)
    new(archived, OLD)
    keep(30)
    kept.delete()
    remove_old_runs(never)
    assert [run.experiment_id for run in Drift.objects.all()] == [kept.pk]
    assert [event.experiment_id for event in Event.objects.filter(action="runs_removed")] == [archived.pk]


# The days.


@pytest.mark.parametrize(
    ("of_experiment", "of_service", "days"),
    [(None, 0, None), (30, 0, 30), (None, 30, 30), (10, 30, 10), (30, 10, 10), (36_500, 36_500, 36_500)],
)
def test_the_fewer_days_of_the_experiment_and_the_service_count(
    of_experiment: int | None,
    of_service: int,
    days: int | None,
    experiment: Experiment,
    settings: Settings,
    manager: Caller,
    address: str,
) -> None:
    settings.RETENTION_DAYS = of_service
    keep(of_experiment)
    young, old = (NOW - (days or 0) * DAY + step for step in (MOMENT, -MOMENT))
    expected = {new(experiment, young).pk} | ({new(experiment, OLD).pk} if days is None else set())
    if days is not None and days < 20_000:
        new(experiment, old)
        assert manager.get(address).json()["runs"] == 1
    assert manager.get(address).json()["days"] == days
    remove_old_runs(never)
    assert left() == expected


def test_retention_is_off_by_default_and_writes_nothing_then(experiment: Experiment, manager: Caller) -> None:
    assert manager.get(f"/experiment/{experiment.pk}").json()["retention_days"] is None
    run = new(experiment, datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
    before = collection_of(Experiment).find_one()
    remove_old_runs(never)
    assert left() == {run.pk}
    assert collection_of(Experiment).find_one() == before


def test_new_days_count_a_day_after_the_service_has_seen_them(
    experiment: Experiment, manager: Caller, settings: Settings
) -> None:
    """A mistake can be undone until then."""
    new(experiment, OLD)

    def wait(time: datetime.timedelta) -> None:
        seen_at = Experiment.objects.get().retention_seen_at
        assert seen_at
        Experiment.objects.update(retention_seen_at=seen_at - time)

    def is_kept() -> bool:
        remove_old_runs(never)
        return bool(left())

    assert manager.patch(f"/experiment/{experiment.pk}", {"retention_days": 3}).status_code == 200
    assert is_kept()
    wait(DAY - datetime.timedelta(minutes=1))
    assert is_kept()
    settings.RETENTION_DAYS = 2
    wait(DAY)
    assert is_kept()
    # Longer days wait too, although they would remove fewer runs.
    settings.RETENTION_DAYS = 0
    wait(DAY)
    assert is_kept()
    assert manager.patch(f"/experiment/{experiment.pk}", {"retention_days": None}).status_code == 200
    wait(DAY)
    assert is_kept()
    assert manager.patch(f"/experiment/{experiment.pk}", {"retention_days": 3}).status_code == 200
    assert is_kept()
    wait(DAY)
    assert not is_kept()


def test_what_the_service_has_seen_changes_nothing_that_clients_see(experiment: Experiment, manager: Caller) -> None:
    Experiment.objects.update(retention_days=3)
    before = manager.get(f"/experiment/{experiment.pk}")
    see_days()
    after = manager.get(f"/experiment/{experiment.pk}")
    assert (before.content, before.headers["ETag"]) == (after.content, after.headers["ETag"])
    assert Experiment.objects.get().retention_seen == 3


@pytest.mark.parametrize("name", ["first_of", "remove"])
def test_a_change_of_the_days_stops_the_removal_before_the_next_batch(
    name: str, kept: Experiment, manager: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {new(kept, OLD).pk for _ in range(9)}
    path, change = f"/experiment/{kept.pk}", {"retention_days": 31}
    meanwhile(monkeypatch, retention, name, lambda: manager.patch(path, change), call=3)
    remove_old_runs(never)
    assert removed_runs() == [3, 3]
    assert len(left() & runs) == 3


def test_a_clock_that_is_ahead_removes_nothing_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    now = datetime.datetime.now(datetime.UTC)
    for days in (-5, 5):
        monkeypatch.setattr("core.timestamps.now", lambda days=days: now + days * DAY)
        assert abs(present() - now - min(days, 0) * DAY) < datetime.timedelta(minutes=1)


# Runs that change meanwhile.


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        (RUNNING, True),
        ({"observed_at": NOW.isoformat()}, True),
        ({"observed_at": (OLD - DAY).isoformat(), "tags": ["late"]}, False),
    ],
)
def test_a_run_that_changes_after_it_was_found_is_judged_again(
    change: dict[str, Any], is_kept: bool, kept: Experiment, editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new(kept, OLD)
    new(kept, OLD)
    path = f"/experiment/{kept.pk}/drift/{run.pk}"
    meanwhile(monkeypatch, retention, "removed_and_recorded", lambda: editor.patch(path, change))
    remove_old_runs(never)
    assert left() == ({run.pk} if is_kept else set())
    assert removed_runs() == [1 if is_kept else 2]


# Events, failures and several at once.


def test_the_removal_is_an_event_of_the_service_and_counted(kept: Experiment, manager: Caller) -> None:
    before = REMOVED_RUNS._value.get()
    for _ in range(2):
        new(kept, OLD)
    new(kept, OLD, **RUNNING)
    remove_old_runs(never)
    (event,) = manager.post(f"/experiment/{kept.pk}/audit/search", {"action": "runs_removed"}).json()
    assert (event["actor"]["kind"], event["way"]) == ("service", "command")
    assert (event["target"]["type"], event["target"]["name"]) == ("experiment", "wine quality")
    assert (event["before"], event["after"]) == (
        {},
        {"runs": 2, "older_than": CUTOFF.isoformat().replace("+00:00", "Z"), "retention_days": 30},
    )
    assert REMOVED_RUNS._value.get() - before == 2
    remove_old_runs(never)
    assert removed_runs() == [2]


def test_runs_are_removed_together_with_their_event_or_not_at_all(
    kept: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new(kept, OLD)

    def fail(*arguments: Any, **options: Any) -> None:
        raise ValueError("no event")

    with monkeypatch.context() as patch:
        patch.setattr(retention, "record", fail)
        with pytest.raises(ValueError, match="no event"):
            remove_old_runs(never)
    assert (left(), removed_runs()) == ({run.pk}, [])


def test_several_at_once_remove_and_count_each_run_once(kept: Experiment) -> None:
    Drift.objects.bulk_create(Drift(experiment=kept, model="forest", observed_at=OLD, **COMPLETED) for _ in range(40))
    at_once(lambda: remove_old_runs(never), 3)
    assert left() == set()
    assert sum(removed_runs()) == 40


@pytest.mark.parametrize(("place", "removed"), [('retention, "record"', 6), ('retention.REMOVED_RUNS, "inc"', 9)])
def test_a_process_that_is_killed_loses_no_count_and_another_one_goes_on(
    place: str, removed: int, kept: Experiment
) -> None:
    """Before and after the commit of its third batch."""
    Drift.objects.bulk_create(Drift(experiment=kept, model="forest", observed_at=OLD, **COMPLETED) for _ in range(14))
    program = KILLED.format(place=place)
    arguments = [sys.executable, "manage.py", "shell", "--verbosity=0", "--command", program]
    killed = subprocess.run(arguments, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    if session := killed.stdout.strip():
        # MongoDB does so after a minute.
        mongodb().database.client.admin.command("killSessions", [{"id": Binary(bytes.fromhex(session), 4)}])
    assert (14 - len(left()), sum(removed_runs())) == (removed, removed)
    remove_old_runs(never)
    assert (len(left()), sum(removed_runs())) == (0, 14)


def test_runs_that_are_locked_do_not_hold_up_other_experiments(
    kept: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    locked = new(kept, OLD)
    other = Experiment.objects.create(name="another")
    new(other, OLD)
    keep(30)
    runs = collection_of(Drift)
    with runs.database.client.start_session() as session, session.start_transaction():
        runs.update_one({"_id": locked.pk.hex}, {"$set": {"note": "locked"}}, session=session)
        remove_old_runs(never)
        assert left() == {locked.pk}
        session.abort_transaction()
    assert f"Runs of experiment {kept.pk} are locked" in caplog.text
    remove_old_runs(never)
    assert left() == set()


@pytest.mark.parametrize("name", ["see_days", "present", "due_experiments", "first_of", "remove"])
def test_the_removal_waits_for_a_database_that_is_unavailable(
    name: str, kept: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        new(kept, OLD)
    refuse_every_second_call(monkeypatch, retention, name)
    remove_old_runs(never)
    assert (left(), sum(removed_runs())) == (set(), 4)


def test_another_failure_fails_the_task(kept: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    new(kept, OLD)

    def fail(*arguments: Any) -> None:
        raise DatabaseError("broken")

    monkeypatch.setattr(retention, "first_of", fail)
    with pytest.raises(DatabaseError, match="broken"):
        remove_old_runs(never)


def test_the_service_does_so_every_hour() -> None:
    (task,) = (task for task in TASKS if task.run is remove_old_runs)
    assert task.every == datetime.timedelta(hours=1)


# Cost.


def test_a_batch_reads_its_runs_along_an_index_and_running_ones_once(kept: Experiment) -> None:
    """Also if many old runs are Running."""
    for number in range(60):
        new(kept, OLD + number * MOMENT, **(COMPLETED if number % 6 == 5 else RUNNING))
    new(kept, NOW)
    for _ in range(20):
        older_record(kept, NOW)
    with reads_of(Drift) as reads:
        remove_old_runs(never)
    assert sum(removed_runs()) == 10
    dated = [read for read in reads if "observed_at: -1" in read.plan and "$project" in read.stages and read.returned]
    assert [read.returned for read in dated if read.returned > 1 or read.documents > 1] == [3, 3, 3, 1]
    batches_read = [read for read in reads if "$sort" in read.stages]
    assert not [read for read in batches_read if read.sorts_in_memory]
    # Each of the 60 runs is read once, and no younger one.
    assert sum(read.documents for read in batches_read) == 60
    assert {re.sub(r"IXSCAN|[{} ]", "", read.plan) for read in batches_read} == {
        "experiment_id:1,observed_at:-1,_id:-1",
        "experiment_id:1,created_at:-1,_id:-1",
    }


def test_the_deletion_finds_its_runs_by_their_ids(kept: Experiment) -> None:
    for number in range(30):
        new(kept, OLD if number < 2 else NOW)
    with commands() as entries:
        remove_old_runs(never)
    (removal,) = (entry for entry in entries if entry["op"] == "remove" and "drifts_drift" in entry["ns"])
    assert (removal["planSummary"], removal["docsExamined"], removal["ndeleted"]) == ("IXSCAN { _id: 1 }", 2, 2)


def test_large_runs_are_removed_in_smaller_batches(kept: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_BYTES", 25_000)
    for size in (10_000, 10_000, 10_000, 40_000, 100):
        new(kept, OLD, parameters={"text": "x" * size})
    remove_old_runs(never)
    assert left() == set()
    assert removed_runs() == [2, 1, 1, 1]


def test_the_preview_reads_keys_of_an_index_and_only_running_runs_themselves(
    experiment: Experiment, manager: Caller, address: str
) -> None:
    Drift.objects.bulk_create(
        Drift(experiment=experiment, model="forest", observed_at=OLD if number < 100 else NOW, **COMPLETED)
        for number in range(150)
    )
    for _ in range(3):
        new(experiment, OLD, **RUNNING)
    with reads_of(Drift) as reads:
        assert manager.get(f"{address}?days=30").json()["runs"] == 100
    assert sum(read.documents for read in reads) == 3
    assert max(read.keys for read in reads) <= 104


# The preview.


def test_the_preview_counts_what_would_be_removed(experiment: Experiment, manager: Caller, address: str) -> None:
    for step in (-2 * MOMENT, -MOMENT, 0 * MOMENT):
        new(experiment, CUTOFF + step)
        older_record(experiment, CUTOFF + step)
        new(experiment, CUTOFF + step, **RUNNING)
    cutoff = CUTOFF.isoformat().replace("+00:00", "Z")
    assert manager.get(f"{address}?days=30").json() == {"days": 30, "cutoff": cutoff, "runs": 4, "is_exact": True}
    assert manager.get(f"{address}?days=31").json()["runs"] == 0
    assert manager.get(address).json() == {"days": None, "cutoff": None, "runs": 0, "is_exact": True}
    manager.patch(f"/experiment/{experiment.pk}", {"retention_days": 30})
    assert manager.get(address).json()["runs"] == 4
    keep(30)
    remove_old_runs(never)
    assert manager.get(address).json()["runs"] == 0
    assert Drift.objects.count() == 5


@pytest.mark.parametrize(("running", "runs"), [(0, 4), (2, 2)])
def test_a_preview_of_very_many_runs_is_a_lower_bound(
    running: int, runs: int, experiment: Experiment, manager: Caller, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_COUNTED", 4)
    for number in range(6):
        new(experiment, OLD, **(RUNNING if number < running else COMPLETED))
    found = manager.get(f"{address}?days=30").json()
    assert (found["runs"], found["is_exact"]) == (runs, False)


def test_a_preview_never_counts_without_bound(
    experiment: Experiment, manager: Caller, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count that takes too long is broken off, and then the first 1,000."""
    new(experiment, OLD)
    monkeypatch.setattr(retention, "count_up_to", lambda *arguments: None)
    found = manager.get(f"{address}?days=30").json()
    assert (found["runs"], found["is_exact"]) == (1, True)
    monkeypatch.setattr(totals, "count", lambda *arguments: None)
    found = manager.get(f"{address}?days=30").json()
    assert (found["runs"], found["is_exact"]) == (0, False)


@pytest.mark.parametrize(
    ("days", "problem"),
    [
        ("0", "Must be at least 1."),
        ("36501", "Must be at most 36500."),
        ("soon", "Must be an integer."),
        ("9" * 2_000, "Must have fewer digits."),
    ],
)
def test_the_days_of_a_preview_are_bounded(days: str, problem: str, manager: Caller, address: str) -> None:
    response = manager.get(f"{address}?days={days}")
    assert (response.status_code, response.json()["errors"]) == (422, {"query": {"days": [problem]}})


def test_the_command_previews_all_experiments(
    experiment: Experiment, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Experiment.objects.create(name="another", retention_days=20)
    for number in range(4):
        new(experiment, NOW - (10 + number) * DAY)
        new(other, OLD)
    call_command("retention")
    assert capsys.readouterr().out == (
        f"'another' ({other.pk}): 4 runs older than 20 days, from before 2026-10-12 12:00 UTC\n"
        "Would remove 4 runs of 1 experiment.\n"
    )
    for options in ({"days": 11}, {}):
        call_command("retention", **options)
        assert capsys.readouterr().out == (
            f"'another' ({other.pk}): 4 runs older than 11 days, from before 2026-10-21 12:00 UTC\n"
            f"'wine quality' ({experiment.pk}): 2 runs older than 11 days, from before 2026-10-21 12:00 UTC\n"
            "Would remove 6 runs of 2 experiments.\n"
        )
        settings.RETENTION_DAYS = 11
    call_command("retention", days=1)
    assert f"'another' ({other.pk}): 4 runs older than 1 day, from" in capsys.readouterr().out
    with pytest.raises(CommandError, match=r"--days is 0\. Name 1 to 36500 days\."):
        call_command("retention", days=0)
    assert len(left()) == 8


# The field.


def test_the_days_are_kept_by_a_put_without_them_and_cleared_by_null(manager: Caller) -> None:
    created = manager.post("/experiment", {"name": "wine", "retention_days": 90})
    assert (created.status_code, created.json()["retention_days"]) == (201, 90)
    path = f"/experiment/{created.json()['id']}"
    assert manager.put(path, {"name": "wine"}).json()["retention_days"] == 90
    assert manager.put(path, {"name": "wine", "retention_days": 60}).json()["retention_days"] == 60
    assert manager.patch(path, {"retention_days": 30}).json()["retention_days"] == 30
    assert [found["name"] for found in manager.post("/experiment/search", {"retention_days": {"$lte": 30}}).json()] == [
        "wine"
    ]
    assert manager.post("/experiment/search", {"retention_days": None}).json() == []
    assert manager.put(path, {"name": "wine", "retention_days": None}).json()["retention_days"] is None
    changes = Event.objects.filter(action="experiment_updated").order_by("created_at", "pk")
    days = [(event.before["retention_days"], event.after["retention_days"]) for event in changes]
    assert days == [(90, 60), (60, 30), (30, None)]


@pytest.mark.parametrize("days", [0, -1, 36_501, 1.5, "30", True, [], 10**30])
def test_other_days_are_refused(days: Any, experiment: Experiment, manager: Caller, editor: Caller) -> None:
    path = f"/experiment/{experiment.pk}"
    refused = manager.patch(path, {"retention_days": days})
    assert (refused.status_code, list(refused.json()["errors"]["json"])) == (422, ["retention_days"])
    assert editor.patch(path, {"retention_days": 30}).status_code == 403


# The settings page.


@pytest.mark.parametrize("days_before", [None, 90])
def test_fewer_days_are_saved_after_a_confirmation_of_the_number_of_runs(
    days_before: int | None, experiment: Experiment, browser: Client
) -> None:
    Experiment.objects.update(retention_days=days_before)
    for _ in range(2):
        new(experiment, OLD)
    path = f"/experiments/{experiment.pk}"
    form = filled(browser, path) | {"retention_days": "30", "description": "short\nlived"}
    for more in ({}, {"confirmed": "29"}):
        shown = Shown(send(browser, f"{path}/edit", {**form, **more}))
        assert shown.texts("h1") == ["Remove old runs of wine quality?"]
        assert "Removes 2 runs from before 2026-10-02 12:00 UTC" in shown.texts("main")[0]
        sent = zip(shown.all("main input", "name"), shown.all("main input", "value"), strict=True)
        hidden = [(name, value) for name, value in sent if name != "csrfmiddlewaretoken"]
    assert Experiment.objects.get().retention_days == days_before
    edited = Shown(browser.post(f"{path}/edit", {**multi(hidden), "step": "edit"}))
    assert edited.all("#retention_days", "value") == ["30"]
    assert Experiment.objects.get().retention_days == days_before
    saved = browser.post(f"{path}/edit", multi(hidden), follow=True).content.decode()
    assert "was saved. Its runs that are older than 30 days are removed, beginning in a day." in saved
    stored = Experiment.objects.get()
    assert (stored.retention_days, stored.description, stored.config) == (30, "short\nlived", {})
    day = browser.post(f"{path}/edit", filled(browser, path) | {"retention_days": "1", "confirmed": "1"}, follow=True)
    assert "Its runs that are older than 1 day are removed, beginning in a day." in day.content.decode()


def multi(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {name: [value for other, value in pairs if other == name] for name, _ in pairs}


@pytest.mark.parametrize(
    ("before", "of_service", "days", "observed_at"),
    [(30, 0, "30", OLD), (30, 0, "60", OLD), (30, 0, "", OLD), (None, 0, "30", NOW), (None, 20, "30", OLD)],
)
def test_days_that_remove_no_further_runs_are_saved_at_once(
    before: int | None,
    of_service: int,
    days: str,
    observed_at: datetime.datetime,
    experiment: Experiment,
    browser: Client,
    settings: Settings,
) -> None:
    settings.RETENTION_DAYS = of_service
    Experiment.objects.update(retention_days=before)
    new(experiment, observed_at)
    path = f"/experiments/{experiment.pk}"
    response = browser.post(f"{path}/edit", filled(browser, path) | {"retention_days": days})
    assert (response.status_code, response.headers["Location"]) == (302, path)
    assert Experiment.objects.get().retention_days == (int(days) if days else None)


@pytest.mark.parametrize(("text", "problem"), [("0", "Must be at least 1."), ("a month", "Must be an integer.")])
def test_other_days_are_refused_beside_their_control(
    text: str, problem: str, experiment: Experiment, browser: Client
) -> None:
    path = f"/experiments/{experiment.pk}"
    refused = browser.post(f"{path}/edit", filled(browser, path) | {"retention_days": text})
    assert refused.status_code == 422
    assert Shown(refused).texts("details[open] #retention_days-error") == [problem]
