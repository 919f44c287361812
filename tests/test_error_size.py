"""The size of an error response, and the work for it, are bounded: whatever the request repeats, and however often."""

import json
from typing import Any

import pytest

from core.api.json_input import MAX_VALUES
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN
from tests.test_bad_input import refusal

LARGEST = 100_000
LONG = "x" * 1_000_000
DEEP = {LONG[:500_000]: {LONG[:500_000]: 2**70}}
RUNS, SEARCH, STATISTICS = "/experiment/{}/drift", "/experiment/{}/drift/search", "/experiment/{}/drift/stats"
BODIES: dict[str, tuple[str, Any]] = {
    "unknown fields": (RUNS, {f"unknown{number}": 1 for number in range(60_000)}),
    "unknown fields of many runs": (f"{RUNS}/bulk", [{f"unknown{n}": 1 for n in range(50)}] * 200),
    "a long name": (RUNS, {LONG: 1}),
    "a long name in a key": (RUNS, RUN | {"parameters": {f"{LONG}\0": 1}}),
    "a long path": (RUNS, RUN | {"parameters": DEEP}),
    "a long path of control characters": (RUNS, RUN | {"parameters": {"\x01" * 100_000: 2**70}}),
    "a long choice": (RUNS, RUN | {"job_status": LONG}),
    "invalid tags": (RUNS, RUN | {"tags": [1] * 300_000}),
    "invalid permissions": ("/experiment", {"name": "x", "permissions": [{}] * 38_000}),
    "unknown fields of permissions": ("/experiment", {"name": "x", "permissions": [{"a": 1, "b": 1}] * 1_000}),
    "invalid groups": (STATISTICS, {"group_by": [1] * 300_000}),
    "invalid percentiles": (STATISTICS, {"percentiles": ["x"] * 300_000}),
    "a long name in a filter": (SEARCH, {LONG: 1}),
    "a long operator in a filter": (SEARCH, {f"${LONG}": 1}),
    "a long operator in a value": (SEARCH, {"parameters.a": {"$eq": {f"${LONG}": 1}}}),
    "invalid ids of a token": ("/token", {"name": "x", "experiments": [1] * 300_000}),
}


@pytest.mark.parametrize(("path", "body"), BODIES.values(), ids=BODIES)
def test_an_error_response_is_small(manager: Caller, experiment: Experiment, path: str, body: Any) -> None:
    response = manager.post(path.format(experiment.id), body)
    refusal(422, response, path)
    assert len(response.content) < LARGEST


def test_the_message_for_a_body_that_is_not_json_is_short(manager: Caller, experiment: Experiment) -> None:
    deep: Any = float("nan")
    for _ in range(40):
        deep = {LONG[:1_000]: deep}
    body = json.dumps(RUN | {"parameters": deep})
    response = manager.post(RUNS.format(experiment.id), body)
    assert "NaN is not a JSON number" in refusal(400, response, "NaN")["message"]
    assert len(response.content) < LARGEST


def test_a_refusal_names_ten_unknown_fields_and_the_number_of_the_others(
    manager: Caller, experiment: Experiment
) -> None:
    body = RUN | {f"unknown{number:02}": 1 for number in range(25)}
    errors = refusal(422, manager.post(RUNS.format(experiment.id), body), "unknown")["errors"]["json"]
    assert [*errors] == [*(f"unknown{number:02}" for number in range(10)), "non_field_errors"]
    assert errors["non_field_errors"] == ["15 more fields are unknown."]


def test_a_response_without_all_errors_says_so(manager: Caller) -> None:
    permissions = [{"entity": "x" * 300, "level": "Write", "unknown": 1}] * 1_000
    errors = refusal(422, manager.post("/experiment", {"name": "x", "permissions": permissions}), "many")["errors"]
    assert errors["json"]["non_field_errors"] == ["More errors are not listed. Correct these first."]
    assert len(errors["json"]["permissions"]) > 100


def test_a_list_that_is_too_long_is_refused_before_its_elements(manager: Caller, experiment: Experiment) -> None:
    problem = refusal(422, manager.post(RUNS.format(experiment.id), RUN | {"tags": [1] * 51}), "tags")
    assert problem["errors"]["json"] == {"tags": ["At most 50 tags are allowed."]}


# The bound of the values of one object.


def run_with(parameters: str) -> str:
    """The JSON of a run with the parameter `a`."""
    return json.dumps({"job_status": "Running", "model": "m"})[:-1] + f', "parameters": {{"a": {parameters}}}}}'


@pytest.mark.parametrize("values", [MAX_VALUES, MAX_VALUES + 1])
def test_an_object_holds_half_a_million_values(manager: Caller, experiment: Experiment, values: int) -> None:
    # The run, its status, model and parameters, and the list are five values.
    response = manager.post(RUNS.format(experiment.id), run_with("[" + "[]," * (values - 6) + "[]]"))
    assert response.status_code == (201 if values == MAX_VALUES else 422), response.content
    if values > MAX_VALUES:
        assert response.json()["message"].startswith("body: The body holds more than 500,000 values")
    assert Drift.objects.count() == (values == MAX_VALUES)


def test_the_configuration_and_filters_have_the_same_bound(manager: Caller, experiment: Experiment) -> None:
    many = "[" + "0," * MAX_VALUES + "0]"
    bodies = {"/experiment": f'{{"name": "x", "config": {{"a": {many}}}}}', SEARCH: f'{{"parameters.a": {many}}}'}
    for path, body in bodies.items():
        problem = refusal(422, manager.post(path.format(experiment.id), body), path)
        assert "holds more than 500,000 values" in problem["message"]
