"""The end of the service: `/readyz` is red before connections are refused, and no request is lost."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from tests.live import LiveServer

PATIENCE = 20
DRAIN_SECONDS = 3
# A search whose body has two bytes.
HEAD = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
REQUEST = b"POST /api/v1/experiment/search HTTP/1.1\r\n" + HEAD


Start = Callable[..., LiveServer]


@pytest.fixture(scope="module")
def start(testrun_uid: str, worker_id: str) -> Iterator[Start]:
    """Starts gunicorn with a time to drain."""
    servers: list[LiveServer] = []

    def start(drain_seconds: float) -> LiveServer:
        name = f"drain_{testrun_uid[:8]}_{worker_id}"
        servers.append(LiveServer(MONGODB_NAME=name, DRAIN_SECONDS=str(drain_seconds)))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        # One that drains would take its time.
        server.process.send_signal(signal.SIGQUIT)
        server.stop()


def test_no_request_is_lost_when_the_service_stops(start: Start) -> None:
    """Clients open one connection after the other, as a balancer does that has not noticed yet."""
    live = start(DRAIN_SECONDS)

    def send_until_refused() -> tuple[int, float]:
        """Return the number of responses and when the first request got none."""
        number = 0
        while True:
            began_at = time.monotonic()
            try:
                with connected(live) as connection:
                    connection.sendall(REQUEST + b"{}")
                    received = connection.recv(4096)
                # Later than that, a connection may be closed before it is accepted.
                assert received.startswith(b"HTTP/1.1 200 ") or (began_at > ends_at and not received), received
            except OSError:
                return number, began_at
            number += 1

    with connected(live) as slow, ThreadPoolExecutor(4) as threads:
        slow.sendall(REQUEST + b"{")
        ends_at = time.monotonic() + DRAIN_SECONDS
        live.process.terminate()
        clients = [threads.submit(send_until_refused) for _ in range(4)]
        checks = red(live)
        assert time.monotonic() < ends_at, "red while connections are accepted"
        # Connections are refused while the last request is served.
        eventually(lambda: is_refused(live))
        results = [client.result() for client in clients]
        assert all(number > 0 and lost_at >= ends_at for number, lost_at in results), (ends_at, results)
        slow.sendall(b"}")
        assert slow.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert checks["serving"]["status"] == "failed"
    assert checks["serving"]["problem"] == "the service stops"
    assert live.process.wait(PATIENCE) == 0


def test_connections_are_closed_after_their_next_response_while_the_service_drains(start: Start) -> None:
    live = start(60)
    with connected(live) as kept:
        assert b"Connection: keep-alive" in respond(kept)
        live.process.terminate()
        red(live)
        assert b"Connection: close" in respond(kept)
        assert kept.recv(1) == b""
    # A worker that dies meanwhile is replaced.
    before = workers(live)
    os.kill(min(before), signal.SIGKILL)
    eventually(lambda: workers(live) - before and live.has_all_workers())
    assert red(live)
    # A second signal ends the wait.
    live.process.terminate()
    assert live.process.wait(PATIENCE) == 0


def test_a_main_process_that_another_one_follows_does_not_drain(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGUSR2, both listen on the same port: one that drains would turn half of the checks red."""
    # Only the script can be started again by its path.
    script = str(Path(sys.executable).parent / "gunicorn")
    monkeypatch.setattr("tests.live.GUNICORN", [script, "--config", "deploy/gunicorn.conf.py", "driftwatch.wsgi"])
    live = start(60)
    first, before = psutil.Process(live.process.pid), workers(live)
    live.process.send_signal(signal.SIGUSR2)
    eventually(lambda: len(first.children(recursive=True)) == 1 + 2 * len(before))
    second = next(child for child in first.children() if child.pid not in before)
    # gunicorn's main process handles the signal when its workers serve.
    eventually(lambda: len(second.children()) == len(before))
    try:
        live.process.terminate()
        assert live.process.wait(PATIENCE) == 0
        assert requests.get(f"{live.url}/readyz", timeout=PATIENCE).json()["checks"]["serving"]["status"] == "ok"
    finally:
        second.kill()
        eventually(lambda: is_refused(live))


def workers(live: LiveServer) -> set[int]:
    return {worker.pid for worker in psutil.Process(live.process.pid).children()}


def connected(live: LiveServer) -> socket.socket:
    address = urlsplit(live.url)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), PATIENCE)


def is_refused(live: LiveServer) -> bool:
    try:
        connected(live).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # The listener closed while it took this connection.
        return False
    return False


def respond(connection: socket.socket) -> bytes:
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(4096) or b"}"
    return received


def red(live: LiveServer) -> dict[str, dict[str, object]]:
    """Wait until `/readyz` is red, and return its checks."""
    deadline = time.monotonic() + PATIENCE
    while (response := requests.get(f"{live.url}/readyz", timeout=PATIENCE)).status_code != 503:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(response.json()["checks"])


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
