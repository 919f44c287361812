"""Writes of one document: the driver retries them after a failover, but never a write that may change many."""

from collections.abc import Callable

import pytest

from tests.caller import Caller
from tests.conftest import RUN
from tests.profiler import commands

Write = Callable[[Caller, str, str], object]

WRITES: dict[str, Write] = {
    "a changed experiment": lambda manager, path, run: manager.patch(path, {"tags": ["late"]}),
    "a changed run": lambda manager, path, run: manager.patch(run, {"tags": ["late"]}),
    "a replaced run": lambda manager, path, run: manager.put(run, RUN),
    "a deleted run": lambda manager, path, run: manager.delete(run),
    "a deleted experiment": lambda manager, path, run: manager.delete(path),
    "a new run with a key": lambda manager, path, run: manager.post(
        f"{path}/drift", RUN, headers={"Idempotency-Key": "once"}
    ),
    "a changed user": lambda manager, path, run: manager.put("/user/self", {}),
    "a revoked token": lambda manager, path, run: manager.delete(
        f"/token/{manager.post('/token', {'name': 'pipeline', 'level': 'Read'}).json()['id']}"
    ),
}
# The runs of a deleted experiment are deleted many at a time.
MANY = {"drifts_drift"}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_of_one_document_is_retryable(write: str, manager: Caller) -> None:
    path = f"/experiment/{manager.post('/experiment', {'name': 'wine'}).json()['id']}"
    run = f"{path}/drift/{manager.post(f'{path}/drift', RUN).json()['id']}"
    with commands() as sent:
        WRITES[write](manager, path, run)
    writes = [each for each in sent if each["op"] in ("update", "remove")]
    assert writes
    for each in writes:
        limited = each["command"].get("limit") == 1 if each["op"] == "remove" else not each["command"]["multi"]
        assert limited or (write == "a deleted experiment" and each["ns"].partition(".")[2] in MANY), each["command"]
