"""The number of queries of each request."""

from typing import Any

import pytest

from accounts.authentication import recent_identities
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN
from tests.profiler import commands


def through_service_token(caller: Caller) -> Caller:
    token = caller.post("/token", {"name": "pipeline"}).json()["token"]
    return Caller(token, caller.user)


@pytest.mark.parametrize(
    ("way", "method", "path", "body", "at_most"),
    [
        ("provider", "GET", "/experiment/{experiment}", None, 1),
        ("provider", "GET", "/experiment/{experiment}/drift/{drift}", None, 1),
        ("provider", "POST", "/experiment/{experiment}/drift", RUN, 2),
        ("provider", "POST", "/experiment/{experiment}/drift/search", {}, 2),
        ("service token", "GET", "/experiment/{experiment}", None, 2),
        ("service token", "GET", "/experiment/{experiment}/drift/{drift}", None, 2),
        ("service token", "POST", "/experiment/{experiment}/drift", RUN, 3),
        ("provider", "POST", "/experiment/{experiment}/drift/{running}/heartbeat", None, 2),
        ("service token", "POST", "/experiment/{experiment}/drift/{running}/heartbeat", None, 3),
    ],
)
def test_a_request_makes_the_fewest_queries(
    editor: Caller, drift: Drift, way: str, method: str, path: str, body: Any, at_most: int
) -> None:
    caller = editor if way == "provider" else through_service_token(editor)
    running = Drift.objects.create_in(drift.experiment, job_status="Running", model="forest")
    address = path.format(experiment=drift.experiment_id, drift=drift.id, running=running.id)
    # The first request records the use of a service token, once a minute, and looks up the user of a provider's token.
    assert caller.request(method, address, body).status_code in (200, 201, 204)
    with commands() as entries:
        assert caller.request(method, address, body).status_code in (200, 201, 204)
    assert 1 <= len(entries) <= at_most, [(entry["op"], entry["ns"]) for entry in entries]


def test_the_first_request_with_a_providers_token_also_looks_up_its_user(
    editor: Caller, experiment: Experiment
) -> None:
    address = f"/experiment/{experiment.id}"
    assert editor.get(address).status_code == 200
    recent_identities.clear()
    with commands() as entries:
        assert editor.get(address).status_code == 200
    assert len(entries) <= 2
