"""Slow clients hold nothing that others need: without a proxy 60 of them, behind nginx 500. What nginx does itself."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import requests

from benchmarks.attacks import Target, connect, half_headers, slow_bodies
from tests.live import LiveServer
from tests.nginx import NGINX, Nginx
from tests.ports import free_port

ATTACK_SECONDS = 1.5
# A request that waits for a slow client takes until the end of the attack. Other tests may slow this one down.
LONGEST_SECONDS = 1.0


@pytest.fixture
def nginx(live: LiveServer) -> Iterator[str]:
    server = Nginx(live.url)
    server.start()
    yield server.url
    server.stop()


def test_sixty_slow_clients_hold_nobody_else(live: LiveServer) -> None:
    assert longest_request(live.url, slow_clients=60) < LONGEST_SECONDS


@pytest.mark.skipif(not NGINX, reason="there is no nginx here (apt-get install nginx-light)")
def test_five_hundred_slow_clients_hold_nobody_else_behind_nginx(nginx: str) -> None:
    assert longest_request(nginx, slow_clients=500) < LONGEST_SECONDS


def longest_request(url: str, slow_clients: int) -> float:
    """Attack with half headers and slow bodies; return the seconds of the longest health check or search meanwhile."""
    target = Target(url, token="", own="", public="", heavy="", runs=(), database=0)
    longest = 0.0
    with ThreadPoolExecutor() as threads:
        until = time.time() + ATTACK_SECONDS
        attacks = [threads.submit(attack, target, slow_clients // 2, until) for attack in (half_headers, slow_bodies)]
        while not all(attack.done() for attack in attacks):
            for response in (
                requests.get(f"{url}/livez", timeout=10),
                requests.post(f"{url}/api/v1/experiment/search", json={}, timeout=10),
            ):
                assert response.status_code == 200
                longest = max(longest, response.elapsed.total_seconds())
            time.sleep(0.05)
        for attack in attacks:
            attack.result()
    return longest


@pytest.mark.skipif(not NGINX, reason="there is no nginx here (apt-get install nginx-light)")
def test_nginx_passes_what_clients_need(nginx: str, live: LiveServer) -> None:
    head = {"Idempotency-Key": "a", "Content-Type": "application/json", "Origin": "https://drift.example.org"}
    named = head | {"X-Request-ID": "pipeline-7"}
    found = requests.post(f"{nginx}/api/v1/experiment/search", "{}", headers=named, timeout=10)
    assert (found.status_code, found.headers["X-Request-ID"]) == (200, "pipeline-7")
    # Metrics stay with the operator.
    metrics = requests.get(f"{nginx}/metrics", headers={"X-Request-ID": "pipeline-8"}, timeout=10)
    assert (metrics.status_code, metrics.headers["X-Request-ID"]) == (404, "pipeline-8")
    assert found.headers["X-Pagination"]
    long_token = requests.get(
        f"{nginx}/api/v1/user/self", headers={"Authorization": f"Bearer {'x' * 60_000}"}, timeout=10
    )
    assert long_token.status_code == 401
    # The service names its own limit.
    too_large = requests.post(f"{nginx}/api/v1/user/search", b" " * 3_000_000, headers=head, timeout=10)
    assert "2,000,000 bytes" in too_large.json()["message"]


MALFORMED = {
    b"POST": 400,
    b"post /api/v1/user HTTP/1.1\r\nHost: localhost": 400,
    b"POST /api/v1/user HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked": 400,
    b"POST /api/v1/user HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip": 501,
    b"GET /%s HTTP/1.1\r\nHost: localhost" % (b"a" * 74_000): 414,
    b"GET / HTTP/1.1\r\nHost: localhost\r\nA: %s" % (b"a" * 74_000): 400,
}


@pytest.mark.skipif(not NGINX, reason="there is no nginx here (apt-get install nginx-light)")
def test_nginx_refuses_malformed_requests_in_json(nginx: str) -> None:
    for malformed, status in MALFORMED.items():
        with connect(nginx, 0) as connection:
            connection.sendall(malformed + b"\r\nConnection: close\r\n\r\n")
            head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
        assert int(head.split()[1]) == json.loads(body)["code"] == status, malformed[:100]
        assert b"Content-Type: application/json" in head
        assert f"X-Request-ID: {json.loads(body)['request_id']}".encode() in head


@pytest.mark.skipif(not NGINX, reason="there is no nginx here (apt-get install nginx-light)")
def test_a_client_that_still_sends_its_request_line_can_read_the_refusal(nginx: str) -> None:
    """nginx refuses the line at 72 KiB. A reset instead of the response comes in one of 60 requests."""
    request = b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % (b"a" * 74_000)
    for cut in range(73_728, 74_028):
        with connect(nginx, 0) as connection:
            connection.sendall(request[:cut])
            connection.sendall(request[cut:])
            response = b"".join(iter(lambda: connection.recv(4096), b""))
        assert response.startswith(b"HTTP/1.1 414"), cut


@pytest.mark.skipif(not NGINX, reason="there is no nginx here (apt-get install nginx-light)")
def test_errors_of_nginx_are_json_under_api(nginx: str) -> None:
    too_large = requests.post(f"{nginx}/api/v1/user/search", b" " * 10_000_000, timeout=10)
    assert (too_large.status_code, too_large.json()["code"]) == (413, 413)
    with connect(nginx, 0) as connection:
        connection.sendall(
            b"POST /api/v1/user/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n"
        )
        malformed = b"".join(iter(lambda: connection.recv(4096), b""))
    assert malformed.startswith(b"HTTP/1.1 400")
    assert b'"message": "The request line, a header or the body is malformed' in malformed
    alone = Nginx("http://127.0.0.1:1")
    alone.start()
    try:
        unavailable = requests.get(f"{alone.url}/api/v1/user/self", timeout=10)
    finally:
        alone.stop()
    assert (unavailable.status_code, unavailable.headers["Retry-After"]) == (503, "2")
    assert unavailable.headers["Content-Type"] == "application/json"
    assert unavailable.json()["status"] == "Service Unavailable"


class Copy(BaseHTTPRequestHandler):
    """A copy of the service that has returned."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()


