"""Bodies that are too large, and uploaded files, are refused by every address before they are read."""

import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.test.client import FakePayload
from pytest_django import Settings

from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.conftest import RUN
from tests.live import LiveServer

JSON = {"Content-Type": "application/json"}
ADDRESSES = ["/login", "/experiments/new", "/admin/login/", "/livez", "/nothing", "/api/v1/user", "/api/v1/nothing"]
TEN_MB = 10_000_000


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=b", "text/plain"])
def test_every_address_refuses_a_body_over_the_limit_unread(path: str, media_type: str) -> None:
    # The payload fails the test if it is read: there is less of it than its length says.
    length = {"CONTENT_LENGTH": "2000001", "wsgi.input": FakePayload(b"")}
    refused = Client().post(path, b"x", content_type=media_type, **length)
    assert refused.status_code == 413
    assert refused.json()["message"] == "The body is larger than 2,000,000 bytes. Send less in one request."


def test_bulk_ingest_has_a_limit_of_its_own(editor: Caller, experiment: Experiment, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.MAX_BULK_BYTES = 1_000, 2_000
    path = f"/experiment/{experiment.id}/drift"
    runs = [{**RUN, "model": "x" * 250}] * 5
    assert editor.post(f"{path}/bulk", runs).status_code == 201
    assert "larger than 2,000 bytes" in editor.post(f"{path}/bulk", runs * 2).json()["message"]
    assert "larger than 1,000 bytes" in editor.post(f"{path}/search", runs).json()["message"]


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_uploaded_file_is_refused_with_a_sentence(path: str) -> None:
    refused = Client().post(path, b"--b--", content_type="multipart/form-data; boundary=b")
    assert refused.status_code == 415
    assert "Send a form as application/x-www-form-urlencoded" in refused.json()["message"]


def test_a_browser_gets_a_page() -> None:
    page = Client().post("/login", b"--b--", "multipart/form-data; boundary=b", headers={"Accept": "text/html"})
    assert page.status_code == 415
    assert "<h1>This form cannot be read</h1>" in page.content.decode()


def test_a_large_upload_is_refused_at_once_and_its_client_reads_the_answer(live: LiveServer) -> None:
    before = set(Path(tempfile.gettempdir()).glob("*.upload*"))
    for _ in range(3):
        refused = requests.post(f"{live.url}/login", files={"file": b"x" * TEN_MB}, timeout=10)
        assert refused.status_code == 413
        assert refused.headers["Connection"] == "close"
    assert set(Path(tempfile.gettempdir()).glob("*.upload*")) == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/api/v1/experiment", 401), ("PUT", "/api/v1/nothing", 404), ("POST", "/readyz", 405)],
)
def test_a_connection_is_kept_only_if_the_body_is_read(live: LiveServer, method: str, path: str, status: int) -> None:
    with requests.Session() as session:
        small = session.request(method, f"{live.url}{path}", data=b"x" * 10_000, headers=JSON, timeout=10)
        large = session.request(method, f"{live.url}{path}", data=b"x" * 1_900_000, headers=JSON, timeout=10)
        assert (small.status_code, small.headers["Connection"]) == (status, "keep-alive")
        assert (large.status_code, large.headers["Connection"]) == (status, "close")
        assert session.get(f"{live.url}/livez", timeout=10).status_code == 200


@pytest.mark.parametrize("request_head", [b"GET /livez HTTP/1.0", b"POST /livez HTTP/1.0\r\nContent-Length: 9"])
def test_more_clients_than_threads_that_do_not_close_hold_nobody_else(live: LiveServer, request_head: bytes) -> None:
    with ExitStack() as ending:
        for _ in range(200):
            ending.enter_context(send(live, request_head + b"\r\n\r\n"))
        assert requests.get(f"{live.url}/livez", timeout=1).status_code == 200


def test_a_client_that_waits_for_100_continue_is_answered(live: LiveServer) -> None:
    with send(live, head("/api/v1/experiment/search", "Content-Length: 2\r\nExpect: 100-continue")) as connection:
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_a_chunked_body_is_read_up_to_the_limit(live: LiveServer) -> None:
    def search(*chunks: bytes) -> requests.Response:
        return requests.post(f"{live.api}/experiment/search", data=iter(chunks), headers=JSON, timeout=10)

    assert search(b"{", b"}").json() == []
    assert search(b"{", b'"none": 1}').status_code == 422
    refused = search(*[b" " * 100_000] * 50)
    assert (refused.status_code, refused.headers["Connection"]) == (413, "close")
    with requests.Session() as session:
        form: Any = iter([b"username=", b"ada"])
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert session.post(f"{live.url}/login", data=form, headers=kind, timeout=10).status_code == 403


@pytest.mark.parametrize("chunks", [b"2\r\n{}\r\nx\r\n", b"2\r\n{}xx", b"2\r\n{}\r\n0\r\nbad trailer\r\n\r\n"])
def test_malformed_chunks_are_refused_with_a_sentence(live: LiveServer, chunks: bytes) -> None:
    request = head("/api/v1/experiment/search", "Transfer-Encoding: chunked")
    with send(live, request + chunks) as connection:
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 400")
    assert b"The chunks of the body are malformed" in received


def head(path: str, fields: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}\r\n\r\n".encode()


def send(live: LiveServer, request: bytes) -> socket.socket:
    address = urlsplit(live.url)
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), 10)
    connection.sendall(request)
    return connection
