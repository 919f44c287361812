"""The run filter in an address: the meaning of each part, and the message for an invalid one."""

import datetime
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from bs4 import BeautifulSoup
from django.http import QueryDict
from django.template.loader import render_to_string
from hypothesis import given
from hypothesis import strategies as st

from core.filters import translate
from drifts.models import Drift
from drifts.views import FIELDS
from experiments.models import Experiment
from pages.run_filter import MAX_CONDITIONS, OPERATORS, RunFilter
from pages.suggestions import Suggestions
from tests.filter_pairs import reproducible

EXPRESSIONS = [
    ("parameters.p lt 0.05", {"parameters.p": {"$lt": 0.05}}),
    ("parameters.p lte -1e-3", {"parameters.p": {"$lte": -0.001}}),
    ("parameters.p gt .5", {"parameters.p": {"$gt": 0.5}}),
    ("parameters.n eq 5", {"parameters.n": {"$eq": 5}}),
    ("parameters.ok eq true", {"parameters.ok": {"$eq": True}}),
    ("parameters.ok ne false", {"parameters.ok": {"$ne": False}}),
    ("parameters.unit eq seconds per run", {"parameters.unit": {"$eq": "seconds per run"}}),
    ('parameters.unit eq "5"', {"parameters.unit": {"$eq": "5"}}),
    ('parameters.unit eq ""', {"parameters.unit": {"$eq": ""}}),
    ('parameters.unit eq "', {"parameters.unit": {"$eq": '"'}}),
    ("  parameters.my key   gte   3  ", {"parameters.my key": {"$gte": 3}}),
    ("parameters.p exists", {"parameters.p": {"$exists": True}}),
    ("parameters.p exists false", {"parameters.p": {"$exists": False}}),
    ("detector exists", {"detector": {"$ne": None}}),
    ("detector exists false", {"detector": {"$eq": None}}),
    ("parameters.unit contains a.b", {"parameters.unit": {"$regex": r"a\.b", "$options": "i"}}),
    ("model contains For", {"model": {"$regex": "For", "$options": "i"}}),
    ("model_version eq 2", {"model_version": {"$eq": "2"}}),
    ("drift_detected eq true", {"drift_detected": {"$eq": True}}),
    ("updated_at gt 2026-01-31", {"updated_at": {"$gt": "2026-01-31"}}),
    ("verdict ne drift", {"verdict": {"$ne": "drift"}}),
    ("p_value lt 0.05", {"p_value": {"$lt": 0.05}}),
    ("sample_size gte 100", {"sample_size": {"$gte": 100}}),
    ("threshold exists false", {"threshold": {"$eq": None}}),
    ("unsupported eq true", {"unsupported": {"$eq": True}}),
    ("observed_at gt 2026-01-31", {"observed_at": {"$gt": "2026-01-31"}}),
    ("note contains upstream", {"note": {"$regex": "upstream", "$options": "i"}}),
    (r"series.parameters\.site eq 7", {r"series.parameters\.site": {"$eq": 7}}),
    ('series eq {"model": "forest", "detector": "ks"}', {"series": {"$eq": {"detector": "ks", "model": "forest"}}}),
    ('series ne {"model":"forest"}', {"series": {"$ne": {"model": "forest"}}}),
    ('parameters eq {"p": 0.5}', {"parameters": {"$eq": {"p": 0.5}}}),
    ("series exists false", {"series": {"$exists": False}}),
    ("p-value lt 0.05", {"p_value": {"$lt": 0.05}}),
    ("window start gt 2026-01-31", {"window_start": {"$gt": "2026-01-31"}}),
    (" Reported gt 2026-01-31", {"created_at": {"$gt": "2026-01-31"}}),
    ("UNSUPPORTED eq true", {"unsupported": {"$eq": True}}),
    ("Time-out (seconds) eq 60", {"run_timeout": {"$eq": 60}}),
    (r"parameters.petal\.length.p_value lt 0.05", {r"parameters.petal\.length.p_value": {"$lt": 0.05}}),
    (r"parameters.\$amount exists", {r"parameters.\$amount": {"$exists": True}}),
    (r"parameters.a\.b contains x", {r"parameters.a\.b": {"$regex": "x", "$options": "i"}}),
    # A link that was stored when names with operators could not be written.
    ("parameters.rate gt mean gt 5", {"parameters.rate": {"$gt": "mean gt 5"}}),
    ('"parameters.rate gt mean" gt 5', {"parameters.rate gt mean": {"$gt": 5}}),
    ('"parameters. p " eq 1', {"parameters. p ": {"$eq": 1}}),
    (r'"parameters.a\\.b \"c\"" eq 1', {r'parameters.a\.b "c"': {"$eq": 1}}),
]
WRONG = [
    ("where=p_value", "where", "Enter a field, a comparison and a value"),
    ("where=parameters.p lt", "where", "Write a value to compare with"),
    ("where=parameters.p is 3", "where", "such as parameters.p_value lt 0.05 (lt: less than)."),
    ("where=p lt 3", "where", "Unknown field. For a parameter write parameters.p."),
    ("where=parameters..p lt 3", "where", "Write names separated by single dots"),
    ("where=p_value lt low", "where", "Compare this field with a number."),
    ("where=unsupported eq perhaps", "where", "Compare this field with one of: true, false."),
    (
        "where=series eq forest",
        "where",
        'Compare series with its values in braces, such as {"model": "forest"}, or choose series.model.',
    ),
    ("where=Series eq {model: forest}", "where", "This is not valid JSON (line 1, column 2)."),
    ('where=series eq {"$gt": {}}', "where", "$gt is not allowed inside a value."),
    ('where=series contains {"model": "forest"}', "where", "“contains” searches texts only."),
    ("where=parameters eq 0.05", "where", 'such as {"p_value": 0.05}, or choose parameters.p_value.'),
    ("where=series.parameters.site eq 7", "where", r"A name in series is one name. Write series.parameters\.site."),
    ("where=parameters.p exists maybe", "where", "“is set” takes true, false or nothing."),
    ("where=parameters.p eq 1e999", "where", "A number must be finite."),
    ("where=parameters.p eq 99999999999999999999", "where", "An integer must fit 64 bits."),
    ("where=parameters.p eq a%00b", "where", "NUL"),
    ("where=parameters.p contains " + "x" * 201, "where", "at most 200 characters"),
    ("where=parameters.p eq " + "x" * 1000, "where", "At most 1,000 characters are allowed."),
    ("where=verdict lt drift", "where", "verdict has no order. Choose “is” or “is not”."),
    ("where=created_at contains 2026", "where", "“contains” searches texts only."),
    ("where=updated_at gt soon", "where", "Write a time in UTC, such as 2026-01-31 or 2026-01-31 12:00."),
    ("where=verdict eq perhaps", "where", "Compare this field with one of: drift, no_drift, unknown."),
    ('where="p" lt 3', "where", "Unknown field. For a parameter write parameters.p."),
    ('where="parameters.p lt 3', "where", "Enter a field, a comparison and a value"),
    (r'where="parameters.p\q" lt 3', "where", "Enter a field, a comparison and a value"),
    ("path= parameters.p&op=eq&value=3", "where", "The field begins or ends with a space. Remove it."),
    ("value=3", "where", "Enter a field, such as parameters.p_value."),
    ("path=$amount&value=3", "where", r"write parameters.\$amount."),
    ("path=petal.length&value=3", "where", r"If the dot belongs to the name, write parameters.petal\.length."),
    ("path=parameters.p&op=drop&value=3", "where", "Enter a field, a comparison and a value"),
    ("status=Paused", "status", "Choose one of: Running, Completed, Failed."),
    ("verdict=perhaps", "verdict", "Choose one of: Drift, No drift, Unknown."),
    ("since=yesterday", "since", "Write a time in UTC, such as"),
    ("until=2026-02-30", "until", "Write a time in UTC, such as"),
    ("model=a%00b", "model", "NUL"),
    ("filter={a: 1}", "filter", "This is not valid JSON (line 1, column 2). Names and texts need double quotes."),
    ("filter=[]", "filter", "A filter is a JSON object."),
    ("filter=" + "[" * 4000, "filter", "nested deeper than 50 levels"),
    ('filter={"a":"' + "x" * 4000 + '"}', "filter", "at most 4,000 characters"),
    ('filter={"parameters.p":{"$gt":1e999}}', "filter", "A number must be finite."),
    ('filter={"parameters.p":"\\u0000"}', "filter", "NUL"),
    ('filter={"parameters.p":1,"parameters.p":2}', "filter", 'The name "parameters.p" stands twice.'),
    ('filter={"parameters.p":{"$in":[1,NaN]}}', "filter", "parameters.p.$in.1: NaN is not a JSON number."),
    ('filter={"$where":"1"}', "filter", "$where is not allowed"),
    ('filter={"parameters.p":{"$where":"1"}}', "filter", "parameters.p.$where: $where is not allowed here."),
]