class OneWorker(Nginx):
    """nginx with one worker, because each worker notices by itself that a copy fails."""

    def changes(self, servers: str) -> dict[str, str]:
        return super().changes(servers) | {"worker_processes auto;": "worker_processes 1;"}


@pytest.mark.skipif(not NGINX, reason="there is no nginx here (apt-get install nginx-light)")
def test_a_client_that_waits_as_it_is_told_is_served_by_the_first_copy_that_returns() -> None:
    """nginx sends nothing to a copy that has just failed, by default for 10 s."""
    ports = free_port(), free_port()
    nginx = OneWorker(*(f"http://127.0.0.1:{port}" for port in ports))
    nginx.start()
    try:
        away = requests.get(f"{nginx.url}/api/v1/user/self", timeout=10)
        with HTTPServer(("127.0.0.1", ports[0]), Copy) as copy:
            Thread(target=copy.serve_forever, args=(0.02,), daemon=True).start()
            time.sleep(int(away.headers["Retry-After"]))
            returned = requests.get(f"{nginx.url}/api/v1/user/self", timeout=10)
            copy.shutdown()
    finally:
        nginx.stop()
    assert (away.status_code, returned.status_code) == (503, 204)


@pytest.mark.skipif(not NGINX, reason="there is no nginx here (apt-get install nginx-light)")
def test_errors_of_nginx_are_in_its_logs_under_their_id_and_without_the_query() -> None:
    nginx = Nginx("http://127.0.0.1:1")
    nginx.start()
    try:
        requests.get(f"{nginx.url}/api/v1/user/self?secret=1", headers={"X-Request-ID": "pipeline-8"}, timeout=10)
        # Written when the connection ends, so before the end of nginx.
        nginx.end()
        [line] = map(json.loads, (nginx.directory / "access.log").read_text().splitlines())
        assert "Connection refused" in (nginx.directory / "error.log").read_text()
    finally:
        nginx.stop()
    assert (line["request_id"], line["status"], line["path"]) == ("pipeline-8", 503, "/api/v1/user/self")
    assert line["copies"] == "127.0.0.1:1"
    assert "secret" not in json.dumps(line)
