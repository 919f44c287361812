"""What a request leaves behind: nothing that only the garbage collector would find."""

import gc
import json
from typing import Any

import pytest
from django.test import RequestFactory

from drifts.models import Drift
from driftwatch.wsgi import application
from tests.caller import Caller
from tests.conftest import RUN


def served(caller: Caller, method: str, path: str, body: Any) -> int:
    """The status of an answer, as a server has it made: the test client keeps requests for itself."""
    headers = {"Authorization": f"Bearer {caller.token}"}
    data = b"" if body is None else json.dumps(body).encode()
    sent = RequestFactory().generic(method, f"/api/v1{path}", data, "application/json", headers=headers)
    statuses: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        statuses.append(status)

    answer = application(sent.environ, start_response)
    list(answer)
    answer.close()
    return int(statuses[0].split()[0])


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/experiment/{experiment}", None, 200),
        ("GET", "/experiment/{experiment}/drift/{drift}", None, 200),
        ("POST", "/experiment/{experiment}/drift", RUN, 201),
        ("POST", "/experiment/{experiment}/drift", {}, 422),
        ("POST", "/experiment/{experiment}/drift/search", {}, 200),
        ("DELETE", "/experiment/{experiment}", None, 403),
        ("PATCH", "/experiment/{experiment}/drift", {}, 405),
    ],
)
def test_a_request_leaves_no_garbage(
    editor: Caller, drift: Drift, method: str, path: str, body: Any, status: int, long_lease: None
) -> None:
    address = path.format(experiment=drift.experiment_id, drift=drift.id)
    # What is made once is made by the first.
    served(editor, method, address, body)
    gc.collect()
    gc.disable()
    try:
        assert served(editor, method, address, body) == status
        assert gc.collect() == 0
    finally:
        gc.enable()
