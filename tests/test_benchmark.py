"""`make bench`: the whole of it, on little data."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.connection import Answer, Void
from benchmarks.operations import OPERATIONS, Operation, one_run
from tests.live import ROOT, LiveServer

LITTLE = {"BENCH_RUNS": "500", "BENCH_EXPERIMENTS": "20", "BENCH_SECONDS": "0.1", "BENCH_ROUNDS": "1"}


def bench(results: Path, **environment: str) -> tuple[str, dict[str, Any]]:
    """The table that is printed, and the JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"],
        cwd=ROOT,
        env={**os.environ, **LITTLE, "BENCH_RESULTS": str(results), **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [file] = results.glob("*.json")
    return done.stdout, json.loads(file.read_text())


def operations_in(table: str) -> list[str]:
    return re.findall(r"^\| (?!operation|---)([^|]+) \|", table, re.MULTILINE)


def test_it_measures_every_operation_against_its_floor(tmp_path: Path) -> None:
    table, outcome = bench(tmp_path, BENCH_SOAK="100")
    assert operations_in(table) == list(OPERATIONS)
    measured = {row["operation"]: row for row in outcome["operations"]}
    for name in ("one run", "first page", "parameters.p3 > 0.9", "experiment search", "new run"):
        assert measured[name]["ratio"] == measured[name]["per_second"] / measured[name]["floor_per_second"]
        assert 0 < measured[name]["p50_ms"] <= measured[name]["p99_ms"]
    assert {len(workers) for workers in outcome["memory_mib"].values()} == {2}
    assert len(outcome["memory_mib"]) > 2
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"]


def test_it_measures_a_service_that_runs_already(tmp_path: Path, live: LiveServer) -> None:
    token = live.manage("token", "bench@example.org")
    table, outcome = bench(tmp_path, BENCH_URL=live.api, BENCH_TOKEN=token, BENCH_RUNS="200", BENCH_EXPERIMENTS="10")
    assert operations_in(table) == list(OPERATIONS)
    measured = {row["operation"]: row for row in outcome["operations"]}
    assert measured["one run"]["per_second"] > 0
    assert measured["one run"]["ratio"] is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(503, {}, b"{}"), "503 where 200 was due"),
        (Answer(200, {}, b"[{}]"), "1 items came where 10 were due"),
    ],
)
def test_a_wrong_answer_makes_it_void(answer: Answer, words: str) -> None:
    with pytest.raises(Void, match=words):
        Operation(one_run, items=10).check(answer)
