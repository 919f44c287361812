"""Paths of parameters whose names hold dots, dollars and backslashes: in filters, statistics, columns and charts."""

import csv
import uuid
from typing import Any

import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from core.filters import FilterError, paths, translate
from drifts.exports import as_csv
from drifts.models import Drift
from drifts.views import FIELDS
from experiments.models import Experiment
from tests.caller import Caller
from tests.filter_pairs import JSON_VALUES, PATTERNS, comparisons, operator, perhaps_negated, reproducible
from tests.test_runs_page import Shown

CASE = {"petal.length": {"p_value": 0.01}, "$amount": {"p_value": 0.4}, "age": {"p_value": 0.2}}
DOTTED, DOLLAR = r"parameters.petal\.length.p_value", r"parameters.\$amount.p_value"
NAMES = st.lists(st.text(st.sampled_from(r"a.$\0é ") | st.characters(), min_size=1, max_size=6), min_size=1, max_size=6)


def add(experiment: Experiment, *several: Any) -> list[Drift]:
    run = {"job_status": "Completed", "model": "forest", "drift_detected": True}
    return [Drift.objects.create_in(experiment, **run, parameters=parameters) for parameters in several]


def found(document: Any) -> set[uuid.UUID]:
    return {run.pk for run in Drift.objects.matching(translate(document, FIELDS))}


# The rule of paths.


@given(NAMES)
@settings(reproducible)
def test_the_path_of_any_names_leads_back_to_them(names: list[str]) -> None:
    assert paths.split(paths.join(names)) == tuple(names)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("parameters.window.size", ("parameters", "window", "size")),
        (r"parameters.petal\.length.p_value", ("parameters", "petal.length", "p_value")),
        (r"parameters.\$amount", ("parameters", "$amount")),
        (r"parameters.a\.$b", ("parameters", "a.$b")),
        (r"parameters.a\\.b", ("parameters", "a\\", "b")),
        ("parameters.a$b", ("parameters", "a$b")),
        (r"parameters.C:\temp", ("parameters", r"C:\temp")),
        ("parameters.a\\", ("parameters", "a\\")),
    ],
)
def test_a_backslash_makes_a_dot_or_a_dollar_a_part_of_a_name(path: str, names: tuple[str, ...]) -> None:
    assert paths.split(path) == names


@pytest.mark.parametrize("path", ["", "parameters.", "parameters..a", ".a", "parameters.$a", r"parameters.\\.$a", "$a"])
def test_a_text_that_is_no_path_is_refused_with_the_rule(path: str) -> None:
    with pytest.raises(ValueError, match=r"\\\. is a dot inside a name"):
        paths.split(path)


# Filters.

CONDITIONS = (
    comparisons(JSON_VALUES)
    | operator("$all", st.lists(st.sampled_from(JSON_VALUES), max_size=3))
    | operator("$size", st.integers(0, 3))
    | PATTERNS
)


@pytest.fixture
def runs_of_all_values(experiment: Experiment) -> None:
    """Runs with each value under names that are plain, and under names that are not; and runs without them."""
    values = [{"ab": value, "a.b": value, "$ab": value, "x": {"ab": value, "a.b": value}} for value in JSON_VALUES]
    add(experiment, *values, {}, {"x": None}, {"x": 1})


@settings(reproducible, max_examples=60)
@given(condition=st.sampled_from(JSON_VALUES) | perhaps_negated(CONDITIONS))
def test_a_condition_means_the_same_for_every_name(runs_of_all_values: None, condition: Any) -> None:
    assert found({r"parameters.a\.b": condition}) == found({"parameters.ab": condition})
    assert found({r"parameters.\$ab": condition}) == found({"parameters.ab": condition})
    assert found({"$nor": [{r"parameters.x.a\.b": condition}]}) == found({"$nor": [{"parameters.x.ab": condition}]})


