"""Commands that cannot reach the database or write their files: one sentence, exit code 1, and no password."""

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as service_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pytest_django import Settings

import manage as command_line
from core.mongodb import embedded
from core.mongodb.embedded import EmbeddedServer
from core.var_dir import created_once, usable
from driftwatch.failures import sentence
from driftwatch.management.commands import serve
from tests.live import ROOT
from tests.ports import free_port

PASSWORD = "hunter2"


def manage(arguments: str, environment: dict[str, str]) -> tuple[int, str]:
    """The exit code and the whole output of a command."""
    run = subprocess.run(
        [sys.executable, "manage.py", *arguments.split()],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "driftwatch.settings", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


def error_at(uri: str) -> PyMongoError:
    """The driver's error for a request to this address."""
    with pytest.raises(PyMongoError) as raised:  # noqa: SIM117 - the client raises some errors itself
        with MongoClient[Any](uri, serverSelectionTimeoutMS=100) as client:
            client["test"]["test"].find_one()
    return raised.value


def test_a_command_ends_with_a_sentence_when_mongodb_does_not_respond() -> None:
    address = f"127.0.0.1:{free_port()}"
    uri = f"mongodb://operator:{PASSWORD}@{address}/?replicaSet=rs0"
    sentence = (
        f"MongoDB does not respond ({address}: [Errno 111] Connection refused). "
        "Check the address in MONGODB_URI, and that the server runs and has a primary.\n"
    )
    assert manage("migrate", {"MONGODB_URI": uri}) == (1, sentence)


def test_an_error_that_django_wraps_ends_a_command_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(arguments: list[str]) -> None:
        raise DatabaseError from OperationFailure("refused", 18)

    monkeypatch.setattr(command_line, "execute_from_command_line", command)
    with pytest.raises(SystemExit, match="refuses the user name or the password"):
        command_line.main()


def test_a_wrong_password_is_named_and_not_shown() -> None:
    address = service_settings.MONGODB_URI.removeprefix("mongodb://")
    message = sentence(error_at(f"mongodb://operator:{PASSWORD}@{address}"))
    assert message == "MongoDB refuses the user name or the password in MONGODB_URI. Correct them."


def test_a_wrong_name_or_replica_set_is_named() -> None:
    assert "does not respond (nowhere.invalid:27017: " in str(sentence(error_at("mongodb://nowhere.invalid")))
    other = f"{service_settings.MONGODB_URI}&replicaSet=other"
    assert "set named 'other'" in str(sentence(error_at(other)))
    unresolved = "MONGODB_URI cannot be used: The DNS query name does not exist: _mongodb._tcp.nowhere.invalid."
    assert str(sentence(error_at("mongodb+srv://nowhere.invalid"))).startswith(unresolved)


@pytest.mark.parametrize(
    ("code", "part"),
    [
        (13, "needed rights: not authorized on driftwatch. Give"),
        (20, "single server without transactions"),
        (112, "Another process is changing the same documents."),
        (14031, "The disk of MongoDB is full."),
    ],
)
def test_a_refusal_of_mongodb_is_explained(code: int, part: str) -> None:
    assert part in str(sentence(OperationFailure("refused", code, {"errmsg": "not authorized on driftwatch"})))


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    assert sentence(DuplicateKeyError("E11000")) is None
    assert sentence(OperationFailure("unknown operator: $wrong", 2)) is None


# Files.


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, settings: Settings) -> None:
    settings.VAR_DIR = tmp_path
    (tmp_path / "mongodb").write_text("a file in the place of the directory")
    embedded.server.cache_clear()
    with pytest.raises(
        ImproperlyConfigured, match=r"VAR_DIR is '.*', which cannot be used: File exists\. Set the path"
    ):
        embedded.server()


def test_a_full_disk_leaves_no_empty_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    secret = tmp_path / "secret_key"
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(ImproperlyConfigured, match=r"No space left on device\. Free"), usable(tmp_path):
            created_once(secret, lambda: "a secret")
    assert not secret.exists()
    secret.touch()  # An older version left this.
    assert created_once(secret, lambda: "another secret") == "another secret"
    assert created_once(secret, lambda: "a third secret") == secret.read_text() == "another secret"


