"""Large bodies and objects are freed when a request ends, not at a garbage collection."""

import gc
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest

from core.api.resource import Resource
from core.identity import Level
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller

BODY = {"job_status": "Completed", "model": "tree", "drift_detected": True, "parameters": {"a": [[], []]}}


@pytest.fixture
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def objects() -> list[Any]:
    """The views that are not empty, and the runs and experiments in memory."""
    # `isinstance` would evaluate lazy objects.
    found = [each for each in gc.get_objects() if issubclass(type(each), (Resource, Drift, Experiment))]
    return [each for each in found if vars(each)]


def new_objects(known: list[Any]) -> list[Any]:
    ids = set(map(id, known))
    return [each for each in objects() if id(each) not in ids]


Send = Callable[[Caller, str, str], Any]
REQUESTS: dict[str, tuple[int, Send]] = {
    "read": (200, lambda caller, experiment, run: caller.get(f"{experiment}/drift/{run}")),
    "search": (200, lambda caller, experiment, run: caller.post(f"{experiment}/drift/search", {})),
    "search experiments": (200, lambda caller, experiment, run: caller.post("/experiment/search", {})),
    "create": (201, lambda caller, experiment, run: caller.post(f"{experiment}/drift", BODY)),
    "create with a key": (
        201,
        lambda caller, experiment, run: caller.post(f"{experiment}/drift", BODY, headers={"Idempotency-Key": "one"}),
    ),
    "create many": (201, lambda caller, experiment, run: caller.post(f"{experiment}/drift/bulk", [BODY, BODY])),
    "delete": (204, lambda caller, experiment, run: caller.delete(f"{experiment}/drift/{run}")),
    "a malformed token": (401, lambda caller, experiment, run: Caller("a.b.c").get(experiment)),
    "a missing run": (404, lambda caller, experiment, run: caller.get(f"{experiment}/drift/{experiment[-36:]}")),
    "a method that the path lacks": (405, lambda caller, experiment, run: caller.put(f"{experiment}/drift")),
    "a condition that fails": (
        412,
        lambda caller, experiment, run: caller.put(f"{experiment}/drift/{run}", BODY, headers={"If-Match": '"x"'}),
    ),
    "a broken body": (
        400,
        lambda caller, experiment, run: caller.post(f"{experiment}/drift", "{", content_type="application/json"),
    ),
    "an invalid body": (422, lambda caller, experiment, run: caller.post(f"{experiment}/drift", {**BODY, "x": 1})),
    "invalid bodies": (422, lambda caller, experiment, run: caller.post(f"{experiment}/drift/bulk", [{"x": 1}, BODY])),
    "an invalid filter": (422, lambda caller, experiment, run: caller.post(f"{experiment}/drift/search", {"$a": 1})),
}


@pytest.mark.parametrize(("status", "send"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_leaves_no_body_and_no_object_in_memory(
    status: int, send: Send, manager: Caller, without_collections: None
) -> None:
    known = objects()
    experiment = Experiment.objects.create(
        name="named", permissions=[Permission(entity=manager.id, level=Level.MANAGE)]
    )
    run = Drift.objects.create(experiment=experiment, **BODY)
    path, id_of_run = f"/experiment/{experiment.pk}", str(run.pk)
    del experiment, run
    assert new_objects(known) == []
    assert send(manager, path, id_of_run).status_code == status
    assert new_objects(known) == []


def test_a_chunked_body_is_freed(manager: Caller) -> None:
    chunked = {"wsgi.input": BytesIO(b"{}"), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    response = manager.post("/experiment/search", CONTENT_TYPE="application/json", **chunked)
    assert response.status_code == 200
    assert response.wsgi_request._stream.closed
