"""The filter language: refusals with their paths, accepted filters with their translation, and the same results as
MongoDB.
"""

import datetime
import json
import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.filters import FilterError, translate
from core.filters.fields import MAX_MATCHED, ObjectListField
from core.mongodb.documents import mongodb
from core.mongodb.match import Mql
from drifts.models import Drift
from drifts.verdict import MATCHES
from drifts.views import FIELDS as DRIFT_FIELDS
from experiments.models import Experiment
from experiments.views import PERMISSION_FIELDS
from tests.filter_pairs import COMPARISONS, IDS, LOGICAL, Pair, pairs, random_runs, reproducible

# Only documents that name this entity show their permissions.
GUARD: Mql = {"permissions.entity": {"$in": ["me"]}}


def fields_behind(guard: Mql) -> dict[str, Any]:
    """At least one field of each kind."""
    return {**DRIFT_FIELDS, "permissions": ObjectListField("permissions", PERMISSION_FIELDS, guard)}


FIELDS = fields_behind(GUARD)


def table(*rows: tuple[Any, ...]) -> list[Any]:
    """Rows for `parametrize`, each named after the beginning of its filter."""
    return [pytest.param(*row, id=json.dumps(row[0])[:80]) for row in rows]


def refusal(document: Any) -> FilterError:
    with pytest.raises(FilterError) as refused:
        translate(document, FIELDS)
    return refused.value


# Refused filters.

FORBIDDEN = (
    # Code, other collections, other languages, and operators without use here.
    *("$where", "$expr", "$function", "$accumulator", "$lookup", "$out", "$text", "$jsonSchema", "$comment", "$rand"),
    *("$natural", "$slice", "$query", "$near", "$geoWithin", "$bitsAllSet", "$_internalExprEq"),
    # Extended JSON.
    *("$oid", "$regularExpression"),
    # Misspellings.
    *("$", "$$where", "$ where", "$Where", "$EQ", "$eq ", "$eq.a"),
)
PLACES = {
    "at the top": ("{0}", "{{{1}: 1}}"),
    "beside a field": ("{0}", '{{"model": "forest", {1}: 1}}'),
    "in $and": ("$and.1.{0}", '{{"$and": [{{}}, {{{1}: 1}}]}}'),
    "in $or": ("$or.0.{0}", '{{"$or": [{{{1}: 1}}]}}'),
    "in $nor in $or": ("$or.0.$nor.0.{0}", '{{"$or": [{{"$nor": [{{{1}: 1}}]}}]}}'),
    "on a field": ("model.{0}", '{{"model": {{{1}: 1}}}}'),
    "on a free path": ("parameters.a.{0}", '{{"parameters.a": {{{1}: 1}}}}'),
    "beside an operator": ("parameters.a.{0}", '{{"parameters.a": {{"$gt": 1, {1}: 1}}}}'),
    "in $not": ("parameters.a.$not.{0}", '{{"parameters.a": {{"$not": {{{1}: 1}}}}}}'),
    "in $elemMatch of strings": ("tags.$elemMatch.{0}", '{{"tags": {{"$elemMatch": {{{1}: 1}}}}}}'),
    "in $elemMatch of values": ("parameters.a.$elemMatch.{0}", '{{"parameters.a": {{"$elemMatch": {{{1}: 1}}}}}}'),
    "in $elemMatch of objects": (
        "parameters.a.$elemMatch.b.{0}",
        '{{"parameters.a": {{"$elemMatch": {{"b": {{{1}: 1}}}}}}}}',
    ),
    "beside a name in $elemMatch": (
        "parameters.a.$elemMatch.{0}",
        '{{"parameters.a": {{"$elemMatch": {{"b": 1, {1}: 1}}}}}}',
    ),
    "on permissions": ("permissions.{0}", '{{"permissions": {{{1}: 1}}}}'),
    "on a part of permissions": ("permissions.level.{0}", '{{"permissions.level": {{{1}: 1}}}}'),
    "in $elemMatch of permissions": ("permissions.$elemMatch.{0}", '{{"permissions": {{"$elemMatch": {{{1}: 1}}}}}}'),
    "in a value": ("parameters", '{{"parameters": {{"a": {{{1}: 1}}}}}}'),
    "in a value beside a name": ("parameters.a", '{{"parameters.a": {{"b": 1, {1}: 1}}}}'),
    "in a value of $eq": ("parameters.a.$eq", '{{"parameters.a": {{"$eq": {{{1}: 1}}}}}}'),
    "in a value of $in": ("parameters.a.$in.1", '{{"parameters.a": {{"$in": [0, {{{1}: 1}}]}}}}'),
    "in a list in a value": ("parameters.a", '{{"parameters.a": [[{{"b": {{{1}: 1}}}}]]}}'),
}