@pytest.mark.parametrize("path", [r"parameters.o\.b.in", r"parameters.o\.b.i\.n"])
@pytest.mark.parametrize("condition", [{"$exists": True}, {"$size": 0}, {"$eq": []}, 1, {"$ne": None}])
def test_a_name_is_not_searched_in_a_list_on_its_way(experiment: Experiment, path: str, condition: Any) -> None:
    inside = {"in": 1, "i.n": 1}
    values: list[Any] = [[], [1, 2], [{"other": 1}], [inside], {}, 5, None]
    add(experiment, *({"o.b": value} for value in values))
    assert not found({path: condition})
    add(experiment, {"o.b": inside})
    assert len(found({path: condition})) == (condition not in ({"$size": 0}, {"$eq": []}))


@pytest.mark.parametrize(
    ("document", "path", "sentence"),
    [
        (
            {r"parameters.a\.b": {"$elemMatch": {"$gt": 1}}},
            r"parameters.a\.b.$elemMatch",
            "for a name with a dot or a $",
        ),
        ({r"parameters.\$a": {"$mod": [2, 0]}}, r"parameters.\$a.$mod", "$mod is not allowed here"),
        ({r"parameters.\$a": {"$not": {"$mod": [2, 0]}}}, r"parameters.\$a.$not.$mod", "$mod is not allowed here"),
        ({"parameters.a": {"$elemMatch": {r"b\.c": 1}}}, r"parameters.a.$elemMatch.b\.c", "parameters.tests.0.p"),
        ({"parameters.a": {"$elemMatch": {r"\$c": 1}}}, r"parameters.a.$elemMatch.\$c", "inside $elemMatch"),
        ({r"parameters.a\.b": {"$where": "1"}}, r"parameters.a\.b.$where", "$where is not allowed here"),
        ({r"parameters.a\.b": {"$eq": {"$expr": 1}}}, r"parameters.a\.b.$eq", "$expr is not allowed inside a value"),
        ({"parameters" + r".a\." * 60: 1}, "parameters" + r".a\." * 60, "deeper than 50 levels"),
        ({"parameters.$amount": 1}, "parameters.$amount", r"\$ a dollar at the start of one"),
        ({r"parameters\.a": 1}, r"parameters\.a", "Unknown field"),
        ({r"model\.a": 1}, r"model\.a", "Unknown field"),
    ],
)
def test_a_condition_that_mongodb_cannot_have_is_refused_by_name(document: Any, path: str, sentence: str) -> None:
    with pytest.raises(FilterError) as refused:
        translate(document, FIELDS)
    assert (refused.value.path, sentence in refused.value.problem) == (path, True), refused.value


@pytest.mark.parametrize("name", ["$$ROOT", "$where", "a.$b", "\\", "$expr", "$$value", "$$REMOVE", ".", "a b.c", "$"])
def test_the_names_and_texts_of_a_client_are_never_evaluated(experiment: Experiment, name: str) -> None:
    path = paths.join(["parameters", "x", name])
    (other, run) = add(experiment, {"x": {"model": "forest", "value": 1}}, {"x": {name: f"{name}.model"}})
    assert found({path: f"{name}.model"}) == {run.pk}
    assert found({path: {"$in": [name, f"{name}.model"]}}) == {run.pk}
    assert found({path: {"$gte": f"{name}.model", "$regex": "[.]model$"}}) == {run.pk}
    assert found({path: {"$exists": False}}) == {other.pk}
    assert found({path: {"$type": "object"}}) == found({path: {"$eq": "forest"}}) == set()


def test_the_deepest_path_is_evaluated(experiment: Experiment) -> None:
    value: Any = 7
    for _ in range(49):
        value = {"a.": value}
    (run,) = add(experiment, {"x": value})
    assert found({"parameters.x" + r".a\." * 49: 7}) == {run.pk}


