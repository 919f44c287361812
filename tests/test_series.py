"""Series: the runs that are repetitions of one check, and the search for them."""

import datetime
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.mongodb.documents import mongodb
from drifts import schema, series
from drifts.derived import series_of
from drifts.models import Drift
from drifts.series import key_of
from experiments.models import Experiment
from tests.caller import Caller
from tests.golden import COUNT, DAY, FIRST, PRECISION, RATE, VERDICTS, g1_runs
from tests.profiler import reads_of
from tests.times import time_of

RUN: dict[str, Any] = {"job_status": "Completed", "model": "forest", "drift_detected": False}


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}"


def in_days(number: float) -> str:
    return (FIRST + number * DAY).isoformat().replace("+00:00", "Z")


def store(editor: Caller, path: str, runs: list[dict[str, Any]]) -> None:
    assert editor.post(f"{path}/drift/bulk", runs).status_code == 201


def search(caller: Caller, path: str, query: str = "", body: Any = None) -> list[dict[str, Any]]:
    response = caller.post(f"{path}/series/search?{query}", body)
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()
    return found


def models(found: list[dict[str, Any]]) -> list[str]:
    return [item["series"]["model"] for item in found]


def pagination(response: Any) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(response.headers["X-Pagination"])
    return header


# The golden series.


@pytest.fixture
def golden(editor: Caller, path: str) -> list[dict[str, Any]]:
    """The runs of G1 as the API shows them, the first first. They were sent in another order."""
    runs = g1_runs()
    store(editor, path, [*runs[7:], *runs[6::-1]])
    found: list[dict[str, Any]] = editor.post(
        f"{path}/drift/search?page_size=100&sort_by=observed_at&order_by=asc"
    ).json()
    return found


def test_the_golden_series_has_its_verdicts(golden: list[dict[str, Any]], reader: Caller, path: str) -> None:
    assert len(golden) == COUNT
    for name, number in VERDICTS.items():
        found = reader.post(f"{path}/drift/search?page_size=100", {"verdict": name})
        assert len(found.json()) == pagination(found)["total"] == number
        assert sum(run["verdict"] == name for run in golden) == number


def test_the_golden_series_is_one_item_of_the_search(golden: list[dict[str, Any]], reader: Caller, path: str) -> None:
    (item,) = search(reader, path)
    assert item.pop("drift_rate") == pytest.approx(RATE, abs=PRECISION)
    assert item == {
        "series": {"model": "forest"},
        "count": COUNT,
        "verdicts": VERDICTS,
        "first_run": {"id": golden[0]["id"], "observed_at": "2026-01-01T06:00:00Z"},
        "last_run": {"id": golden[-1]["id"], "observed_at": "2026-01-23T06:00:00Z", "verdict": "drift"},
    }


@pytest.mark.parametrize(
    ("period", "count", "first", "last"),
    [
        ("since=2026-01-03T06:00:00Z&until=2026-01-08T06:00:00Z", 5, 2, 6),
        ("since=2026-01-08", 16, 7, 22),
        ("until=2026-01-01T07:00:00.001%2B01:00", 1, 0, 0),
    ],
)
def test_a_period_counts_the_runs_that_were_observed_in_it(
    golden: list[dict[str, Any]], reader: Caller, path: str, period: str, count: int, first: int, last: int
) -> None:
    (item,) = search(reader, path, period)
    assert item["count"] == count
    assert item["first_run"]["id"] == golden[first]["id"]
    assert item["last_run"]["id"] == golden[last]["id"]
    counted = [run["verdict"] for run in golden[first : last + 1]]
    assert item["verdicts"] == {name: counted.count(name) for name in VERDICTS}


def test_a_period_without_runs_has_no_series(golden: list[dict[str, Any]], reader: Caller, path: str) -> None:
    response = reader.post(f"{path}/series/search?since=2026-02-01")
    assert response.json() == []
    assert pagination(response)["total"] == pagination(response)["total_pages"] == 0


# Order and pages.


@pytest.fixture
def several(editor: Caller, path: str) -> None:
    """Seven series. Model n has n + 1 runs. The first and every third have no known verdict, the others some drift."""
    runs = [
        RUN
        | ({"job_status": "Failed"} if model % 3 == 0 else {"drift_detected": number % 2 == 0})
        | {"model": f"model {model}", "observed_at": in_days((model * 3) % 7 + number / 10)}
        for model in range(7)
        for number in range(model + 1)
    ]
    store(editor, path, runs)