def form_of(found: RunFilter) -> str:
    suggestions = Suggestions({}, {}, {}, runs=0, large=0)
    return render_to_string("pages/run_filter.html", {"filter": found, "suggestions": suggestions})


def of(query: str) -> RunFilter:
    return RunFilter.of(QueryDict(query.replace("+", "%2B")))


@pytest.mark.parametrize(("condition", "meaning"), EXPRESSIONS, ids=[text for text, _ in EXPRESSIONS])
def test_a_condition_is_translated_to_a_filter(condition: str, meaning: Any) -> None:
    found = RunFilter.of(QueryDict(urlencode({"where": condition})))
    assert not found.errors
    assert found.match == translate({"$and": [meaning]}, FIELDS)


@pytest.mark.parametrize(("query", "control", "sentence"), WRONG, ids=[row[0][:60] for row in WRONG])
def test_an_invalid_part_is_reported_beside_its_control_and_finds_nothing(
    drift: Drift, query: str, control: str, sentence: str
) -> None:
    found = of(query)
    refused = found.conditions[0] if control == "where" else found.controls[control]
    assert sentence in refused.error
    assert [error.partition(": ")[2] for error in found.errors] == [refused.error]
    assert not Drift.objects.matching(found.match).exists()
    shown = form_of(found)
    assert shown.count('class="error"') == 1


