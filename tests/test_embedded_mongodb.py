"""The embedded MongoDB: only the account that started it can connect."""

import signal
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.exceptions import ImproperlyConfigured
from pymongo import MongoClient

from core.mongodb.embedded import REPLICA_SET, EmbeddedServer, mongod_path
from tests.ports import free_port


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server whose data was written by an older release, which listened on a port."""
    directory = tmp_path_factory.mktemp("mongodb")
    fill_on_a_port(directory)
    server = EmbeddedServer(directory)
    server.start()
    yield server
    server.stop()


def fill_on_a_port(directory: Path) -> None:
    port = free_port()
    (directory / "data").mkdir()
    process = psutil.Popen(
        [
            *(mongod_path(), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
            *("--dbpath", str(directory / "data"), "--logpath", str(directory / "mongod.log")),
            *("--replSet", REPLICA_SET, "--oplogSize", "256"),
        ]
    )
    try:
        with MongoClient[Any](f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
        with MongoClient[Any](f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}") as client:
            client.older.runs.insert_one({"_id": 1})
    finally:
        process.terminate()
        process.wait()


def test_data_of_an_older_release_stays_readable_and_writable(embedded: EmbeddedServer) -> None:
    with MongoClient[Any](embedded.uri) as client, client.start_session() as session, session.start_transaction():
        assert client.older.runs.find_one({}, session=session) == {"_id": 1}
        client.older.runs.insert_one({"_id": 2}, session=session)


def test_the_server_listens_on_no_port_and_its_socket_is_private(embedded: EmbeddedServer) -> None:
    assert embedded.process
    assert psutil.Process(embedded.process.pid).net_connections("inet") == []
    assert stat.S_IMODE((embedded.directory / "mongod.sock").stat().st_mode) == 0o700


def test_the_server_has_no_compressors(embedded: EmbeddedServer) -> None:
    with MongoClient[Any](embedded.uri) as client:
        hello = client.admin.command("hello", compression=["snappy", "zstd", "zlib"])
    assert "compression" not in hello


def test_another_process_finds_the_server(embedded: EmbeddedServer) -> None:
    other = EmbeddedServer(embedded.directory)
    other.start()
    assert (other.process, other.uri, other.is_running) == (None, embedded.uri, True)


def test_another_process_waits_for_a_slow_server(embedded: EmbeddedServer) -> None:
    assert embedded.process
    other = EmbeddedServer(embedded.directory)
    embedded.process.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as thread:
            starting = thread.submit(other.start)
            time.sleep(1.5)
            assert not starting.done()
            embedded.process.send_signal(signal.SIGCONT)
            starting.result()
    finally:
        embedded.process.send_signal(signal.SIGCONT)
    assert other.process is None
    assert embedded.is_running
    with MongoClient[Any](embedded.uri) as client:
        assert client.older.runs.find_one({"_id": 1})


def test_a_path_that_is_too_long_for_a_socket_is_explained(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    with pytest.raises(ImproperlyConfigured, match=r"longer than the 107 bytes .* Set VAR_DIR to a directory with a s"):
        EmbeddedServer(directory).start()
