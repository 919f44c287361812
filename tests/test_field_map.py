"""Field maps and `series_by`: the fields of a run that its client did not send."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from drifts.derived import EmptyWindow, derived_fields, series_of
from experiments.models import Experiment
from experiments.run_rules import MAPPABLE_FIELDS, RunRules
from tests.caller import Caller

RUN: dict[str, Any] = {"job_status": "Completed", "model": "forest", "drift_detected": True}
NAMES = {name: f"parameters.{name}" for name in MAPPABLE_FIELDS}
TIME = "2026-01-31T12:00:00Z"
VALID: dict[str, Any] = {
    "detector": "ks",
    "environment": "production",
    "model_version": "1.4",
    "observed_at": TIME,
    "window_start": "2026-01-30T00:00:00Z",
    "window_end": "2026-01-31T00:00:00Z",
    "feature": "age",
    "p_value": 0.003,
    "statistic": 0.25,
    "threshold": 0.05,
    "sample_size": 500,
}
# Other values of the same fields, as a client sends them.
SENT: dict[str, Any] = {
    "detector": "mmd",
    "environment": "staging",
    "model_version": "1.5",
    "observed_at": "2026-02-28T12:00:00Z",
    "window_start": "2026-01-29T00:00:00Z",
    "window_end": "2026-02-01T00:00:00Z",
    "feature": "prediction",
    "p_value": 1,
    "statistic": -3,
    "threshold": 0,
    "sample_size": 0,
}


@pytest.fixture
def path(experiment: Experiment, manager: Caller) -> str:
    """The path of an experiment that maps each field to the parameter of the same name."""
    path = f"/experiment/{experiment.pk}"
    response = manager.patch(path, {"field_map": NAMES})
    assert response.status_code == 200
    assert response.json()["field_map"] == NAMES
    return path


def report(caller: Caller, path: str, parameters: Any, **sent: Any) -> dict[str, Any]:
    response = caller.post(f"{path}/drift", RUN | {"parameters": parameters} | sent)
    assert response.status_code == 201, response.content
    run: dict[str, Any] = response.json()
    return run


def mapped(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in MAPPABLE_FIELDS}


# The values that a map fills in.


def test_parameters_fill_the_fields_that_were_not_sent(editor: Caller, path: str) -> None:
    run = report(editor, path, VALID)
    assert mapped(run) == VALID
    assert run["parameters"] == VALID
    assert editor.get(f"{path}/drift/{run['id']}").json() == run
    assert editor.post(f"{path}/drift/search", {"p_value": 0.003, "detector": "ks"}).json() == [run]


def test_a_map_fills_the_fields_of_runs_sent_in_bulk(editor: Caller, path: str) -> None:
    runs = [RUN | {"parameters": VALID}, RUN | {"parameters": VALID, "p_value": 0.5}]
    assert editor.post(f"{path}/drift/bulk", runs).status_code == 201
    other, run = editor.post(f"{path}/drift/search").json()
    assert mapped(run) == VALID
    assert mapped(other) == VALID | {"p_value": 0.5}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("p_value", ["0.003", True, [0.1], {"value": 0.1}, -0.1, 1.1, None]),
        ("statistic", ["1", False]),
        ("sample_size", [1.5, "500", -1, True, 500.0]),
        ("detector", [1, ["ks"], "x" * 256, "", " "]),
        ("observed_at", [TIME[:-4] + "99Z", 1769860800, True, "1969-12-31", "2999-01-01"]),
        ("window_start", ["yesterday", 5, {}]),
    ],
)
def test_a_value_that_could_not_be_sent_is_null(editor: Caller, path: str, name: str, values: list[Any]) -> None:
    for value in values:
        run = report(editor, path, {name: value})
        assert run[name] == (run["created_at"] if name == "observed_at" else None), value
        assert run["parameters"] == {name: value}


@pytest.mark.parametrize(
    ("mapping", "parameters"),
    [
        ("parameters.window.size", {"window": {"size": 5}}),
        ("parameters.windows.1.size", {"windows": [{}, {"size": 5}]}),
        (r"parameters.petal\.length.n", {"petal.length": {"n": 5}}),
        (r"parameters.\$n", {"$n": 5}),
        (r"parameters.a\\.n", {"a\\": {"n": 5}}),
        ("parameters.1", {"1": 5}),
    ],
)
def test_a_path_of_a_map_is_written_as_in_a_filter(
    manager: Caller, path: str, mapping: str, parameters: dict[str, Any]
) -> None:
    assert manager.patch(path, {"field_map": {"sample_size": mapping}}).status_code == 200
    run = report(manager, path, parameters)
    assert run["sample_size"] == 5
    assert manager.post(f"{path}/drift/search", {mapping: 5}).json() == [run]
    assert report(manager, path, {"window": None, "windows": [1], "petal": {"length": 5}})["sample_size"] is None


# Sent and mapped values.


def test_a_sent_value_wins(editor: Caller, path: str) -> None:
    run = report(editor, path, VALID, **SENT)
    assert mapped(run) == SENT
    assert run["series"] == {"detector": "mmd", "environment": "staging", "feature": "prediction", "model": "forest"}
    patched = editor.patch(f"{path}/drift/{run['id']}", {"parameters": {"p_value": 0.9}}).json()
    assert mapped(patched) == SENT


@pytest.mark.parametrize("method", ["patch", "put"])
def test_a_value_that_is_sent_later_wins(editor: Caller, path: str, method: str) -> None:
    run = report(editor, path, VALID)
    changed = getattr(editor, method)(f"{path}/drift/{run['id']}", RUN | {"parameters": VALID} | SENT).json()
    assert mapped(changed) == SENT
    assert mapped(editor.patch(f"{path}/drift/{run['id']}", {"parameters": {}}).json()) == SENT


def test_a_put_keeps_sent_values_and_maps_the_others_again(editor: Caller, path: str) -> None:
    run = report(editor, path, VALID, detector="mmd", sample_size=7)
    parameters = {"detector": "adwin", "p_value": 0.9, "sample_size": 8}
    put = editor.put(f"{path}/drift/{run['id']}", RUN | {"parameters": parameters}).json()
    assert put["detector"] == "mmd"
    assert put["sample_size"] == 7
    assert put["p_value"] == 0.9
    assert put["statistic"] is put["window_end"] is put["feature"] is None
    assert put["observed_at"] == put["created_at"]


@pytest.mark.parametrize("method", ["patch", "put"])
def test_null_clears_the_sent_value_and_the_mapped_one_counts_again(editor: Caller, path: str, method: str) -> None:
    run = report(editor, path, VALID, **SENT)
    body = RUN | {"parameters": VALID} | dict.fromkeys(MAPPABLE_FIELDS)
    cleared = getattr(editor, method)(f"{path}/drift/{run['id']}", body).json()
    assert mapped(cleared) == VALID
    unmapped = getattr(editor, method)(f"{path}/drift/{run['id']}", RUN | {"parameters": {}}).json()
    assert mapped(unmapped) == dict.fromkeys(MAPPABLE_FIELDS) | {"observed_at": run["created_at"]}


def test_a_put_of_a_run_as_it_was_read_leaves_mapped_values_mapped(editor: Caller, path: str) -> None:
    run = report(editor, path, {"p_value": 0.5})
    address = f"{path}/drift/{run['id']}"
    changed = editor.put(address, run | {"parameters": {"p_value": 0.1}}).json()
    assert changed["p_value"] == 0.1
    assert changed["observed_at"] == run["observed_at"]
    assert editor.put(address, changed | {"p_value": 0.2}).json()["p_value"] == 0.2
    assert editor.patch(address, {"parameters": {"p_value": 0.3}}).json()["p_value"] == 0.2


def test_a_put_of_an_older_answer_leaves_mapped_values_mapped(manager: Caller, path: str) -> None:
    """Another client has changed the parameters since the answer."""
    others: list[dict[str, Any]] = [{"p_value": 0.9, "observed_at": "2026-01-01"}, {}]
    for parameters in others:
        answer = report(manager, path, {"p_value": 0.3})
        address = f"{path}/drift/{answer['id']}"
        manager.patch(address, {"parameters": parameters})
        put = manager.put(address, answer).json()
        assert mapped(put) == mapped(answer)
        later = manager.patch(address, {"parameters": {"p_value": 0.5, "observed_at": TIME}}).json()
        assert (later["p_value"], later["observed_at"]) == (0.5, TIME)


def test_a_put_of_an_older_answer_may_change_a_mapped_value(manager: Caller, path: str) -> None:
    answer = report(manager, path, {"p_value": 0.3})
    address = f"{path}/drift/{answer['id']}"
    manager.patch(address, {"parameters": {"p_value": 0.9}})
    assert manager.put(address, answer | {"p_value": 0.4}).json()["p_value"] == 0.4
    assert manager.patch(address, {"parameters": {"p_value": 0.5}}).json()["p_value"] == 0.4


def test_a_value_that_equals_the_mapped_one_is_sent_all_the_same(editor: Caller, path: str) -> None:
    run = report(editor, path, {"p_value": 0.5}, p_value=0.5)
    assert editor.patch(f"{path}/drift/{run['id']}", {"parameters": {"p_value": 0.1}}).json()["p_value"] == 0.5


@pytest.mark.parametrize(
    ("parameters", "sent", "start", "end"),
    [
        ({"window_start": "2026-01-02", "window_end": "2026-01-01"}, {}, None, None),
        ({"window_start": "2026-01-01", "window_end": "2026-01-01"}, {}, None, None),
        ({"window_start": "2026-01-01", "window_end": "2026-01-02"}, {}, "2026-01-01", "2026-01-02"),
        ({"window_start": "2026-01-05"}, {"window_end": "2026-01-02"}, None, "2026-01-02"),
        ({"window_end": "2026-01-01"}, {"window_start": "2026-01-02"}, "2026-01-02", None),
        ({"window_end": "2026-01-01"}, {}, None, "2026-01-01"),
    ],
)
def test_mapped_ends_of_an_empty_window_are_null(
    editor: Caller, path: str, parameters: Any, sent: Any, start: str | None, end: str | None
) -> None:
    run = report(editor, path, parameters, **sent)
    assert run["window_start"] == (start and f"{start}T00:00:00Z")
    assert run["window_end"] == (end and f"{end}T00:00:00Z")


def test_a_mapped_time_may_be_cleared_and_comes_back(editor: Caller, path: str) -> None:
    run = report(editor, path, {"observed_at": TIME}, observed_at="2026-02-01T00:00:00Z")
    assert run["observed_at"] == "2026-02-01T00:00:00Z"
    address = f"{path}/drift/{run['id']}"
    assert editor.patch(address, {"observed_at": None}).json()["observed_at"] == TIME
    assert editor.patch(address, {"parameters": {}}).json()["observed_at"] == run["created_at"]
    assert editor.patch(address, {"parameters": {"observed_at": "2026-01-01"}}).json()["observed_at"].startswith("2026")


def test_mapped_values_are_part_of_the_series(editor: Caller, path: str) -> None:
    run = report(editor, path, {"detector": "ks", "feature": "age"})
    assert run["series"] == {"detector": "ks", "feature": "age", "model": "forest"}
    assert list(run["series"]) == sorted(run["series"])


# The rules of an experiment.


WRONG_MAPS: list[tuple[Any, str, str]] = [
    ({"note": "parameters.note"}, "note", "cannot be mapped. Fields: detector"),
    ({"heartbeat_at": "parameters.a"}, "heartbeat_at", "cannot be mapped"),
    ({"run_timeout": "parameters.a"}, "run_timeout", "cannot be mapped"),
    ({"model": "parameters.a"}, "model", "cannot be mapped"),
    ({"p_value": "p_value"}, "p_value", "Write the path of a parameter, such as parameters.p_value."),
    ({"p_value": "parameters"}, "p_value", "Write the path of a parameter, such as parameters.p_value."),
    ({"p_value": "parameters..a"}, "p_value", "Write names"),
    ({"p_value": "parameters.$a"}, "p_value", "Write names"),
    ({"p_value": 1}, "p_value", "Must be a string"),
    ({"p_value": None}, "p_value", "Must not be null"),
]


def test_a_wrong_field_map_is_refused_by_field(manager: Caller, path: str) -> None:
    for field_map, name, words in WRONG_MAPS:
        for response in (
            manager.patch(path, {"field_map": field_map}),
            manager.post("/experiment", {"name": "another", "field_map": field_map}),
        ):
            assert response.status_code == 422
            assert words in response.json()["errors"]["json"]["field_map"][name][0]
    assert manager.get(path).json()["field_map"] == NAMES


def test_a_map_is_kept_by_a_put_and_cleared_by_null(manager: Caller, path: str) -> None:
    kept = manager.put(path, {"name": "renamed"}).json()
    assert kept["field_map"] == NAMES
    empty: Any
    for empty in (None, {}):
        assert manager.patch(path, {"field_map": NAMES}).json()["field_map"] == NAMES
        assert manager.put(path, {"name": "renamed", "field_map": empty}).json()["field_map"] == {}
    made = manager.post("/experiment", {"name": "another", "field_map": {"p_value": "parameters.p"}}).json()
    assert made["field_map"] == {"p_value": "parameters.p"}
    assert made["recomputation"] is None


WRONG_SERIES: list[tuple[Any, str]] = [
    (["job_status"], "Names: model"),
    (["config.a"], "Names: model"),
    (["parameters"], "Names: model"),
    (["parameters..a"], "Write names"),
    ([f"parameters.{name}" for name in "abcdef"], "at most 5"),
    ("model", "Must be a list"),
    ([1], "Must be a string"),
]


def test_a_wrong_series_by_is_refused(manager: Caller, path: str) -> None:
    for series_by, words in WRONG_SERIES:
        response = manager.patch(path, {"series_by": series_by})
        assert response.status_code == 422
        assert words in response.json()["message"]


def test_a_series_is_what_the_experiment_says(manager: Caller, path: str) -> None:
    default = ["model", "detector", "environment", "feature"]
    assert manager.get(path).json()["series_by"] == default
    chosen = ["parameters.window.size", "model_version", r"parameters.petal\.length"]
    assert manager.patch(path, {"series_by": [*chosen, chosen[0]]}).json()["series_by"] == chosen
    run = report(manager, path, {"window": {"size": 5}, "petal.length": True, "model_version": "1.4"})
    assert run["series"] == {
        "model_version": "1.4",
        r"parameters.petal\.length": True,
        "parameters.window.size": 5,
    }
    # Neither lists, nor objects, nor long texts make a series.
    assert report(manager, path, {"window": {"size": [5]}, "petal.length": "x" * 256})["series"] == {}
    empty: Any
    for empty in (None, []):
        assert manager.patch(path, {"series_by": empty}).json()["series_by"] == default


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"field_map": {}}, "field_map"),
        ({"series_by": ["model"]}, "series_by"),
        ({"series_by": ["model"], "field_map": {}}, "field_map"),
    ],
)
def test_a_change_of_the_rules_shows_its_progress(manager: Caller, path: str, rules: Any, field: str) -> None:
    report(manager, path, {})
    assert manager.patch(path, {"description": "changed"}).status_code == 200
    recomputation = manager.patch(path, rules).json()["recomputation"]
    assert recomputation.pop("started_at")
    assert recomputation == {"field": field, "done": 0, "total": 1}
    sent_back = manager.get(path).json()
    assert manager.put(path, sent_back).json()["recomputation"] == sent_back["recomputation"]


# Properties of derived fields.


DATES = st.datetimes(datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 4)).map(
    lambda time: time.replace(microsecond=0)
)
OF_FIELD: dict[str, Any] = {
    "observed_at": DATES,
    "window_start": DATES,
    "window_end": DATES,
    "p_value": st.floats(0, 1),
    "statistic": st.floats(-9, 9),
    "threshold": st.integers(-9, 9),
    "sample_size": st.integers(0, 9),
}
TEXTS = st.text("ab", min_size=1, max_size=2)
SENT_FIELDS = st.fixed_dictionaries({}, optional={name: OF_FIELD.get(name, TEXTS) for name in MAPPABLE_FIELDS})
PARAMETERS = st.dictionaries(
    st.sampled_from(MAPPABLE_FIELDS),
    st.one_of(st.none(), st.booleans(), st.integers(-1, 2), st.floats(0, 1), TEXTS, DATES.map(lambda t: f"{t}Z")),
)
RULES = st.builds(
    RunRules,
    st.lists(st.sampled_from(["model", "detector", "feature", "parameters.p_value"]), unique=True).map(tuple),
    st.lists(st.sampled_from(sorted(NAMES.items())), unique=True).map(tuple),
    st.integers(0, 2),
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(SENT_FIELDS, PARAMETERS, RULES)
def test_derived_fields_are_the_same_when_they_are_derived_again(sent: Any, parameters: Any, rules: RunRules) -> None:
    run = {"model": "forest", "created_at": datetime.datetime(2026, 1, 5), "parameters": parameters, **sent}
    try:
        whole = with_derived(run, rules)
    except EmptyWindow:
        assert sent["window_start"] >= sent["window_end"]
        return
    assert sent.items() <= whole.items()
    assert set(whole["derived"]).isdisjoint(sent)
    assert whole["observed_at"] is not None
    assert whole["series"] == series_of(whole, rules.series_by)
    assert with_derived(whole, rules) == whole
    # Only the sent values are left without a map.
    plain = with_derived(whole, RunRules())
    assert {name: plain[name] for name in MAPPABLE_FIELDS if name in plain} == {
        "observed_at": run["created_at"],
        **sent,
    }


def with_derived(run: dict[str, Any], rules: RunRules) -> dict[str, Any]:
    """The run as it is stored, without the fields that are null."""
    return {name: value for name, value in (run | derived_fields(run, rules)).items() if value is not None}
