"""The removal of files without a run and of contents without a file, also after a process that was killed."""

import datetime
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from django.db import DatabaseError
from gridfs import GridFSBucket
from pymongo import MongoClient

from core.mongodb.documents import collection_of, mongodb
from drifts.models import Drift
from files import sweep
from files.contents import ContentWriter, chunks, files
from files.models import RunFile
from files.sweep import places, sweep_files
from tests.caller import Caller
from tests.conftest import purge_in_background
from tests.crowd import RemoteUser, unique
from tests.live import ROOT, LiveServer
from tests.provider import Provider
from tests.uploads import MULTIPART, form, part, stored_file, upload


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each content for an old one."""
    monkeypatch.setattr(sweep, "MIN_AGE", datetime.timedelta(seconds=-1))


def swept() -> None:
    sweep_files(lambda: False)


def stored_ids() -> tuple[set[str], set[str], set[str]]:
    """The ids of the stored files, documents of GridFS, and contents with bytes."""
    return (
        {each["_id"] for each in collection_of(RunFile).find()},
        {each["_id"] for each in files().find()},
        set(chunks().distinct("files_id")),
    )


@pytest.mark.usefixtures("aged")
def test_the_files_of_a_deleted_run_are_removed_and_others_stay(drift: Drift) -> None:
    other = Drift.objects.create_in(drift.experiment, job_status="Failed", model="forest")
    kept = stored_file(other).pk.hex
    stored_file(drift, b"x" * 600_000)
    drift.delete()
    swept()
    assert stored_ids() == ({kept}, {kept}, {kept})


@pytest.mark.usefixtures("aged")
def test_the_files_of_a_purged_experiment_are_removed(drift: Drift, manager: Caller) -> None:
    stored_file(drift)
    manager.delete(f"/experiment/{drift.experiment_id}")
    swept()
    # The runs are still stored, as in the trash.
    assert RunFile.objects.exists()
    purge_in_background()
    swept()
    assert stored_ids() == (set(), set(), set())


@pytest.mark.usefixtures("aged")
def test_contents_that_no_file_names_are_removed(drift: Drift) -> None:
    kept = stored_file(drift).pk.hex
    complete, unfinished = ContentWriter(), ContentWriter()
    complete.write(b"x")
    complete.close("a")
    unfinished.write(b"x" * 5_000_000)
    # PyMongo's own writer leaves bytes only.
    chunks().insert_many({"files_id": f"{number:032x}", "n": number, "data": b"x"} for number in range(3))
    swept()
    assert stored_ids() == ({kept}, {kept}, {kept})


def test_younger_contents_stay(drift: Drift) -> None:
    running, alone = ContentWriter(), ContentWriter()
    running.write(b"x" * 5_000_000)
    chunks().insert_one({"files_id": alone.id.hex, "n": 0, "data": b"x"})
    swept()
    assert stored_ids() == (set(), {running.id.hex}, {running.id.hex, alone.id.hex})


def test_contents_of_other_programs_in_the_bucket_stay(drift: Drift) -> None:
    other = GridFSBucket(mongodb().database, "run_files").upload_from_stream("other", b"x")
    swept()
    assert files().find_one({"_id": other})
    assert chunks().find_one({"files_id": other})


@pytest.mark.usefixtures("aged")
def test_a_sweep_goes_on_from_its_place(drift: Drift, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "BATCH_SIZE", 2)
    lost = [stored_file(drift, name=f"{number}.html") for number in range(5)]
    drift.delete()
    calls = iter([False, True, True, True])
    sweep_files(lambda: next(calls))
    assert RunFile.objects.count() == 3
    assert places().find_one({"_id": "records"}) == {"_id": "records", "after": lost[1].pk.hex}
    swept()
    assert stored_ids() == (set(), set(), set())
    assert {place["after"] for place in places().find()} == {""}


@pytest.mark.usefixtures("aged")
def test_a_sweep_of_many_batches_ends(drift: Drift, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "BATCH_SIZE", 2)
    monkeypatch.setattr(sweep, "CHUNKED_AT_ONCE", 2)
    kept = {stored_file(drift, name=f"{number}.html").pk.hex for number in range(4)}
    swept()
    assert stored_ids() == (kept, kept, kept)


def test_a_deletion_whose_database_fails_is_finished_by_the_sweep(
    drift: Drift, editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload(editor, path := f"/experiment/{drift.experiment_id}/drift/{drift.pk}/file").json()

    def fail(content_id: str) -> None:
        raise DatabaseError("no primary")

    monkeypatch.setattr("files.contents.delete_content", fail)
    assert editor.delete(f"{path}/{file['id']}").status_code == 204
    assert editor.get(path).json() == []
    monkeypatch.undo()
    monkeypatch.setattr(sweep, "MIN_AGE", datetime.timedelta(seconds=-1))
    swept()
    assert stored_ids() == (set(), set(), set())


SWEEP = """
import datetime, django; django.setup()
from files import sweep
sweep.MIN_AGE = datetime.timedelta(seconds=-1)
sweep.sweep_files(lambda: False)
"""


def test_an_upload_that_is_killed_can_be_repeated_and_leaves_nothing(
    provider: Provider, testrun_uid: str, worker_id: str
) -> None:
    server = LiveServer(
        MONGODB_NAME=f"killed_{testrun_uid[:8]}_{worker_id}",
        OIDC_ISSUERS=f'[{{"issuer": "{provider.issuer}", "audience": ["driftwatch"]}}]',
        OIDC_USER_ENTITLEMENTS="[]",
        WEB_CONCURRENCY="1",
    )
    server.start()
    client = MongoClient[Any](server.environment["MONGODB_URI"])
    stored = client[server.environment["MONGODB_NAME"]]
    try:
        user = RemoteUser(server.api, provider.token(unique("someone")))
        user.call("POST", "/user")
        experiment = user.new_experiment()
        run = user.call("POST", f"{experiment}/drift", {"job_status": "Running", "model": "forest"}).json()["id"]
        path = f"{experiment}/drift/{run}/file"
        body = form(part(os.urandom(12_000_000), "weights.bin"))
        with begun_upload(server, path, user, body[:-3_000_000], len(body)):
            eventually(lambda: stored["run_files.chunks"].estimated_document_count() >= 32)
            [worker] = children_of(server)
            os.kill(worker, signal.SIGKILL)
            server.process.kill()
            server.process.wait(10)
        server.start()
        assert user.call("GET", path).json() == []
        for _ in range(2):
            headers = user.authorization | {"Content-Type": MULTIPART}
            added = requests.post(server.api + path, body, headers=headers, timeout=30)
            assert added.status_code == 201
        assert user.call("GET", path).json() == [added.json()]
        subprocess.run([sys.executable, "-c", SWEEP], cwd=ROOT, env=server.environment, check=True, timeout=60)
        kept = {added.json()["id"].replace("-", "")}
        assert {each["_id"] for each in stored["run_files.files"].find({}, {"_id": 1})} == kept
        assert set(stored["run_files.chunks"].distinct("files_id")) == kept
        found = requests.get(f"{server.api}{path}/{added.json()['id']}", headers=user.authorization, timeout=30)
        assert found.content in body
        assert len(found.content) == 12_000_000
    finally:
        client.close()
        server.stop()


def begun_upload(server: LiveServer, path: str, user: RemoteUser, sent: bytes, length: int) -> socket.socket:
    """Send the head and a part of the body of an upload."""
    address = urlsplit(server.url)
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), 10)
    fields = {**user.authorization, "Host": address.netloc, "Content-Type": MULTIPART, "Content-Length": str(length)}
    head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
    connection.sendall(f"POST /api/v1{path} HTTP/1.1\r\n{head}\r\n".encode() + sent)
    return connection


def children_of(server: LiveServer) -> list[int]:
    return [child.pid for child in psutil.Process(server.process.pid).children()]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