@pytest.mark.parametrize(("path", "template"), PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("operator", FORBIDDEN)
def test_an_unknown_operator_is_refused_by_name_at_any_place(operator: str, path: str, template: str) -> None:
    error = refusal(json.loads(template.format(operator, json.dumps(operator))))
    assert error.path == path.format(operator)
    assert f"{operator} is not allowed" in error.problem


NOT_A_FIELD = "Unknown field"
NOT_A_PATH = "Write names separated by single dots"
TOO_DEEP = "deeper than 10 levels"
TOO_MANY = "at most 100 clauses"


def nested_or(levels: int) -> Mql:
    return {"$or": [nested_or(levels - 1)]} if levels else {"model": "forest"}


def nested_not(levels: int) -> Mql:
    return {"$not": nested_not(levels - 1)} if levels else {"$gt": 1}


def nested_element(levels: int) -> Mql:
    return {"a": {"$elemMatch": nested_element(levels - 1)}} if levels else {"a": 1}


def models(count: int) -> Mql:
    return {"$or": [{"model": str(number)} for number in range(count)]}


BOUNDS = {
    "depth of $or": ({"$or": [nested_or(10)]}, ".".join(["$or.0"] * 11), TOO_DEEP),
    "depth of $not": ({"parameters.a": nested_not(11)}, "parameters.a" + ".$not" * 11, TOO_DEEP),
    "depth of $elemMatch": (
        {"parameters.a": {"$elemMatch": nested_element(10)}},
        "parameters.a.$elemMatch" + ".a.$elemMatch" * 10,
        TOO_DEEP,
    ),
    "clauses": (models(100), "$or.99.model", TOO_MANY),
    "operators": ({"$or": [{"parameters.a": {"$gt": 1}}] * 50}, "$or.49.parameters.a.$gt", TOO_MANY),
    "values of $all": ({"tags": {"$all": ["a"] * 99}}, "tags.$all", TOO_MANY),
    "values in a list": ({"model": {"$in": ["a"] * 1001}}, "model.$in", "at most 1000"),
    "regular expressions": (
        {"$or": [{"model": {"$regex": "a"}}] * 11},
        "$or.10.model.$regex",
        "at most 10 regular expressions",
    ),
    "length of a pattern": ({"model": {"$regex": "a" * 201}}, "model.$regex", "at most 200 characters"),
    "length of a path": ({"parameters." + "a" * 240: 1}, "parameters." + "a" * 240, "250 characters at most"),
}
WITHIN_BOUNDS = {
    "depth of $or": nested_or(10),
    "depth of $not": {"parameters.a": nested_not(10)},
    "depth of $elemMatch": {"parameters.a": {"$elemMatch": nested_element(9)}},
    "clauses": models(99),
    "operators": {"$or": [{"parameters.a": {"$gt": 1}}] * 49},
    "values of $all": {"tags": {"$all": ["a"] * 98}},
    "values in a list": {"model": {"$in": ["a"] * 1000}},
    "regular expressions": {"$or": [{"parameters.a": {"$regex": "a"}}] * 10},
    "length of a pattern": {"model": {"$regex": "a" * 200}},
    "length of a path": {"parameters." + "a" * 239: 1},
    "names in a path": {"parameters" + ".a" * 120: 1},
}


@pytest.mark.parametrize(("document", "path", "words"), BOUNDS.values(), ids=BOUNDS.keys())
def test_a_filter_beyond_a_limit_is_refused(document: Any, path: str, words: str) -> None:
    error = refusal(document)
    assert (error.path, words in error.problem) == (path, True), error


@pytest.mark.parametrize("document", WITHIN_BOUNDS.values(), ids=WITHIN_BOUNDS.keys())
def test_mongodb_evaluates_a_filter_at_a_limit(document: Any) -> None:
    assert list(Drift.objects.matching(translate(document, FIELDS))) == []


@pytest.mark.parametrize(
    ("document", "path", "words"),
    table(
        # A filter is an object.
        (None, "", "JSON object"),
        ([], "", "JSON object"),
        ("model", "", "JSON object"),
        (1, "", "JSON object"),
        ({"$or": ["model"]}, "$or.0", "JSON object"),
        # Logical operators.
        ({"$or": []}, "$or", "at least one filter"),
        ({"$and": {}}, "$and", "at least one filter"),
        ({"$and": {"model": "forest"}}, "$and", "at least one filter"),
        ({"$nor": None}, "$nor", "at least one filter"),
        ({"$not": {"model": "forest"}}, "$not", "$not is not allowed"),
        ({"model": {"$or": [{"$eq": "forest"}]}}, "model.$or", "$or is not allowed"),
        ({"$eq": "forest"}, "$eq", "$eq is not allowed"),
        # Names.
        ({"": 1}, "", NOT_A_FIELD),
        ({"colour": 1}, "colour", NOT_A_FIELD),
        ({"Model": "forest"}, "Model", NOT_A_FIELD),
        ({"model ": "forest"}, "model ", NOT_A_FIELD),
        ({" $where": "1"}, " $where", NOT_A_FIELD),
        ({"\uff04where": "1"}, "\uff04where", NOT_A_FIELD),
        ({"experiment": "a"}, "experiment", NOT_A_FIELD),
        ({"pk": "a"}, "pk", NOT_A_FIELD),
        ({"model__in": ["a"]}, "model__in", NOT_A_FIELD),
        ({"model.name": "a"}, "model.name", "no such part"),
        ({"model.": "a"}, "model.", "no such part"),
        ({"tags.0": "a"}, "tags.0", "no such part"),
        ({"verdict.": "drift"}, "verdict.", "no such part"),
        ({"permissions.": {"$size": 0}}, "permissions.", "no such part"),
        ({"permissions.0": {}}, "permissions.0", "no such part"),
        ({"permissions.0.entity": "a"}, "permissions.0.entity", "no such part"),
        ({"permissions.entity.a": "a"}, "permissions.entity.a", "no such part"),
        ({"permissions.$entity": "a"}, "permissions.$entity", "no such part"),
        ({"permissions": {"$elemMatch": {"model": "a"}}}, "permissions.$elemMatch.model", NOT_A_FIELD),
        ({".model": "a"}, ".model", NOT_A_FIELD),
        # Paths.
        ({"parameters.": 1}, "parameters.", NOT_A_PATH),
        ({"parameters..a": 1}, "parameters..a", NOT_A_PATH),
        ({"parameters.a.": 1}, "parameters.a.", NOT_A_PATH),
        ({"parameters.$where": "1"}, "parameters.$where", NOT_A_PATH),
        ({"parameters.a.$": "1"}, "parameters.a.$", NOT_A_PATH),
        ({"parameters.a": {"$elemMatch": {"b.$expr": 1}}}, "parameters.a.$elemMatch.b.$expr", NOT_A_PATH),
        ({"parameters.a": {"$elemMatch": {"": 1}}}, "parameters.a.$elemMatch.", NOT_A_PATH),
        # Values of a field's kind.
        ({"model": 1}, "model", "a string"),
        ({"model": ["forest"]}, "model", "a string"),
        ({"model": {}}, "model", "a string"),
        ({"model": {" $where": "1"}}, "model", "a string"),
        ({"model": {"$gt": True}}, "model.$gt", "a string"),
        ({"model": {"$in": ["forest", 1]}}, "model.$in.1", "a string"),
        ({"drift_detected": "true"}, "drift_detected", "true or false"),
        ({"drift_detected": 1}, "drift_detected", "true or false"),
        ({"id": "1"}, "id", "a UUID"),
        ({"_id": 1}, "_id", "a UUID"),
        ({"_id": {"$in": [["1"]]}}, "_id.$in.0", "a UUID"),
        ({"experiment_id": {"$gt": {}}}, "experiment_id.$gt", "a UUID"),
        ({"created_at": "yesterday"}, "created_at", "a time"),
        ({"created_at": "2026-02-30"}, "created_at", "a time"),
        ({"created_at": 0}, "created_at", "a time"),
        ({"created_at": {"$gt": ["2026-01-01"]}}, "created_at.$gt", "a time"),
        ({"created_at": {"$lt": "0001-01-01T00:00:00+14:00"}}, "created_at.$lt", "a time"),
        ({"updated_at": {"$not": {"$lt": ""}}}, "updated_at.$not.$lt", "a time"),
        ({"tags": [1]}, "tags", "a list of strings"),
        ({"tags": {"$all": ["a", {}]}}, "tags.$all.1", "a list of strings"),
        ({"tags": {"$elemMatch": {"$eq": 1}}}, "tags.$elemMatch.$eq", "a string"),
        ({"verdict": "Drift"}, "verdict", "drift, no_drift, unknown"),
        ({"verdict": None}, "verdict", "drift, no_drift, unknown"),
        ({"verdict": ["drift"]}, "verdict", "drift, no_drift, unknown"),
        ({"verdict": {"$in": ["drift", True]}}, "verdict.$in.1", "drift, no_drift, unknown"),
        ({"permissions": []}, "permissions", "Compare the parts of this field"),
        ({"permissions.level": 1}, "permissions.level", "a string"),
        # Operators of a field's kind.
        ({"model": {"$size": 1}}, "model.$size", "$size is not allowed here"),
        ({"model": {"$mod": [2, 0]}}, "model.$mod", "$mod is not allowed here"),
        ({"drift_detected": {"$regex": "t"}}, "drift_detected.$regex", "$regex is not allowed here"),
        ({"created_at": {"$regex": "2026"}}, "created_at.$regex", "$regex is not allowed here"),
        ({"id": {"$regex": "^0"}}, "id.$regex", "$regex is not allowed here"),
        ({"tags": {"$elemMatch": {"$size": 1}}}, "tags.$elemMatch.$size", "$size is not allowed here"),
        ({"verdict": {"$gt": "drift"}}, "verdict.$gt", "$gt is not allowed here"),
        ({"verdict": {"$exists": True}}, "verdict.$exists", "$exists is not allowed here"),
        ({"verdict": {"$not": {"$eq": "drift"}}}, "verdict.$not", "$not is not allowed here"),
        ({"permissions": {"$eq": []}}, "permissions.$eq", "$eq is not allowed here"),
        ({"permissions": {"$not": {"$size": 0}}}, "permissions.$not", "$not is not allowed here"),
        ({"permissions": {"$elemMatch": {"$eq": 1}}}, "permissions.$elemMatch.$eq", "$eq is not allowed"),
        # Operands.
        ({"model": {"$in": "forest"}}, "model.$in", "a list"),
        ({"parameters.a": {"$nin": {"b": 1}}}, "parameters.a.$nin", "a list"),
        ({"tags": {"$all": None}}, "tags.$all", "a list"),
        ({"model": {"$exists": 1}}, "model.$exists", "true or false"),
        ({"tags": {"$size": -1}}, "tags.$size", "a number of elements"),
        ({"tags": {"$size": 1.5}}, "tags.$size", "a number of elements"),
        ({"tags": {"$size": True}}, "tags.$size", "a number of elements"),
        ({"tags": {"$size": 2**31}}, "tags.$size", "a number of elements"),
        ({"parameters.a": {"$type": "javascript"}}, "parameters.a.$type", "one or a list of"),
        ({"parameters.a": {"$type": 2}}, "parameters.a.$type", "one or a list of"),
        ({"parameters.a": {"$type": []}}, "parameters.a.$type", "one or a list of"),
        ({"parameters.a": {"$type": [["int"]]}}, "parameters.a.$type", "one or a list of"),
        ({"parameters.a": {"$mod": 2}}, "parameters.a.$mod", "[divisor, remainder]"),
        ({"parameters.a": {"$mod": [2]}}, "parameters.a.$mod", "[divisor, remainder]"),
        ({"parameters.a": {"$mod": [0, 1]}}, "parameters.a.$mod", "[divisor, remainder]"),
        ({"parameters.a": {"$mod": [2.5, 1]}}, "parameters.a.$mod", "[divisor, remainder]"),
        ({"parameters.a": {"$mod": [True, 1]}}, "parameters.a.$mod", "[divisor, remainder]"),
        ({"model": {"$regex": 1}}, "model.$regex", "a regular expression"),
        ({"model": {"$regex": ""}}, "model.$regex", "a regular expression"),
        ({"model": {"$regex": {"$regex": "a"}}}, "model.$regex", "a regular expression"),
        ({"model": {"$options": "i"}}, "model.$options", "goes with $regex"),
        ({"model": {"$not": {"$options": "i"}}}, "model.$not.$options", "goes with $regex"),
        ({"model": {"$regex": "a", "$options": "g"}}, "model.$options", "letters i, m, s and x"),
        ({"model": {"$regex": "a", "$options": "ii"}}, "model.$options", "letters i, m, s and x"),
        ({"model": {"$regex": "a", "$options": ["i"]}}, "model.$options", "letters i, m, s and x"),
        ({"model": {"$not": "forest"}}, "model.$not", "takes operators"),
        ({"model": {"$not": {}}}, "model.$not", "takes operators"),
        ({"parameters.a": {"$not": {"b": 1}}}, "parameters.a.$not", "takes operators"),
        ({"parameters.a": {"$elemMatch": 1}}, "parameters.a.$elemMatch", "takes operators or a filter"),
        ({"parameters.a": {"$elemMatch": {}}}, "parameters.a.$elemMatch", "takes operators or a filter"),
        ({"tags": {"$elemMatch": {"a": 1}}}, "tags.$elemMatch", "takes operators here"),
        ({"tags": {"$elemMatch": {"$or": [{"$eq": "a"}]}}}, "tags.$elemMatch", "takes operators here"),
        # An object that mixes operators and names is a value, and values must not contain operators.
        ({"parameters.a": {"$gt": 1, "b": 1}}, "parameters.a", "$gt is not allowed inside a value"),
        ({"parameters.a": {"$all": [{"$elemMatch": {"b": 1}}]}}, "parameters.a.$all.0", "$elemMatch is not allowed"),
    ),
)
def test_an_invalid_filter_is_refused_with_its_path(document: Any, path: str, words: str) -> None:
    error = refusal(document)
    assert (error.path, words in error.problem) == (path, True), error


def test_a_refusal_reads_as_a_path_and_a_sentence() -> None:
    assert str(refusal({"$or": [{"$where": "sleep(1000)"}]})).startswith("$or.0.$where: $where is not allowed.")


# Accepted filters and their translation.

ID = uuid.UUID("6f1d5c3e-8a4b-4c2d-9e0f-1a2b3c4d5e6f")
NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("document", "translated"),
    table(
        ({}, {}),
        ({"model": "forest"}, {"model": {"$eq": "forest"}}),
        ({"model": None}, {"model": {"$eq": None}}),
        (
            {"model": "forest", "drift_detected": {"$ne": False}},
            {"$and": [{"model": {"$eq": "forest"}}, {"drift_detected": {"$ne": False}}]},
        ),
        ({"$and": [{}]}, {"$and": [{}]}),
        ({"$nor": [{"model": {"$in": []}}]}, {"$nor": [{"model": {"$in": []}}]}),
        ({"model": {"$regex": "^f", "$options": "im"}}, {"model": {"$regex": "^f", "$options": "im"}}),
        (
            {"model": {"$not": {"$not": {"$regex": "^f"}}}},
            {"model": {"$not": {"$not": {"$regex": "^f"}}}},
        ),
        ({"detector": {"$exists": False}}, {"detector": {"$exists": False}}),
        ({"tags": ["a", "b"]}, {"tags": {"$eq": ["a", "b"]}}),
        ({"tags": {"$elemMatch": {"$gt": "a", "$ne": "b"}}}, {"tags": {"$elemMatch": {"$gt": "a", "$ne": "b"}}}),
        ({"parameters": {}}, {"parameters": {"$eq": {}}}),
        ({"parameters.a.0.b": 1}, {"parameters.a.0.b": {"$eq": 1}}),
        ({"parameters.a": {"b.c": [{}]}}, {"parameters.a": {"$eq": {"b.c": [{}]}}}),
        ({"parameters.a": "$model"}, {"parameters.a": {"$eq": "$model"}}),
        ({"parameters.a": {" $where": "1"}}, {"parameters.a": {"$eq": {" $where": "1"}}}),
        ({"parameters.a": {"$type": ["int", "null"]}}, {"parameters.a": {"$type": ["int", "null"]}}),
        ({"parameters.a": {"$mod": [-4, 0]}}, {"parameters.a": {"$mod": [-4, 0]}}),
        (
            {"parameters.a": {"$elemMatch": {"id": "1", "b.c": {"$gt": 1}}}},
            {"parameters.a": {"$elemMatch": {"$and": [{"id": {"$eq": "1"}}, {"b.c": {"$gt": 1}}]}}},
        ),
        (
            {"parameters.a": {"$elemMatch": {"$or": [{"b": 1}]}}},
            {"parameters.a": {"$elemMatch": {"$or": [{"b": {"$eq": 1}}]}}},
        ),
    ),
)
def test_a_filter_is_translated_to_columns_and_operators(document: Any, translated: Mql) -> None:
    assert translate(document, FIELDS) == translated