def test_an_embedded_server_on_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mongod"
    program.write_text('#!/bin/sh\nfor last in "$@"; do [ "$before" = --logpath ] && log=$last; before=$last; done\n')
    with program.open("a") as script:
        script.write('echo \'{"s":"E","attr":{"error":"28: No space left on device"}}\' >> "$log"; exit 14\n')
    program.chmod(0o700)
    monkeypatch.setattr(embedded, "mongod_path", lambda: str(program))
    server = EmbeddedServer(tmp_path / "mongodb")
    with pytest.raises(ImproperlyConfigured) as raised:
        server.start()
    assert str(raised.value) == (
        f"The embedded MongoDB ended, because the disk of {tmp_path / 'mongodb'} is full. "
        "Free space there, or set VAR_DIR to a directory on another disk."
    )
    # The log of that start says nothing of a later one.
    program.write_text("#!/bin/sh\nexit 14\n")
    with pytest.raises(ImproperlyConfigured, match=r"ended with status 14; its log .*mongod\.log has the cause"):
        server.start()


def test_a_program_that_this_machine_cannot_run_is_named(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mongod"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o700)
    settings.VAR_DIR = tmp_path
    monkeypatch.setattr(embedded, "mongod_path", lambda: str(program))
    embedded.server.cache_clear()
    with pytest.raises(ImproperlyConfigured) as raised:
        embedded.server()
    assert str(raised.value) == (
        f"{program} cannot be run: Exec format error. "
        "Install MongoDB 6.0 or newer for this machine, or set MONGODB_URI."
    )


def test_a_command_whose_embedded_server_ends_reports_the_cause(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MONGODB_URI = ""
    ended = EmbeddedServer(tmp_path)
    monkeypatch.setattr(embedded, "server", lambda: ended)
    assert str(sentence(error_at(ended.uri))).startswith("The embedded MongoDB ended")


def test_a_database_that_does_not_restart_is_reported_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def start() -> None:
        raise ImproperlyConfigured("The disk is full.")

    states = iter([None] * 51 + [1, 1])
    gunicorn: Any = SimpleNamespace(poll=lambda: next(states), returncode=1)
    worker: Any = SimpleNamespace(keep_running=lambda: None)
    database: Any = SimpleNamespace(is_running=False, start=start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "TICK_SECONDS", 0)
        with pytest.raises(CommandError, match="gunicorn ended with status 1"):
            serve.watch(gunicorn, worker, database)
    assert capsys.readouterr().err == "The disk is full.\n"


def test_a_background_worker_that_ends_is_started_again_after_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pauses are short again after a start that lasted longer than the longest one."""
    clock, starts = [0.0], []

    def start(arguments: Any, environment: Any) -> Any:
        starts.append(clock[0])
        lasting = 1_000 if len(starts) == 9 else 0
        ends_at = clock[0] + lasting
        return SimpleNamespace(poll=lambda: 1 if clock[0] >= ends_at else None, returncode=1)

    monkeypatch.setattr(serve, "start", start)
    monkeypatch.setattr(serve, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    worker = serve.BackgroundWorker({})
    while len(starts) < 11:
        worker.keep_running()
        clock[0] += 0.5
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(starts)]
    assert pauses == [2, 2, 4, 8, 16, 32, 60, 60, 1_001, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == ("manage.py work ended with status 1, and no background task runs. It starts again in 1 s.")


# Commands of Django that cannot serialize embedded objects.


@pytest.mark.parametrize(
    ("command", "tool"), [("dumpdata experiments --indent 2", "mongodump"), ("loaddata runs.json -i", "mongorestore")]
)
def test_a_command_that_does_not_work_names_the_tool_that_does(command: str, tool: str) -> None:
    with pytest.raises(CommandError, match=rf"is not available for MongoDB\. .* with {tool} \(MongoDB"):
        call_command(*command.split())