def test_a_filter_is_described_in_the_words_of_the_form() -> None:
    query = "since=2026-10-01&verdict=no_drift&where=parameters.p lt 0.05&where=tags exists false&where=nonsense"
    assert of(f"{query}&filter={{}}&patient=1").words == [
        *("Verdict: No drift", "Since: 2026-10-01", "{}"),
        *("parameters.p less than 0.05", "tags is not set", "nonsense", "Search longer"),
    ]


def test_every_control_narrows_the_filter(experiment: Experiment) -> None:
    named = {"model": "forest", "model_version": "2", "detector": "ks", "environment": "lab", "feature": "age"}
    other = dict.fromkeys(named, "other")
    wanted = Drift.objects.create_in(experiment, job_status="Failed", tags=["a"], parameters={"p": 1}, **named)
    Drift.objects.create_in(experiment, job_status="Completed", tags=["b"], parameters={"p": 2}, **other)
    wanted.update(observed_at=datetime.datetime(2025, 7, 1, 6, tzinfo=datetime.UTC))
    for query in [
        *(f"{name}={value}" for name, value in named.items()),
        *("status=Failed", "verdict=unknown", "tag=a", "where=parameters.p lt 2", "path=parameters.p&op=eq&value=1"),
        'filter={"parameters":{"p":1}}',
        "since=2025-07-01 06:00&until=2025-07-02",
    ]:
        found = RunFilter.of(QueryDict(query))
        assert not found.errors
        assert list(Drift.objects.matching(found.match)) == [wanted], query
    assert not Drift.objects.matching(of("until=2020-01-01").match).exists()


