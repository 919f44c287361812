"""Bodies that are too large, and uploaded files, are refused by every address before they are read."""

import gzip
import json
import socket
import tempfile
from contextlib import ExitStack
from http.client import HTTPResponse
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
from tests.crowd import RemoteUser
from tests.live import LiveServer

JSON_TYPE = "application/json"
JSON = {"Content-Type": JSON_TYPE}
ADDRESSES = ["/login", "/experiments/new", "/admin/login/", "/nothing", "/api/v1/user", "/api/v1/nothing"]
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


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", "GZIP", "x" * 900])
def test_a_compressed_body_is_refused(editor: Caller, experiment: Experiment, coding: str) -> None:
    path, headers = f"/experiment/{experiment.id}/drift", {"Content-Encoding": coding}
    body = gzip.compress(b'{"model": "k"}')
    for address, media_type in (("", JSON_TYPE), ("/search", JSON_TYPE), ("/bulk", "application/x-ndjson")):
        refused = editor.post(f"{path}{address}", body, headers=headers, content_type=media_type)
        assert (refused.status_code, refused.headers["Accept-Encoding"]) == (415, "identity")
        assert refused.json()["message"].startswith(f"Content-Encoding: {coding[:100]}")
        assert len(refused.json()["message"]) < 400
    assert editor.client.post("/login", b"a=b", headers=headers).status_code == 415


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_a_body_that_is_not_compressed_may_say_so(editor: Caller, experiment: Experiment, coding: str) -> None:
    headers = {"Content-Encoding": coding}
    assert editor.post(f"/experiment/{experiment.id}/drift", RUN, headers=headers).status_code == 201
    assert editor.get(f"/experiment/{experiment.id}", headers={"Content-Encoding": "gzip"}).status_code == 200


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

    assert search(b"{", b"}").status_code == 200
    assert search(b"{", b'"none": 1}').status_code == 422
    refused = search(*[b" " * 100_000] * 50)
    assert (refused.status_code, refused.headers["Connection"]) == (413, "close")
    with requests.Session() as session:
        form: Any = iter([b"username=", b"ada"])
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert session.post(f"{live.url}/login", data=form, headers=kind, timeout=10).status_code == 403


def test_runs_may_be_reported_in_chunks(remote_user: RemoteUser) -> None:
    path, run = remote_user.new_experiment(), json.dumps({"job_status": "Failed", "model": "k"}).encode()

    def post(address: str, media_type: str, *chunks: bytes) -> requests.Response:
        headers = remote_user.authorization | {"Content-Type": media_type}
        return requests.post(f"{remote_user.api}{path}{address}", data=iter(chunks), headers=headers, timeout=10)

    assert post("/drift", JSON_TYPE, run[:9], run[9:]).status_code == 201
    lines = post("/drift/bulk", "application/x-ndjson", run, b"\n", run)
    assert (lines.status_code, lines.json()["count"]) == (201, 2)
    array = post("/drift/bulk", JSON_TYPE, b"[", run, b" " * 3_000_000, b"]")
    assert (array.status_code, array.json()["count"]) == (201, 1)
    assert post("/drift/bulk", JSON_TYPE, b"[", b" " * 8_000_000, run, b"]").status_code == 413
    assert len(post("/drift/search", JSON_TYPE, b"{", b"}").json()) == 4
    assert len(post("/drift/search", JSON_TYPE).json()) == 4


@pytest.mark.parametrize("chunks", [b"2\r\n{}\r\nx\r\n", b"2\r\n{}xx", b"2\r\n{}\r\n0\r\nbad trailer\r\n\r\n"])
def test_malformed_chunks_are_refused_with_a_sentence(live: LiveServer, chunks: bytes) -> None:
    request = head("/api/v1/experiment/search", "Transfer-Encoding: chunked")
    with send(live, request + chunks) as connection:
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 400")
    assert b"The chunks of the body are malformed" in received


REFUSED = {
    "a malformed line": (400, b"POST\r\n\r\n"),
    "a long line": (414, b"GET /api/v1/experiment/%s HTTP/1.1\r\n\r\n" % (b"a" * 9_000)),
    "a long header": (431, b"GET /api/v1/experiment HTTP/1.1\r\nA: %s\r\n\r\n" % (b"a" * 70_000)),
    "two types": (400, b"POST /api/v1/experiment HTTP/1.1\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n"),
    "two lengths": (400, b"POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a transfer coding": (501, b"POST /api/v1/user HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"),
    "a compressed transfer": (501, b"POST /api/v1/user HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "an expectation": (417, b"POST /api/v1/user HTTP/1.1\r\nExpect: tea\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "request_text"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_the_server_cannot_read_is_refused_in_json(
    live: LiveServer, status: int, request_text: bytes
) -> None:
    with send(live, request_text.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)) as connection:
        response = HTTPResponse(connection)
        response.begin()
        problem = json.loads(response.read())
    assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
    assert problem["code"] == status
    assert len(problem["message"].split()) >= 4


def head(path: str, fields: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}\r\n\r\n".encode()


def send(live: LiveServer, request: bytes) -> socket.socket:
    address = urlsplit(live.url)
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), 10)
    connection.sendall(request)
    return connection