@pytest.mark.parametrize("name", ["id", "_id", "experiment_id"])
@pytest.mark.parametrize("text", [str(ID), ID.hex, str(ID).upper(), ID.urn])
def test_an_id_is_compared_as_it_is_stored(name: str, text: str) -> None:
    column = name if name == "experiment_id" else "_id"
    assert translate({name: text}, FIELDS) == {column: {"$eq": ID.hex}}
    assert translate({name: {"$nin": [text, None]}}, FIELDS) == {column: {"$nin": [ID.hex, None]}}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31t13:00:00+01:00", NOON),
        ("2026-01-31T12:00:00", NOON),
        ("2026-01-31 12:00:00.000+00:00", NOON),
        ("2026-01-31T17:30:00+05:30", NOON),
        ("2026-01-31T04:00:00-08:00", NOON),
        ("2026-01-31T12:00:00.250Z", NOON.replace(microsecond=250_000)),
        ("2026-01-31", NOON.replace(hour=0)),
        (None, None),
    ],
)
def test_a_date_string_is_compared_as_a_time(text: str | None, time: datetime.datetime | None) -> None:
    document = {"created_at": {"$gte": text}, "updated_at": {"$not": {"$in": [text]}}}
    assert translate(document, FIELDS) == {
        "$and": [{"created_at": {"$gte": time}}, {"updated_at": {"$not": {"$in": [time]}}}]
    }


