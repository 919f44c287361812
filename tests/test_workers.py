"""gunicorn's workers: with one worker for each core, each stays on its own core, unless `PIN_WORKERS` is false."""

import os

import psutil
import pytest

from tests.live import LiveServer

CORES = sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("setting", "workers", "expected"),
    [
        ({}, len(CORES), [[core] for core in CORES]),
        ({"PIN_WORKERS": "false"}, len(CORES), [CORES] * len(CORES)),
        ({}, len(CORES) + 1, [CORES] * (len(CORES) + 1)),
    ],
    ids=["one for each core", "switched off", "more than cores"],
)
def test_each_worker_stays_on_its_core(
    setting: dict[str, str], workers: int, expected: list[list[int]], testrun_uid: str, worker_id: str
) -> None:
    name = f"workers_{testrun_uid[:8]}_{worker_id}"
    server = LiveServer(MONGODB_NAME=name, WEB_CONCURRENCY=str(workers), **setting)
    server.start()
    try:
        started = psutil.Process(server.process.pid).children()
        assert sorted(sorted(worker.cpu_affinity()) for worker in started) == expected
    finally:
        server.stop()
