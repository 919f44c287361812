"""Bulk ingest: all runs of a request are stored or none, and each is validated like a single run."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from core.api import bulk
from core.api.bulk import MAX_ITEMS, MalformedItem
from core.mongodb.documents import mongodb
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN
from tests.test_bad_input import FREE, NDJSON, WRONG_RUN, refusal
from tests.test_drifts import WHOLE

RUNS = [RUN, WHOLE, {"job_status": "Running", "model": "forêt", "parameters": {"a": [{"b": None}]}}]
# Fields that the service sets itself.
OWN = {"_id", "created_at", "updated_at", "observed_at"}


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.id}/drift"


def lines(runs: list[Any]) -> str:
    return "".join(f"{json.dumps(run)}\n" for run in runs)


def stored() -> list[dict[str, Any]]:
    """The stored runs without the fields that the service sets, in the order of their ids."""
    found = mongodb().database[Drift._meta.db_table].find().sort("_id")
    return [{name: value for name, value in run.items() if name not in OWN} for run in found]


def emptied() -> None:
    mongodb().database[Drift._meta.db_table].delete_many({})


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (json.dumps(RUNS), "application/json"),
        (lines(RUNS), NDJSON),
        (lines(RUNS).strip(), "application/jsonl"),
        (lines(RUNS).replace("\n", "\r\n \r\n\n"), f"{NDJSON}; charset=utf-8"),
    ],
    ids=["array", "NDJSON", "JSON Lines", "Windows and blank lines"],
)
def test_all_runs_are_stored_and_their_ids_returned_in_the_order_sent(
    editor: Caller, path: str, body: str, media_type: str
) -> None:
    response = editor.post(f"{path}/bulk", body, content_type=media_type)
    assert response.status_code == 201, response.content
    stored = response.json()
    assert stored["count"] == len(RUNS)
    assert stored["ids"] == sorted(stored["ids"])
    read = [editor.get(f"{path}/{identifier}").json() for identifier in stored["ids"]]
    assert [{name: run[name] for name in sent} for run, sent in zip(read, RUNS, strict=True)] == RUNS
    assert {run["experiment_id"] for run in read} == {path.split("/")[2]}


def test_a_search_finds_the_runs_in_the_order_sent(editor: Caller, path: str) -> None:
    sent = [RUN | {"model": f"model {number}"} for number in range(100)]
    editor.post(f"{path}/bulk", sent)
    found = editor.post(f"{path}/search?page_size=100", {}).json()
    assert [run["model"] for run in found] == [run["model"] for run in reversed(sent)]


@pytest.mark.parametrize("count", [1, MAX_ITEMS])
def test_a_request_takes_one_to_ten_thousand_runs(editor: Caller, path: str, count: int) -> None:
    ids = editor.post(f"{path}/bulk", [RUN] * count).json()["ids"]
    assert len(set(ids)) == count == Drift.objects.count()


@pytest.mark.parametrize("count", [0, MAX_ITEMS + 1])
@pytest.mark.parametrize("media_type", ["application/json", NDJSON])
def test_a_request_with_no_run_or_too_many_is_refused(editor: Caller, path: str, count: int, media_type: str) -> None:
    runs: list[Any] = [{}] * count
    body = json.dumps(runs) if media_type == "application/json" else lines(runs) or "\n"
    problem = refusal(422, editor.post(f"{path}/bulk", body, content_type=media_type), media_type)
    assert f"not {count:,}" in problem["message"]


@pytest.mark.parametrize("media_type", ["application/json", NDJSON])
def test_one_invalid_run_keeps_all_from_being_stored(editor: Caller, path: str, media_type: str) -> None:
    runs = [RUN, {"job_status": "Completed", "model": ""}, RUN, RUN | {"parameters": {"n": 2**63}}, 7, None]
    body = json.dumps(runs) if media_type == "application/json" else lines(runs)
    problem = refusal(422, editor.post(f"{path}/bulk", body, content_type=media_type), media_type)
    errors = problem["errors"]["json"]
    assert problem["message"] == "body: 4 of 6 objects are not valid. No object was stored."
    assert errors.keys() == {"non_field_errors", "1", "3", "4", "5"}
    assert errors["1"] == {"model": ["Must not be empty."]}
    assert "64 bits" in errors["3"]["parameters.n"][0]
    assert "Must be an object." in errors["4"]["non_field_errors"][0]
    assert stored() == []


def test_the_number_of_a_line_that_is_not_json_is_reported(editor: Caller, path: str) -> None:
    body = f'{json.dumps(RUN)}\n\n{{"job_status": "Comp\n{json.dumps(RUN)} {json.dumps(RUN)}\n\xff'.encode("latin-1")
    body += b"\n" + b"[" * 100_000
    problem = refusal(422, editor.post(f"{path}/bulk", body, content_type=NDJSON), "NDJSON")
    sentences = {
        position: error["non_field_errors"][0]
        for position, error in problem["errors"]["json"].items()
        if position != "non_field_errors"
    }
    assert sentences.keys() == {"1", "2", "3", "4"}
    assert sentences["1"].startswith("Line 3 is not JSON in UTF-8: ")
    assert sentences["2"].startswith("Line 4 is not JSON in UTF-8: Extra data")
    assert sentences["3"].startswith("Line 5 is not JSON in UTF-8: ")
    assert sentences["4"] == "Line 6 is nested deeper than 50 levels."
    assert stored() == []


@pytest.mark.parametrize("media_type", ["application/json", NDJSON])
def test_no_object_is_checked_after_a_hundred_invalid_ones(editor: Caller, path: str, media_type: str) -> None:
    runs = [RUN, *[{}] * 1_200]
    body = json.dumps(runs) if media_type == "application/json" else lines(runs)
    problem = refusal(422, editor.post(f"{path}/bulk", body, content_type=media_type), "many")
    assert problem["message"] == (
        "body: At least 100 of 1,201 objects are not valid. The objects after these were not checked. "
        "No object was stored."
    )
    assert problem["errors"]["json"].keys() == {"non_field_errors", *(str(number) for number in range(1, 101))}


def test_a_hundred_invalid_objects_are_all(editor: Caller, path: str) -> None:
    problem = refusal(422, editor.post(f"{path}/bulk", [{}] * 100), "a hundred")
    assert problem["message"] == "body: 100 of 100 objects are not valid. No object was stored."


def test_no_line_is_parsed_after_a_hundred_malformed_ones(
    editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed_lines: list[int] = []

    def parse_line(number: int, line: bytes) -> MalformedItem:
        parsed_lines.append(number)
        return MalformedItem("Broken.")

    monkeypatch.setattr(bulk, "parse_line", parse_line)
    problem = refusal(422, editor.post(f"{path}/bulk", "x\n\n" * MAX_ITEMS, content_type=NDJSON), "broken")
    assert problem["message"].startswith("body: At least 100 of 10,000 objects are not valid.")
    assert parsed_lines == list(range(1, 200, 2))


@pytest.mark.parametrize(
    ("body", "media_type"), [("x\n" * 1_000_000, NDJSON), ("[" + "[]," * 660_000 + "x", "application/json")]
)
def test_objects_are_counted_before_they_are_parsed(
    editor: Caller, path: str, body: str, media_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a body of too many objects is not even parsed: here it is not JSON."""
    monkeypatch.setattr(bulk, "parse_line", lambda number, line: pytest.fail("The line was parsed."))
    problem = refusal(422, editor.post(f"{path}/bulk", body, content_type=media_type), media_type)
    assert problem["message"] == "body: Send 1 to 10,000 objects in one request, not 10,001 or more."


