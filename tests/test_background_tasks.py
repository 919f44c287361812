"""Background tasks: one process at a time runs a task, and no failure stops it for good."""

import datetime
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from pymongo.errors import AutoReconnect
from pytest_django import Settings

from core import background, timestamps
from core.background import MAX_ERROR, Outcome, ShouldStop, Task, Worker
from core.models import BackgroundTask
from core.mongodb.documents import mongodb, upserted
from drifts.models import Drift
from driftwatch.management.commands import work
from driftwatch.tasks import TASKS
from experiments.models import Experiment
from tests.conftest import RUN
from tests.live import ROOT
from tests.test_database_unavailable import eventually
from tests.test_first_starts import at_once

HOUR = timedelta(hours=1)
# A program that holds a task until it is killed.
HOLDER = """
import time
from datetime import timedelta
from core.background import Task, Worker
def run(should_stop):
    print("runs", flush=True)
    while not should_stop():
        time.sleep(0.01)
Worker([Task("test", "Test", timedelta(0), run)], lease_seconds=1).run_once()
"""


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "POLL_SECONDS", 0.01)


def task(run: Callable[[ShouldStop], None] = lambda should_stop: None, every: timedelta = HOUR) -> Task:
    return Task("test", "Test", every, run)


def until_stopped(should_stop: ShouldStop) -> None:
    """Work in batches of a tenth of a second."""
    eventually(should_stop, 10)


def stored() -> BackgroundTask:
    return BackgroundTask.objects.get(name="test")


def make_due() -> None:
    BackgroundTask.objects.update(due_at=datetime.datetime.fromtimestamp(0, datetime.UTC))


class Running:
    """A worker in a thread of this process."""

    def __init__(self, *tasks: Task, lease_seconds: float = 30) -> None:
        self.worker = Worker(tasks, lease_seconds)
        self.thread = threading.Thread(target=self.worker.run)

    def __enter__(self) -> Worker:
        self.thread.start()
        return self.worker

    def __exit__(self, *exc_info: object) -> None:
        self.worker.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


def environment() -> dict[str, str]:
    own = {"DJANGO_SETTINGS_MODULE": "driftwatch.settings", "MONGODB_NAME": mongodb().settings_dict["NAME"]}
    return os.environ | own


@pytest.fixture
def holder() -> Iterator["subprocess.Popen[str]"]:
    """Another process that runs the task. Its lease has one second."""
    arguments = [sys.executable, "manage.py", "shell", "--verbosity=0", "--command", HOLDER]
    with subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "runs\n"
        yield process
        process.kill()


# Claims.


def test_several_processes_at_once_run_a_task_once() -> None:
    runs: list[str] = []
    workers = iter([Worker([task(lambda should_stop: runs.append("run"))]) for _ in range(4)])
    outcomes = at_once(lambda: next(workers).run_once(), 4)
    assert outcomes == [[]] * 4
    assert runs == ["run"]


def test_a_task_that_another_process_runs_is_not_due() -> None:
    inner: list[Outcome | None] = []
    outer = task(lambda should_stop: inner.append(Worker([]).run_if_due(task())))
    assert Worker([]).run_if_due(outer) is Outcome.SUCCEEDED
    assert inner == [None]


def test_a_task_runs_again_after_its_interval() -> None:
    worker = Worker([])
    assert worker.run_if_due(task(every=HOUR)) is Outcome.SUCCEEDED
    record = stored()
    assert record.started_at
    assert record.due_at == record.started_at + HOUR
    assert worker.run_if_due(task()) is None
    make_due()
    assert worker.run_if_due(task(every=timedelta(0))) is Outcome.SUCCEEDED
    assert worker.run_if_due(task()) is Outcome.SUCCEEDED


@pytest.mark.parametrize("stored_time", [{"due_at": HOUR}, {"lease_ends_at": HOUR, "holder": "a killed process"}])
def test_a_task_waits_for_no_time_that_a_wrong_clock_has_stored(stored_time: dict[str, Any]) -> None:
    """The database's clock was an hour ahead, and has been set back."""
    worker, often = Worker([]), task(every=timedelta(seconds=5))
    worker.run_if_due(often)
    make_due()
    now = timestamps.now()
    times = {name: now + value if isinstance(value, timedelta) else value for name, value in stored_time.items()}
    BackgroundTask.objects.update(**times)
    assert worker.run_if_due(often) is Outcome.SUCCEEDED