@pytest.mark.parametrize(
    ("pattern", "options"), [("a", ""), ("x|B$", "i"), ("^a|^z", "m"), ("(?i)A", ""), ("a.*$", "s")]
)
def test_a_regex_is_matched_only_against_strings_of_limited_length(pattern: str, options: str) -> None:
    Experiment.objects.create(id=ID, name="texts")
    longest = "a" * (MAX_MATCHED - 1) + "b"
    for text in (longest, longest + "b", ["z" * 2 * MAX_MATCHED, "ab"], "c"):
        Drift.objects.create(experiment_id=ID, job_status="Running", model="forest", parameters={"text": text})
    condition = {"$regex": pattern, "$options": options}
    found = Drift.objects.matching(translate({"parameters.text": condition}, FIELDS))
    assert sorted(len(run.parameters["text"]) for run in found) == [2, MAX_MATCHED]


def test_a_date_string_stays_a_string_in_the_parameters() -> None:
    assert translate({"parameters.start": "2026-01-31"}, FIELDS) == {"parameters.start": {"$eq": "2026-01-31"}}


DRIFT, NO_DRIFT, UNKNOWN = (MATCHES[verdict] for verdict in ("drift", "no_drift", "unknown"))


@pytest.mark.parametrize(
    ("condition", "matches"),
    table(
        ("drift", [{"$or": [DRIFT]}]),
        ({"$eq": "no_drift"}, [{"$or": [NO_DRIFT]}]),
        ({"$in": ["drift", "unknown"]}, [{"$or": [DRIFT, UNKNOWN]}]),
        ({"$in": []}, [{"$nor": [{}]}]),
        ({"$ne": "drift"}, [{"$nor": [DRIFT]}]),
        ({"$nin": ["drift", "no_drift"]}, [{"$nor": [DRIFT, NO_DRIFT]}]),
        ({"$nin": []}, [{}]),
        ({"$ne": "drift", "$in": ["no_drift"]}, [{"$nor": [DRIFT]}, {"$or": [NO_DRIFT]}]),
    ),
)
def test_a_verdict_is_translated_to_its_match_document(condition: Any, matches: list[Mql]) -> None:
    assert translate({"verdict": condition}, FIELDS) == {"$and": matches}