def ranks(found: list[dict[str, Any]], name: str) -> list[Any]:
    """The values by which the items are sorted."""
    lasts = [(item["last_run"]["observed_at"], item["last_run"]["id"]) for item in found]
    numbers = [0 if name == "last_run" else -1 if item[name] is None else item[name] for item in found]
    return list(zip(numbers, lasts, strict=True))


@pytest.mark.parametrize("sort_by", ["last_run", "count", "drift_rate"])
@pytest.mark.parametrize(("order_by", "page_size"), [("asc", 3), ("desc", 2)])
def test_pages_have_each_series_once_in_order(
    several: None, reader: Caller, path: str, sort_by: str, order_by: str, page_size: int
) -> None:
    query = f"sort_by={sort_by}&order_by={order_by}"
    whole = search(reader, path, f"{query}&page_size=100")
    assert sorted(models(whole)) == [f"model {number}" for number in range(7)]
    in_order = ranks(whole, sort_by)
    pairs = pairwise(in_order if order_by == "asc" else in_order[::-1])
    assert all(before < after for before, after in pairs)
    query += f"&page_size={page_size}"
    pages = range(1, -(-7 // page_size) + 1)
    assert [item for page in pages for item in search(reader, path, f"{query}&page={page}")] == whole
    by_link: list[Any] = []
    address = f"{path}/series/search?{query}"
    while address:
        response = reader.post(address)
        assert pagination(response)["total"] == 7
        by_link += response.json()
        links = dict(part.split("; rel=")[::-1] for part in response.headers["Link"].split(", "))
        address = links.get('"next"', "").strip("<>").partition("/api/v1")[2]
    assert by_link == whole


def test_the_newest_series_are_first_by_default(several: None, reader: Caller, path: str) -> None:
    assert search(reader, path) == search(reader, path, "sort_by=last_run&order_by=desc")
    assert models(search(reader, path, "sort_by=count")) == [f"model {number}" for number in range(6, -1, -1)]


def test_a_link_keeps_the_period(several: None, reader: Caller, path: str) -> None:
    response = reader.post(f"{path}/series/search?page_size=1&since=2026-01-05&until=2026-01-06")
    assert len(response.json()) == 1
    assert "since=2026-01-05T00%3A00%3A00%2B00%3A00&until=2026-01-06" in response.headers["Link"]


@pytest.mark.parametrize("other", ["sort_by=count", "order_by=asc", "since=2026-01-01"])
def test_a_cursor_belongs_to_one_search(several: None, reader: Caller, path: str, other: str) -> None:
    cursor = pagination(reader.post(f"{path}/series/search?page_size=1"))["next_cursor"]
    assert reader.post(f"{path}/series/search?page_size=2&cursor={cursor}").status_code == 200
    refused = reader.post(f"{path}/series/search?{other}&cursor={cursor}")
    assert refused.status_code == 422
    assert "another search" in refused.json()["errors"]["query"]["cursor"][0]


@pytest.mark.parametrize(
    ("query", "name", "words"),
    [
        ("sort_by=model", "sort_by", "last_run"),
        ("since=yesterday", "since", "2026-01-31T12:00:00Z"),
        ("since=2026-01-02&until=2026-01-02", "until", "after since"),
        ("page_size=101", "page_size", "100"),
    ],
)
def test_a_wrong_query_is_refused_by_name(reader: Caller, path: str, query: str, name: str, words: str) -> None:
    response = reader.post(f"{path}/series/search?{query}")
    assert response.status_code == 422
    assert words in response.json()["errors"]["query"][name][0]


# Filters.


@pytest.fixture
def windows(experiment: Experiment, editor: Caller, path: str) -> None:
    """Series by the model and by parameters, one of which has a dot in its name."""
    Experiment.objects.filter(pk=experiment.pk).update(
        series_by=["model", "detector", "parameters.window.size", r"parameters.petal\.length"]
    )
    parameters: list[dict[str, Any]] = [
        {"window": {"size": 100}},
        {"window": {"size": 200}, "petal.length": "short"},
        {"window": {"size": [300]}},
    ]
    runs = [
        RUN | {"model": model, "parameters": each, "drift_detected": model == "oak"}
        for model in ("forest", "oak")
        for each in parameters
    ]
    store(editor, path, [*runs, RUN | {"detector": "ks", "parameters": {"window": {"size": 100.0}}}, runs[0]])


FOUND: list[tuple[Any, int]] = [
    ({}, 7),
    ({"series.model": "forest"}, 4),
    ({"series.model": {"$regex": "^oa"}}, 3),
    ({"series.detector": None}, 6),
    ({"series.detector": {"$exists": True}}, 1),
    ({r"series.parameters\.window\.size": 100}, 3),
    ({r"series.parameters\.window\.size": {"$gt": 100}, "series.model": "oak"}, 1),
    ({r"series.parameters\.petal\\\.length": "short"}, 2),
    ({r"series.parameters\.window\.size": {"$exists": False}}, 2),
    ({"series": {"model": "oak"}}, 1),
    ({"series": {"parameters.window.size": 100, "model": "forest"}}, 1),
    ({"$or": [{"series.detector": "ks"}, {"series.model": "oak"}]}, 4),
    ({"$nor": [{"series.model": "oak"}]}, 4),
    ({"last_run.verdict": "drift"}, 3),
    ({"last_run.verdict": {"$ne": "drift"}}, 4),
    ({"last_run.verdict": "unknown"}, 0),
    ({"last_run.observed_at": {"$gte": "2026-01-01"}}, 7),
    ({"last_run.observed_at": {"$lt": "2026-01-01"}}, 0),
]


def test_a_filter_finds_series(windows: None, reader: Caller, path: str) -> None:
    for document, count in FOUND:
        response = reader.post(f"{path}/series/search", document)
        assert response.status_code == 200, response.content
        assert len(response.json()) == pagination(response)["total"] == count, document


def test_the_runs_of_a_series_are_found_by_it(windows: None, reader: Caller, path: str) -> None:
    for item in search(reader, path):
        runs = reader.post(f"{path}/drift/search", {"series": item["series"]}).json()
        assert len(runs) == item["count"]
        assert {item["first_run"]["id"], item["last_run"]["id"]} <= {run["id"] for run in runs}
        assert len(search(reader, path, "", {"series": item["series"]})) == 1


REFUSED: list[tuple[Any, str, str]] = [
    ({"model": "forest"}, "model", "Unknown field. Fields: series, last_run."),
    ({"observed_at": {"$gt": "2026-01-01"}}, "observed_at", "Unknown field"),
    ({"last_run": {"$eq": 1}}, "last_run.$eq", "not allowed here"),
    ({"last_run.id": "1"}, "last_run.id", "has no such part"),
    ({"last_run.verdict": "good"}, "last_run.verdict", "drift, no_drift, unknown"),
    ({"series": {"$where": "1"}}, "series.$where", "not allowed"),
    ({"series.$model": 1}, "series.$model", "Write names"),
]


def test_a_refused_filter_names_its_path(reader: Caller, path: str) -> None:
    for document, where, words in REFUSED:
        response = reader.post(f"{path}/series/search", document)
        assert response.status_code == 422
        assert words in response.json()["errors"]["json"][where][0]


UNESCAPED = {
    "series.parameters.window.size": r"series.parameters\.window\.size",
    r"series.parameters.petal\.length": r"series.parameters\.petal\\\.length",
}


@pytest.mark.parametrize("resource", ["series", "drift"])
def test_a_name_without_its_escapes_is_refused_with_the_escaped_one(
    windows: None, reader: Caller, path: str, resource: str
) -> None:
    for name, escaped in UNESCAPED.items():
        response = reader.post(f"{path}/{resource}/search", {name: {"$exists": True}})
        assert response.status_code == 422
        (sentence,) = response.json()["errors"]["json"][name]
        assert sentence == f"A name in series is one name. Write {escaped}."
        assert reader.post(f"{path}/{resource}/search", {escaped: {"$exists": True}}).json()


# Runs without a series, and the bound.


def test_runs_without_a_series_are_counted_apart(golden: list[dict[str, Any]], reader: Caller, path: str) -> None:
    response = reader.post(f"{path}/series/search")
    assert pagination(response)["runs_without_series"] == 0
    mongodb().database[Drift._meta.db_table].update_many(
        {"_id": {"$in": [run["id"].replace("-", "") for run in golden[:4]]}},
        {"$unset": dict.fromkeys(schema.added_fields(), ""), "$set": {"schema_version": "1.0.0"}},
    )
    response = reader.post(f"{path}/series/search")
    (item,) = response.json()
    assert item["count"] == COUNT - 4
    assert item["first_run"]["id"] == golden[4]["id"]
    assert pagination(response)["runs_without_series"] == 4
    assert pagination(response)["runs_without_series_is_exact"] is True


@pytest.mark.parametrize("body", [{}, {"series.model": "model 1"}])
def test_more_series_than_a_search_takes_are_refused_and_not_cut(
    several: None, reader: Caller, path: str, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "MAX_SERIES", 7)
    assert reader.post(f"{path}/series/search", body).status_code == 200
    monkeypatch.setattr(series, "MAX_SERIES", 6)
    refused = reader.post(f"{path}/series/search", body)
    assert refused.status_code == 422
    assert "since and until" in refused.json()["message"]
    # A shorter period has fewer series.
    assert reader.post(f"{path}/series/search?since=2026-01-05", body).status_code == 200


def test_another_experiment_has_series_of_its_own(several: None, manager: Caller, path: str) -> None:
    other = manager.post("/experiment", {"name": "another"}).json()
    assert search(manager, f"/experiment/{other['id']}") == []


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", {}),
        ("sort_by=count", {}),
        ("since=2026-01-03", {}),
        ("", {"series": {"model": "model 3"}}),
        ("", {"series.model": "model 3"}),
    ],
)
def test_a_search_reads_an_index_and_no_run(several: None, reader: Caller, path: str, query: str, body: Any) -> None:
    with reads_of(Drift) as reads:
        assert search(reader, path, query, body)
    assert [read.documents for read in reads] == [0] * len(reads)
    assert len(reads) == 5
    # Finding the first and last runs takes a key for each series, and one for the end of the experiment.
    scans = [read for read in reads if read.plan.startswith("DISTINCT_SCAN")]
    assert len(scans) == 3
    assert all(read.keys <= 15 for read in scans)