def test_each_object_of_a_request_has_a_bound_of_its_values(editor: Caller, path: str) -> None:
    """The lists of two runs are below the bound, and together above it."""
    half = json.dumps(RUN | {"parameters": {"a": []}}).replace("[]", f"[{'0,' * 300_000}0]")
    assert editor.post(f"{path}/bulk", f"[{half},{half}]").status_code == 201
    whole = half.replace("[0,", "[" + "0," * 200_000)
    for body, media_type in ((f"[{half},{whole}]", "application/json"), (f"{half}\n{whole}", NDJSON)):
        problem = refusal(422, editor.post(f"{path}/bulk", body, content_type=media_type), media_type)
        assert "holds more than 500,000 values" in problem["errors"]["json"]["1"]["non_field_errors"][0]


NOT_ARRAYS = {"an object": '{"job_status": "Running", "model": "m"}', "null": "null", "a text": '"[]"', "a number": "7"}


@pytest.mark.parametrize("body", NOT_ARRAYS.values(), ids=NOT_ARRAYS)
def test_a_body_that_is_not_an_array_is_refused_with_the_accepted_formats(editor: Caller, path: str, body: str) -> None:
    problem = refusal(422, editor.post(f"{path}/bulk", body), body)
    assert "JSON array" in problem["message"]
    assert NDJSON in problem["message"]