def test_a_filter_of_plain_names_is_the_same_match_document_as_ever() -> None:
    document = {"parameters.window.size": {"$gt": 1, "$not": {"$type": "string"}}}
    assert translate(document, FIELDS) == document
    assert translate({r"parameters.C:\temp": 1}, FIELDS) == {r"parameters.C:\temp": {"$eq": 1}}
    assert translate({r"parameters.a\\.b": 1}, FIELDS) == {"parameters.a\\.b": {"$eq": 1}}


# Everywhere else.


def test_every_stored_number_can_be_asked_for(reader: Caller, client: Client, public: Experiment) -> None:
    (run,) = add(public, CASE)
    add(public, {"petal": {"length": {"p_value": 0.01}}, "amount": {"p_value": 0.4}})
    for path, number in ((DOTTED, 0.01), (DOLLAR, 0.4), ("parameters.age.p_value", 0.2)):
        for document in ({path: number}, {path: {"$exists": True}}, {path: {"$lt": 0.5}}):
            response = reader.post(f"/experiment/{public.pk}/drift/search", document)
            assert [each["id"] for each in response.json()] == [str(run.pk)], response.content
        rows = reader.post(f"/experiment/{public.pk}/drift/stats", {"measures": path, "group_by": path}).json()
        measured = {row["group"][path]: row["measures"][path]["mean"] for row in rows}
        assert measured == {number: number, None: None}

        page = Shown(client.get(f"/experiments/{public.pk}", {"column": path, "where": f"{path} eq {number}"}))
        assert page.runs == [str(run.pk)]
        assert page.texts("tbody td.number") == [str(number)]
        assert page.all("thead th[title]", "title") == [path]
        assert page.texts("thead th[title]") == [path.removeprefix("parameters.")]
        assert path in page.all("datalist#suggested-paths option", "value")

        chart = Shown(client.get(f"/experiments/{public.pk}/chart", {"x": path, "y": "count"}))
        assert f"x from {number} to {number}" in chart.text
        assert path in chart.all("datalist#chart-paths option", "value")


def test_a_config_has_such_names_too(manager: Caller) -> None:
    for name in ("a.b", "a"):
        assert manager.post("/experiment", {"name": name, "config": {name: {"b": 1}}}).status_code == 201
    response = manager.post("/experiment/search", {r"config.a\.b.b": {"$gte": 1}})
    assert [each["name"] for each in response.json()] == ["a.b"]


def test_names_keep_their_spaces(reader: Caller, client: Client, public: Experiment) -> None:
    add(public, {" p ": 2.5})
    add(public, {"p": 1})
    path = "parameters. p "
    rows = reader.post(f"/experiment/{public.pk}/drift/stats", {"measures": path}).json()
    assert rows[0]["measures"][path]["count"] == 1
    page = Shown(client.get(f"/experiments/{public.pk}", {"column": path}))
    assert page.texts("tbody td.number") == ["2.5"]
    assert "x from 2.5 to 2.5" in client.get(f"/experiments/{public.pk}/chart", {"x": path}).content.decode()


def test_parameters_of_one_heading_have_two_columns(client: Client, public: Experiment) -> None:
    runs = add(public, {"a": {"b": 1}, "a.b": 2}, {"a": {"b": 3}, "a.b": 5})
    table = Shown(client.get(f"/experiments/{public.pk}", {"column": ["parameters.a.b", r"parameters.a\.b"]}))
    assert table.texts("thead th.number") == ["a.b", r"a\.b"]
    assert table.texts("tbody td.number") == ["3", "5", "1", "2"]
    selected = {"selected": [str(run.pk) for run in runs]}
    compared = Shown(client.get(f"/experiments/{public.pk}/compare", selected))
    assert [name for name in compared.texts("tbody th") if "." in name] == ["parameters.a.b", r"parameters.a\.b"]
    (head, *rows) = csv.reader(as_csv(Drift.objects.order_by("created_at")).getvalue().decode().splitlines())
    assert [[row[head.index(path)] for row in rows] for path in ("parameters.a.b", r"parameters.a\.b")] == [
        ["1", "3"],
        ["2", "5"],
    ]