@pytest.mark.parametrize(
    ("document", "leaf"),
    table(
        ({"permissions.entity": "you"}, {"permissions.entity": {"$eq": "you"}}),
        ({"permissions.level": {"$ne": "Manage"}}, {"permissions.level": {"$ne": "Manage"}}),
        ({"permissions": {"$size": 2}}, {"permissions": {"$size": 2}}),
        ({"permissions": {"$exists": False}}, {"permissions": {"$exists": False}}),
        (
            {"permissions": {"$elemMatch": {"entity": "you", "level": "Read"}}},
            {"permissions": {"$elemMatch": {"$and": [{"entity": {"$eq": "you"}}, {"level": {"$eq": "Read"}}]}}},
        ),
    ),
)
def test_every_condition_on_permissions_is_guarded(document: Any, leaf: Mql) -> None:
    assert translate(document, FIELDS) == {"$and": [GUARD, leaf]}
    assert translate({"$nor": [document]}, FIELDS) == {"$nor": [{"$and": [GUARD, leaf]}]}


def test_callers_who_see_all_permissions_need_no_guard() -> None:
    assert translate({"permissions": {"$size": 2}}, fields_behind({})) == {"permissions": {"$size": 2}}


# Properties of every filter.

LEAVES = (*COMPARISONS, "$in", "$nin", "$all", "$exists", "$type", "$size", "$mod", "$regex", "$options")
NESTING = ("$not", "$elemMatch")

SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "i", "int", "drift", "$model", str(ID), "2026-01-31", "9999-12-31T23:59:59-14:00"])
    | st.text(max_size=4)
)
FIELD_NAMES = st.sampled_from([*FIELDS, "permissions.entity", "parameters.a", "parameters.a.b"])
OPERATOR_NAMES = st.sampled_from([*LOGICAL, *NESTING, *LEAVES])
KEYS = FIELD_NAMES | OPERATOR_NAMES | st.sampled_from(FORBIDDEN) | st.text(max_size=4)
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=10
)


def almost_filters() -> st.SearchStrategy[Any]:
    """JSON that is a valid filter often enough to test accepted filters too."""
    operands = SCALARS | st.lists(SCALARS, max_size=2) | ANY_JSON
    conditions = st.recursive(
        st.dictionaries(st.sampled_from(LEAVES), operands, min_size=1, max_size=2),
        lambda inner: st.dictionaries(st.sampled_from(NESTING), inner, min_size=1),
        max_leaves=2,
    )
    return st.recursive(
        st.dictionaries(FIELD_NAMES, conditions | SCALARS | ANY_JSON, max_size=2),
        lambda inner: st.dictionaries(st.sampled_from(LOGICAL), st.lists(inner, min_size=1, max_size=2), min_size=1),
        max_leaves=3,
    )