@pytest.mark.parametrize("body", [" ", "[", '[{"model": NaN}', lines(RUNS), b"[\xff]"])
def test_an_array_that_is_not_json_is_refused(editor: Caller, path: str, body: str | bytes) -> None:
    refusal(400, editor.post(f"{path}/bulk", body), str(body))


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/ndjsonp"])
def test_other_media_types_are_refused_with_the_accepted_ones(editor: Caller, path: str, media_type: str) -> None:
    problem = refusal(415, editor.post(f"{path}/bulk", lines(RUNS), content_type=media_type), media_type)
    assert NDJSON in problem["message"]
    problem = refusal(415, editor.post(path, lines([RUN]), content_type=NDJSON), "a single run as NDJSON")
    assert NDJSON not in problem["message"].partition("Send")[2]


def test_a_body_may_be_larger_than_that_of_a_single_run(editor: Caller, path: str, settings: Settings) -> None:
    body = json.dumps([RUN])
    assert editor.post(f"{path}/bulk", body.ljust(8_000_000)).status_code == 201
    problem = refusal(413, editor.post(f"{path}/bulk", body.ljust(8_000_001)), "too large")
    assert "8,000,000 bytes" in problem["message"]
    settings.MAX_BULK_BYTES = len(body) - 1
    refusal(413, editor.post(f"{path}/bulk", body), "too large")


# Each run is validated and stored as by `POST …/drift`.


def assert_same_as_single_runs(editor: Caller, path: str, run: Any) -> None:
    alone = editor.post(path, json.dumps(run))
    one_by_one = stored()
    emptied()
    together = editor.post(f"{path}/bulk", [run])
    # A body with NaN or Infinity is not JSON. Among others, such a run is one that is not valid.
    expected = 422 if alone.status_code == 400 else alone.status_code
    assert together.status_code == expected, (run, alone.content, together.content)
    assert stored() == one_by_one
    if alone.status_code == 422:
        assert together.json()["errors"]["json"]["0"] == alone.json()["errors"]["json"]
    emptied()


def invalid_runs() -> Iterator[Any]:
    for field, values in WRONG_RUN.items():
        yield from (RUN | {field: value} for value in values)
        yield {name: value for name, value in RUN.items() if name != field}
    yield from (RUN | {name: None} for name in WHOLE)
    yield from (RUN | {"colour": 1}, RUN | {"id": 1, "verdict": 2, "created_at": None}, {}, [], "run")


def test_an_invalid_run_is_refused_in_bulk_as_by_itself(editor: Caller, path: str) -> None:
    for run in invalid_runs():
        assert_same_as_single_runs(editor, path, run)


def test_free_json_is_stored_in_bulk_as_by_itself(editor: Caller, path: str) -> None:
    for free in FREE.values():
        assert_same_as_single_runs(editor, path, RUN | {"parameters": free, "tags": ["a", "é"]})


TEXTS = st.text(max_size=30) | st.sampled_from(
    [" ", "\0", "a\n", "\ud800", "Completed", "Running", "m" * 255, "m" * 256]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
LIKELY = {
    "job_status": st.sampled_from(["Completed", "Running", "Failed"]),
    "model": TEXTS,
    "drift_detected": st.booleans(),
    "parameters": st.dictionaries(TEXTS, ANYTHING, max_size=4),
    "tags": st.lists(TEXTS, max_size=4),
    "detector": TEXTS | st.none(),
    "environment": TEXTS | st.none(),
    "model_version": TEXTS | st.none(),
}
FIELDS = {name: likely | ANYTHING for name, likely in LIKELY.items()} | {"verdict": ANYTHING, "colour": ANYTHING}
ANY_RUN = st.fixed_dictionaries({}, optional=LIKELY) | st.fixed_dictionaries({}, optional=FIELDS)


@hypothesis_settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
@given(run=ANY_RUN)
def test_any_run_gets_the_same_result_in_bulk_as_by_itself(editor: Caller, path: str, run: Any) -> None:
    assert_same_as_single_runs(editor, path, run)


@pytest.mark.parametrize("others", [[], [RUN]], ids=["alone", "among others"])
def test_a_run_that_is_too_large_for_mongodb_is_refused(
    editor: Caller, path: str, others: list[dict[str, Any]], settings: Settings
) -> None:
    """An operator may allow larger bodies than MongoDB can store."""
    settings.MAX_BULK_BYTES = 20_000_000
    body = json.dumps([*others, RUN | {"parameters": {"a": "x" * 17_000_000}}])
    problem = refusal(413, editor.post(f"{path}/bulk", body), "too large to store")
    assert "16 MB" in problem["message"]
    assert stored() == []