def test_a_look_at_a_task_that_is_not_due_writes_nothing() -> None:
    worker = Worker([])
    worker.run_if_due(task())
    latest = mongodb().database.client.local["oplog.rs"]
    collection = f"{mongodb().database.name}.{BackgroundTask._meta.db_table}"
    before = latest.count_documents({"ns": collection})
    assert before > 0
    assert worker.run_if_due(task()) is None
    assert latest.count_documents({"ns": collection}) == before


def test_another_process_takes_the_task_of_a_killed_one_over(holder: "subprocess.Popen[str]") -> None:
    worker = Worker([])
    holder.kill()
    assert worker.run_if_due(task()) is None, "the lease has not ended"
    assert f"process {holder.pid}" in stored().holder
    eventually(lambda: worker.run_if_due(task()) is Outcome.SUCCEEDED, 5)


def test_a_task_stops_when_its_lease_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """Another process took it over, for example while this one was frozen."""

    def lose_the_lease(should_stop: ShouldStop) -> None:
        BackgroundTask.objects.update(holder="another process")
        until_stopped(should_stop)

    assert Worker([], lease_seconds=0.1).run_if_due(task(lose_the_lease)) is Outcome.STOPPED
    assert "lost its lease" in caplog.text
    assert stored().holder == "another process"
    assert stored().succeeded_at is None


def test_a_lease_is_renewed_while_its_task_runs() -> None:
    def work(should_stop: ShouldStop) -> None:
        first = stored().lease_ends_at
        eventually(lambda: stored().lease_ends_at != first)
        assert not should_stop()

    assert Worker([], lease_seconds=0.5).run_if_due(task(work)) is Outcome.SUCCEEDED
    assert (stored().holder, stored().lease_ends_at) == ("", None)


def test_a_task_stops_when_its_lease_cannot_be_renewed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lose_the_database(should_stop: ShouldStop) -> None:
        def refuse(self: Worker, task: Task) -> bool:
            raise AutoReconnect("connection closed")

        monkeypatch.setattr(Worker, "_renew", refuse)
        until_stopped(should_stop)

    assert Worker([], lease_seconds=0.1).run_if_due(task(lose_the_database)) is Outcome.STOPPED
    assert [line.message for line in caplog.records if "cannot be renewed" in line.message] == [
        "The lease of test cannot be renewed: connection closed"
    ]


# Stopping.


def test_a_task_is_stopped_after_its_batch_and_is_due_at_once() -> None:
    with Running(task(until_stopped)) as worker:
        eventually(lambda: BackgroundTask.objects.exclude(holder="").exists())
        assert Worker([]).run_if_due(task()) is None
    assert (stored().holder, stored().succeeded_at) == ("", None)
    assert worker.run_if_due(task()) is None, "it claims nothing any more"
    assert Worker([]).run_if_due(task()) is Outcome.SUCCEEDED


# A signal may interrupt the handler of the one before.
@pytest.mark.parametrize(
    "stops",
    [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGINT] * 200],
    ids=["SIGTERM", "SIGINT", "many at once"],
)
def test_the_command_ends_on_signals(stops: list[signal.Signals]) -> None:
    arguments = [sys.executable, "manage.py", "work"]
    with subprocess.Popen(arguments, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert "Background tasks run in this process: purge" in process.stderr.readline()
            for stop in stops:
                process.send_signal(stop)
            assert process.wait(5) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.fixture
def kept_handlers() -> Iterator[None]:
    stops = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.getsignal(stop) for stop in stops]
    yield
    for stop, handler in zip(stops, handlers, strict=True):
        signal.signal(stop, handler)


@pytest.mark.usefixtures("kept_handlers")
def test_a_signal_that_does_not_wake_the_main_thread_ends_the_command_too() -> None:
    """Another thread gets this one. One that comes just before the main thread blocks does not wake it either."""
    worker, has_ended = Worker([task(until_stopped)]), threading.Event()

    def interrupt() -> bool:
        eventually(lambda: BackgroundTask.objects.exclude(holder="").exists())
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        is_in_time = has_ended.wait(5)
        worker.stop()
        return is_in_time

    with ThreadPoolExecutor(1) as thread:
        is_in_time = thread.submit(interrupt)
        work.Command().work(worker, once=False)
        has_ended.set()
    assert is_in_time.result()


