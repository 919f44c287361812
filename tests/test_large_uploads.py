"""Large and slow uploads to the service behind gunicorn: refused early, in little memory, and holding nobody else."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from pymongo.database import Database

from files.uploads import AT_ONCE
from tests.crowd import RemoteUser
from tests.live import LiveServer
from tests.nginx import NGINX, Nginx
from tests.uploads import MULTIPART, form, part

TWO_GB = 2_000_000_000
# An upload holds 2 MB until they are written, and the driver copies them to send.
MEMORY = 40_000_000


@pytest.fixture
def path(remote_user: RemoteUser) -> str:
    experiment = remote_user.new_experiment()
    run = remote_user.call("POST", f"{experiment}/drift", {"job_status": "Running", "model": "forest"}).json()
    return f"{experiment}/drift/{run['id']}/file"


def two_gb() -> Iterator[bytes]:
    """A form with a file of 2 GB, in pieces of a megabyte."""
    yield part(b"")[:-2]
    for _ in range(TWO_GB // 1_000_000):
        yield b"x" * 1_000_000
    yield b"\r\n" + form()


def memory(live: LiveServer) -> int:
    """The bytes that the workers use."""
    return sum(worker.memory_info().rss for worker in psutil.Process(live.process.pid).children())


def begun(url: str, path: str, user: RemoteUser, *fields: str) -> socket.socket:
    """Send the head of an upload."""
    address = urlsplit(url)
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), 20)
    named = {**user.authorization, "Host": address.netloc, "Content-Type": MULTIPART}
    lines = [f"POST /api/v1{path} HTTP/1.1", *(f"{name}: {text}" for name, text in named.items()), *fields, "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def refusal(connection: socket.socket) -> tuple[int, str]:
    """The status and the message of the response."""
    response = HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())["message"]


def test_two_gigabytes_are_refused_before_they_are_read(live: LiveServer, remote_user: RemoteUser, path: str) -> None:
    started = time.monotonic()
    with begun(live.url, path, remote_user, f"Content-Length: {TWO_GB}") as connection:
        connection.sendall(next(two_gb()))
        assert refusal(connection) == (
            413,
            "A file may have at most 25,000,000 bytes. Send a smaller one, or split it.",
        )
    assert time.monotonic() < started + 2


def test_two_gigabytes_in_chunks_are_refused_at_the_limit(
    live: LiveServer, remote_user: RemoteUser, path: str, stored: Database[dict[str, Any]]
) -> None:
    headers = remote_user.authorization | {"Content-Type": MULTIPART}
    requests.post(live.api + path, form(part(b"x" * 5_000_000)), headers=headers, timeout=30)
    before, started = memory(live), time.monotonic()
    with begun(live.url, path, remote_user, "Transfer-Encoding: chunked") as connection:
        with suppress(OSError):
            for chunk in two_gb():
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        status, _ = refusal(connection)
    assert status == 413
    assert time.monotonic() < started + 20
    assert memory(live) < before + MEMORY
    assert stored["run_files.files"].count_documents({"length": {"$ne": 5_000_000}}) == 0


def test_a_file_in_chunks_is_stored(live: LiveServer, remote_user: RemoteUser, path: str) -> None:
    headers = remote_user.authorization | {"Content-Type": MULTIPART}
    content = b"drift " * 1_000_000
    body = form(part(content, "drift.txt"))
    pieces = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    added = requests.post(live.api + path, pieces, headers=headers, timeout=30)
    assert (added.status_code, added.json()["size"]) == (201, len(content))
    whole = requests.get(f"{live.api}{path}/{added.json()['id']}", headers=remote_user.authorization, timeout=30)
    assert whole.content == content
    head = requests.head(f"{live.api}{path}/{added.json()['id']}", headers=remote_user.authorization, timeout=30)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(content)), b"")


@pytest.mark.parametrize("end", [b"x\r\n", b"0\r\nbad trailer\r\n\r\n"])
def test_malformed_chunks_are_refused(live: LiveServer, remote_user: RemoteUser, path: str, end: bytes) -> None:
    with begun(live.url, path, remote_user, "Transfer-Encoding: chunked") as connection:
        connection.sendall(b"5\r\nhello\r\n" + end)
        assert refusal(connection) == (
            400,
            "The form is malformed or incomplete. Nothing was stored. Send the file again.",
        )


def test_the_largest_file_takes_little_memory(live: LiveServer, remote_user: RemoteUser, path: str) -> None:
    headers = remote_user.authorization | {"Content-Type": MULTIPART}

    def send(number: int) -> str:
        added = requests.post(live.api + path, form(part(bytes([number]) * 25_000_000)), headers=headers, timeout=60)
        assert added.status_code == 201
        return str(added.json()["id"])

    for number in range(3):
        send(number)
    before = memory(live)
    for number in range(3, 5):
        file = send(number)
        found = requests.get(f"{live.api}{path}/{file}", headers=remote_user.authorization, timeout=60)
        assert found.content == bytes([number]) * 25_000_000
    assert memory(live) < before + MEMORY


def test_slow_uploads_hold_nobody_else(live: LiveServer, remote_user: RemoteUser, path: str) -> None:
    with ExitStack() as ending:
        for _ in range(3 * AT_ONCE):
            connection = ending.enter_context(begun(live.url, path, remote_user, "Content-Length: 20000000"))
            connection.sendall(part(b"x"))
        for _ in range(10):
            found = requests.post(f"{live.api}/experiment/search", json={}, timeout=10)
            assert (found.status_code, found.elapsed.total_seconds() < 1) == (200, True)


@pytest.mark.skipif(not NGINX, reason="there is no nginx here (apt-get install nginx-light)")
def test_nginx_passes_the_largest_file_at_this_address_alone(
    live: LiveServer, remote_user: RemoteUser, path: str
) -> None:
    nginx = Nginx(live.url)
    nginx.start()
    headers = remote_user.authorization | {"Content-Type": MULTIPART}
    body = form(part(b"x" * 25_000_000))
    run = path.removesuffix("/file")
    address = f"{run.replace('experiment', 'experiments').replace('/drift/', '/runs/')}/files"
    try:
        added = requests.post(f"{nginx.url}/api/v1{path}", body, headers=headers, timeout=60)
        elsewhere = requests.post(f"{nginx.url}/api/v1{run}", body, headers=headers, timeout=60)
        larger = requests.post(f"{nginx.url}/api/v1{path}", body + b"x" * 2_000_000, headers=headers, timeout=60)
        page = requests.post(f"{nginx.url}{address}", body, headers=headers, timeout=60, allow_redirects=False)
    finally:
        nginx.stop()
    assert (added.status_code, added.json()["size"]) == (201, 25_000_000)
    assert (elsewhere.status_code, larger.status_code, larger.json()["code"]) == (413, 413, 413)
    assert page.headers["Location"].startswith("/login")