def assert_filter(document: Mql, columns: set[str] | None) -> None:
    """Require that a match document follows the grammar over these columns; None stands for the columns inside a free
    value.
    """
    for name, value in document.items():
        if name in LOGICAL:
            for part in value:
                assert_filter(part, columns)
            continue
        assert not any(part.startswith("$") for part in name.split(".")), name
        assert columns is None or name.split(".")[0] in columns, name
        assert_conditions(value)


def assert_conditions(conditions: Any) -> None:
    """Require a plain value, or operators of the grammar, under a name."""
    if not isinstance(conditions, dict):
        return
    for operator, operand in conditions.items():
        if operator == "$not" or (operator == "$elemMatch" and operand.keys() <= {*LEAVES, *NESTING}):
            assert_conditions(operand)
        elif operator == "$elemMatch":
            assert_filter(operand, None)
        else:
            assert operator in LEAVES
            assert not [key for key in keys_in(operand) if key.startswith("$")]


def keys_in(value: Any) -> Iterator[str]:
    """The keys of all objects in a JSON value."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from keys_in(item)


@settings(reproducible, max_examples=400)
@given(ANY_JSON | almost_filters())
def test_any_json_is_refused_or_becomes_a_filter_of_the_grammar(document: Any) -> None:
    try:
        translated = translate(document, FIELDS)
    except FilterError:
        return
    assert_filter(translated, {field.column for field in FIELDS.values()})


@pytest.fixture
def runs() -> None:
    Experiment.objects.create(id=ID, name="random")
    Drift.objects.bulk_create(random_runs(random.Random(2026), len(IDS), [ID]))  # noqa: S311


@pytest.mark.usefixtures("runs")
@settings(reproducible, max_examples=400)
@given(pairs())
def test_a_filter_finds_the_same_runs_as_the_plain_query(pair: Pair) -> None:
    document, plain = pair
    found = Drift.objects.matching(translate(document, FIELDS)).values_list("pk", flat=True)
    expected = mongodb().database[Drift._meta.db_table].find(plain, {"_id": 1})
    assert {key.hex for key in found} == {document["_id"] for document in expected}