def test_an_empty_form_finds_everything(drift: Drift) -> None:
    found = of("status=&verdict=&model=&tag=&since=&until=&where=&where= &path=&op=eq&value=&filter=")
    assert (found.match, found.pairs, found.errors) == ({}, [], [])


def test_an_added_condition_joins_the_existing_ones() -> None:
    found = of("where=parameters.a eq 1&path=parameters.b&op=contains&value=x y&model=forest")
    assert found.pairs == [
        ("model", "forest"),
        ("where", "parameters.a eq 1"),
        ("where", "parameters.b contains x y"),
    ]
    assert RunFilter.of(QueryDict(found.query)) == found


NAMES = ["rate gt mean", " p ", "a eq", "eq 1", '"', '"a" eq 1', "exists", "a\\", r"a\.b", "x\ny lt 3", "é\u2028"]


@pytest.mark.parametrize("operator", ["gt", "exists", "contains"])
@pytest.mark.parametrize("name", NAMES)
def test_a_condition_from_three_controls_keeps_its_path_operator_and_value_apart(name: str, operator: str) -> None:
    parts = {"path": f"parameters.{name}", "op": operator, "value": "true"}
    found = RunFilter.of(QueryDict(urlencode(parts)))
    (condition,) = found.conditions
    assert (condition.path, condition.operator, condition.value) == (*parts.values(),)
    assert (condition.error, RunFilter.of(QueryDict(found.query))) == ("", found)
    shown = BeautifulSoup(form_of(found), "html.parser")
    assert [shown.select("input[name=path]")[0]["value"], shown.select("input[name=value]")[0]["value"]] == [
        parts["path"],
        "true",
    ]
    assert shown.select("option[selected]")[0]["value"] == operator


def test_a_form_holds_several_conditions() -> None:
    typed = "path=parameters.a&op=lt&value=1&path=parameters.b&op=exists&value=&path=&op=eq&value="
    assert of(typed).pairs == [("where", "parameters.a lt 1"), ("where", "parameters.b exists")]


def test_the_number_of_conditions_is_limited() -> None:
    found = of("&".join(["where=parameters.a eq 1"] * (MAX_CONDITIONS + 1)))
    assert found.errors == ["Filter 21: At most 20 filters can be added. Write the others as JSON."]
    many = json.dumps({"$or": [{"model": str(number)} for number in range(60)]})
    assert of(f"filter={many}").errors == []
    assert "at most 100 clauses" in of(f"filter={many}&" + "&".join(["where=parameters.a eq 1"] * 20)).errors[0]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{name: st.text() for name in [*of("").controls, "value"]},
            "path": st.text() | st.builds("parameters.{}{}".format, st.text(), st.sampled_from(["", " lt 3", ' "'])),
            "op": st.sampled_from(list(OPERATORS)) | st.text(),
            "where": st.text()
            | st.builds(
                "{} {} {}".format,
                st.sampled_from([*FIELDS, "parameters.a", "parameters.a.0"]),
                st.sampled_from(list(OPERATORS)),
                st.text() | st.floats().map(str) | st.integers().map(str) | st.booleans().map(json.dumps),
            ),
        },
    )
)
@reproducible
def test_any_address_gives_a_valid_filter_or_a_message(typed: dict[str, str]) -> None:
    query = QueryDict(mutable=True)
    query.update(typed)
    found = RunFilter.of(query)
    assert RunFilter.of(QueryDict(found.query)).errors == found.errors
    list(Drift.objects.matching(found.match)[:1])
    form_of(found)
