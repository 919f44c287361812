"""`make bench` in full, on little data."""

import json
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks import attacks
from benchmarks.compare import comparison
from benchmarks.connection import Connection, Response, Void
from benchmarks.operations import OPERATIONS, Operation, one_run
from tests.live import ROOT, LiveServer

LITTLE = {"BENCH_RUNS": "500", "BENCH_EXPERIMENTS": "20", "BENCH_SECONDS": "0.1", "BENCH_ROUNDS": "1"}


def test_the_scripts_start_without_settings_of_django() -> None:
    command = [sys.executable, "-c", "import benchmarks.attacks, benchmarks.failover, benchmarks.image"]
    done = subprocess.run(command, cwd=ROOT, env={}, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def bench(results: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the benchmark, and give its output, its exit status and its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"],
        cwd=ROOT,
        env={**os.environ, **LITTLE, "BENCH_RESULTS": str(results), **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    [file] = results.glob("*.json")
    return done, json.loads(file.read_text())


def operations_in(table: str) -> list[str]:
    return re.findall(r"^\| (?!operation|---)([^|]+) \|", table, re.MULTILINE)


def test_every_operation_is_measured_against_its_floor(tmp_path: Path) -> None:
    done, outcome = bench(tmp_path, BENCH_SOAK="100")
    assert done.returncode == 0, done.stderr
    assert operations_in(done.stdout) == list(OPERATIONS)
    for row in outcome["operations"]:
        assert row["void"] is None
        assert row["ratio"] == pytest.approx(row["per_second"] / row["floor_per_second"])
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert {len(workers) for workers in outcome["memory_mib"].values()} == {2}
    assert len(outcome["memory_mib"]) > 2
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"]
    assert "| first page | " in comparison(outcome, outcome)


def test_a_running_service_is_measured_and_wrong_responses_are_void(tmp_path: Path, live: LiveServer) -> None:
    token = live.manage("token", "bench@example.org")
    done, outcome = bench(tmp_path, BENCH_URL=live.api, BENCH_TOKEN=token, BENCH_EXPERIMENTS="5")
    rows = {row["operation"]: row for row in outcome["operations"]}
    assert rows["one run"]["per_second"] > 0
    assert rows["one run"]["ratio"] is None
    assert "5 items instead of 10" in rows.pop("experiment search")["void"]
    assert {row["void"] for row in rows.values()} == {None}
    assert (done.returncode, "Void because of wrong responses: experiment search." in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response(503, b"", b"{}"), "503 instead of 200"),
        (Response(200, b"", b"[{}]"), "1 items instead of 10"),
    ],
)
def test_a_wrong_response_makes_an_operation_void(response: Response, words: str) -> None:
    with pytest.raises(Void, match=words):
        Operation(one_run, items=10).check(response)


PLAIN = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\nX-Pagination: {"total":1}\r\n\r\n'
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Pagination: {"total":1}\r\n\r\n'


@pytest.mark.parametrize("sent", [PLAIN + b'[{"id": "a"}]', CHUNKED + b'5;x=1\r\n[{"id\r\n8\r\n": "a"}]\r\n0\r\n\r\n'])
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_response_is_read_in_full_from_any_parts(sent: bytes, size: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as elsewhere:

        def respond_twice() -> None:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(2):
                    connection.recv(1_000)
                    for start in range(0, len(sent), size):
                        connection.send(sent[start : start + size])
                connection.recv(1_000)

        responding = elsewhere.submit(respond_twice)
        with Connection(f"http://127.0.0.1:{server.getsockname()[1]}/api/v1", "token") as connection:
            for _ in range(2):
                response = connection.get("/experiment")
                assert (response.status, response.json(), response.pagination) == (200, [{"id": "a"}], {"total": 1})
            with pytest.raises(Void, match="closed the connection"):
                connection.get("/experiment")
        responding.result()


def test_an_unknown_attack_is_refused_before_the_service_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "ONLY", "slow bodeis")
    monkeypatch.delattr(attacks, "own_service")
    with pytest.raises(SystemExit, match=r"has 'slow bodeis' \(ATTACK_ONLY\) in its name. .*slow bodies"):
        attacks.main()
