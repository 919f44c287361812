"""A reload (SIGHUP) replaces the workers, and every request is answered meanwhile."""

import gc
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from tests.live import LiveServer, gunicorn_configuration

PATIENCE = 20
# The start of a worker that loads the application takes several seconds.
LONGEST_GAP = 2.0
REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def workers(live: LiveServer) -> set[int]:
    return {worker.pid for worker in psutil.Process(live.process.pid).children()}


def test_a_reload_leaves_no_gap(live: LiveServer) -> None:
    before = workers(live)
    deadline = time.monotonic() + PATIENCE

    def longest_gap() -> float:
        last, longest = time.monotonic(), 0.0
        while before & workers(live) and time.monotonic() < deadline:
            assert requests.get(f"{live.url}/livez", timeout=PATIENCE).status_code == 200
            now = time.monotonic()
            last, longest = now, max(longest, now - last)
        return longest

    with ThreadPoolExecutor() as threads:
        gaps = [threads.submit(longest_gap) for _ in range(4)]
        live.process.send_signal(signal.SIGHUP)
    assert max(gap.result() for gap in gaps) < LONGEST_GAP
    assert not before & workers(live)
    assert len(workers(live)) == 2


def test_connections_that_are_open_at_a_reload_are_answered_and_closed(live: LiveServer) -> None:
    before = workers(live)
    with connected(live) as idle, connected(live) as busy:
        assert b"Connection: keep-alive" in respond(idle)
        assert b"Connection: keep-alive" in respond(busy)
        live.process.send_signal(signal.SIGHUP)
        eventually(lambda: workers(live) - before)
        assert respond(busy).startswith(b"HTTP/1.1 200")
        # The end of the stream, and not a reset.
        assert idle.recv(4096) == b""
    eventually(lambda: not before & workers(live))


def test_workers_inherit_no_thread_and_no_connection_to_the_database(live: LiveServer) -> None:
    main = psutil.Process(live.process.pid)
    assert main.num_threads() == 1
    assert {connection.status for connection in main.net_connections()} == {"LISTEN"}


def test_the_loaded_application_is_exempt_from_garbage_collection() -> None:
    configuration = gunicorn_configuration()
    try:
        configuration["when_ready"](None)
        assert gc.get_freeze_count() > 100_000
    finally:
        gc.unfreeze()


def connected(live: LiveServer) -> socket.socket:
    address = urlsplit(live.url)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), PATIENCE)


def respond(connection: socket.socket) -> bytes:
    """Send a health check, and return its response."""
    connection.sendall(REQUEST)
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(4096) or b"}"
    return received


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_idle_connections_outlive_those_of_common_balancers(monkeypatch: pytest.MonkeyPatch) -> None:
    def keepalive() -> int:
        configuration = gunicorn_configuration()
        return int(configuration["keepalive"])

    assert keepalive() == 75
    monkeypatch.setattr("driftwatch.settings.KEEPALIVE", 120)
    assert keepalive() == 120