# Failures.


def fail(should_stop: ShouldStop) -> None:
    raise ValueError("no such \ud800 index" + "." * MAX_ERROR)


def test_a_failure_is_stored_and_tried_again_after_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    worker, pauses = Worker([]), []
    for number in range(1, 10):
        make_due()
        assert worker.run_if_due(task(fail)) is Outcome.FAILED
        record = stored()
        assert (record.failures, record.failures_in_a_row, record.succeeded_at) == (number, number, None)
        assert record.due_at
        assert record.started_at
        pauses.append(round((record.due_at - record.started_at).total_seconds()))
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert record.error.startswith(r"ValueError: no such \ud800 index")
    assert len(record.error) < MAX_ERROR + 10
    assert "Traceback" in caplog.text
    make_due()
    assert worker.run_if_due(task()) is Outcome.SUCCEEDED
    record = stored()
    assert (record.failures, record.failures_in_a_row) == (9, 0)
    assert record.error


def test_neither_a_failure_nor_a_long_run_of_a_task_delays_another() -> None:
    runs: list[str] = []
    failing, long = Task("failing", "", HOUR, fail), Task("long", "", HOUR, until_stopped)
    with Running(failing, long, task(lambda should_stop: runs.append("run"), timedelta(0))):
        eventually(lambda: len(runs) >= 3)


def test_tasks_wait_for_a_database_that_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line of the log says so. The process goes on."""
    attempts: list[str] = []
    runs: list[str] = []

    def refuse(*arguments: Any) -> None:
        attempts.append("refused")
        raise AutoReconnect("connection closed")

    monkeypatch.setattr(background, "upserted", refuse)
    with Running(task(lambda should_stop: runs.append("run"))):
        eventually(lambda: len(attempts) > 3)
        monkeypatch.setattr(background, "upserted", upserted)
        eventually(lambda: runs)
    assert [record.message for record in caplog.records] == [
        "Background task test waits: AutoReconnect: connection closed"
    ]
    assert not caplog.records[0].exc_info


def test_a_failure_is_stored_once_the_database_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says once that it is not stored yet, and the stored error is the driver's."""

    def lose_the_database(should_stop: ShouldStop) -> None:
        raise DatabaseError from AutoReconnect("no primary")

    update, attempts = Worker._update, iter(range(3))

    def refuse_at_first(self: Worker, task: Task, changes: Any) -> bool:
        if next(attempts, None) is not None:
            raise AutoReconnect("connection closed")
        return update(self, task, changes)

    monkeypatch.setattr(Worker, "_update", refuse_at_first)
    assert Worker([]).run_if_due(task(lose_the_database)) is Outcome.FAILED
    record = stored()
    assert (record.failures, record.holder, record.error) == (1, "", "AutoReconnect: no primary")
    assert [(line.message, bool(line.exc_info)) for line in caplog.records] == [
        ("Background task test failed: AutoReconnect: no primary", False),
        ("The end of background task test is not stored: AutoReconnect: connection closed", False),
    ]


# The command.


@pytest.fixture
def without_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests keep their own handlers."""
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)


@pytest.mark.usefixtures("without_signals")
def test_once_runs_every_due_task_until_nothing_is_left(experiment: Experiment, settings: Settings) -> None:
    settings.TRASH_DAYS = 0
    Drift.objects.create_in(experiment, **RUN)
    experiment.delete()
    assert Drift.objects.exists()
    call_command("work", "--once")
    assert not Drift.objects.exists()
    assert set(BackgroundTask.objects.values_list("name", flat=True)) == {each.name for each in TASKS}


@pytest.mark.usefixtures("without_signals")
def test_once_names_the_tasks_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    other = Task("other", "Other", HOUR, lambda should_stop: runs.append("run"))
    monkeypatch.setattr(work, "TASKS", (task(fail), other))
    with pytest.raises(CommandError, match=r"^Failed: test\. "):
        call_command("work", "--once")
    assert runs == ["run"]


def test_a_migration_accepts_the_collection_of_a_process_that_started_before_it() -> None:
    Worker([]).run_if_due(task())
    with mongodb().schema_editor() as editor:
        editor.create_model(BackgroundTask)
    assert stored().succeeded_at