# Equal series.


VALUES = st.one_of(
    st.text(max_size=3),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, -0.0, 1.0, 2.0**53, 2**53 + 1]),
    st.floats(allow_nan=False, allow_infinity=False),
)


@hypothesis_settings(max_examples=100, deadline=None)
@given(names=st.permutations(["model", "detector", "parameters.a", "parameters.b"]), values=st.data())
def test_the_order_of_names_and_parameters_makes_no_other_series(names: list[str], values: st.DataObject) -> None:
    pairs = values.draw(st.lists(st.tuples(st.sampled_from("ab"), VALUES), unique_by=lambda pair: pair[0]))
    run = {"model": "forest", "detector": None, "parameters": dict(pairs)}
    turned = {**run, "parameters": dict(pairs[::-1])}
    one, other = series_of(run, tuple(names)), series_of(turned, tuple(sorted(names)))
    assert list(one.items()) == list(other.items())


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(numbers=st.lists(VALUES, min_size=1, max_size=8))
def test_series_are_equal_where_mongodb_says_so(experiment: Experiment, numbers: list[Any]) -> None:
    runs = mongodb().database[Drift._meta.db_table]
    runs.delete_many({})
    experiment.series_by = ["parameters.value"]
    fields = {"job_status": "Completed", "model": "forest", "drift_detected": True}
    Drift.objects.create_all_in(experiment, [{**fields, "parameters": {"value": each}} for each in numbers])
    own = Drift.objects.of(experiment)
    found = series.SeriesSearch(series.runs_in(own, None, None), {}, "last_run", True, b"").page(1, 100).documents
    assert len(found) == len({key_of(item["series"]) for item in found})
    assert len(found) == len({key_of({"value": each}) for each in numbers})
    assert sum(item["count"] for item in found) == len(numbers)


def test_the_last_of_runs_at_one_time_is_the_one_with_the_greatest_id(editor: Caller, path: str) -> None:
    store(editor, path, [RUN | {"observed_at": in_days(0)} for _ in range(5)])
    ids = sorted(run["id"] for run in editor.post(f"{path}/drift/search").json())
    (item,) = search(editor, path)
    assert (item["first_run"]["id"], item["last_run"]["id"]) == (ids[0], ids[-1])


def test_a_run_moves_to_another_series_with_its_model(editor: Caller, path: str) -> None:
    run = editor.post(f"{path}/drift", RUN).json()
    assert run["series"] == {"model": "forest"}
    assert editor.patch(f"{path}/drift/{run['id']}", {"model": "oak", "feature": "age"}).json()["series"] == {
        "feature": "age",
        "model": "oak",
    }
    assert [item["series"] for item in search(editor, path)] == [{"feature": "age", "model": "oak"}]


def test_times_are_in_utc(editor: Caller, path: str) -> None:
    store(editor, path, [RUN | {"observed_at": "2026-03-29T02:30:00.5+02:00"}])
    (item,) = search(editor, path)
    assert time_of(item["last_run"]["observed_at"]) == datetime.datetime(
        2026, 3, 29, 0, 30, 0, 500_000, tzinfo=datetime.UTC
    )
