"""Invalid requests, sent by mistake or on purpose: each refusal helps the client, and changes nothing."""

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest

from accounts.models import User
from core.api.json_input import REPEATED
from core.mongodb.documents import mongodb
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN, purge_in_background

NDJSON = "application/x-ndjson"
NOBODY = "00000000-0000-4000-8000-000000000000"
SURROGATE = "\ud800"
BODY_LIMIT = 2_000_000
INT64 = 2**63


@dataclass(frozen=True)
class Endpoint:
    method: str
    path: str
    good: dict[str, Any]


CREATE_EXPERIMENT = Endpoint("POST", "/experiment", {"name": "beer"})
REPLACE_EXPERIMENT = Endpoint("PUT", "/experiment/{experiment}", {"name": "beer"})
CHANGE_EXPERIMENT = Endpoint("PATCH", "/experiment/{experiment}", {})
CREATE_RUN = Endpoint("POST", "/experiment/{experiment}/drift", RUN)
REPLACE_RUN = Endpoint("PUT", "/experiment/{experiment}/drift/{drift}", RUN)
CHANGE_RUN = Endpoint("PATCH", "/experiment/{experiment}/drift/{drift}", {})
SEARCH_EXPERIMENTS = Endpoint("POST", "/experiment/search", {})
SEARCH_RUNS = Endpoint("POST", "/experiment/{experiment}/drift/search", {})
SEARCH_USERS = Endpoint("POST", "/user/search", {})

WRITE_EXPERIMENT = (CREATE_EXPERIMENT, REPLACE_EXPERIMENT, CHANGE_EXPERIMENT)
WRITE_RUN = (CREATE_RUN, REPLACE_RUN, CHANGE_RUN)
WRITE = (*WRITE_EXPERIMENT, *WRITE_RUN)
SEARCH = (SEARCH_EXPERIMENTS, SEARCH_RUNS, SEARCH_USERS)


def name_of(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


class Sender:
    """An administrator, who has every permission, so that the request itself is the only reason for a refusal."""

    def __init__(self, admin: Caller, drift: Drift) -> None:
        self.caller = admin
        self.ids: dict[str, Any] = {"experiment": drift.experiment_id, "drift": drift.id}

    def send(self, endpoint: Endpoint, body: Any, query: str = "", **options: Any) -> Any:
        path = endpoint.path.format(**self.ids) + query
        return self.caller.request(endpoint.method, path, body, **options)

    def refused(self, status: int, endpoint: Endpoint, body: Any, query: str = "", **options: Any) -> dict[str, Any]:
        """Require a refusal with that status that helps the client and changes nothing, and return it."""
        before = everything_stored()
        response = self.send(endpoint, body, query, **options)
        problem = refusal(status, response, f"{name_of(endpoint)}{query} {str(body)[:200]}")
        assert everything_stored() == before
        return problem

    def refused_field(self, field: str, endpoint: Endpoint, body: Any) -> None:
        """Require a 422 that names the field."""
        problem = self.refused(422, endpoint, body)
        assert field in problem["errors"]["json"], problem
        assert problem["message"].startswith(field), problem


@pytest.fixture
def sender(admin: Caller, drift: Drift) -> Sender:
    # The first request stores the user's email from the token.
    admin.get("/user/self")
    return Sender(admin, drift)


def refusal(status: int, response: Any, request: str) -> dict[str, Any]:
    """Require a refusal with this status in the one error shape, and return its body."""
    assert response.status_code == status, (request, response.content)
    assert response["Content-Type"] == "application/json", request
    problem: dict[str, Any] = response.json()
    assert (problem["code"], problem["status"]) == (status, HTTPStatus(status).phrase), request
    assert problem.keys() == {"code", "status", "message", "request_id", *(["errors"] if status == 422 else [])}, (
        request
    )
    assert len(problem["message"].split()) >= 4, (request, "the message is a sentence")
    return problem


def everything_stored() -> dict[str, list[Any]]:
    collections = [model._meta.db_table for model in (Experiment, Drift, User)]
    return {name: list(mongodb().database[name].find().sort("_id")) for name in collections}


# Bodies that are not JSON, or not an object.

NOT_JSON: dict[str, str | bytes] = {
    "blank": "  ",
    "cut off": '{"name": "be',
    "no quotes": "{name: beer}",
    "single quotes": "{'name': 'beer'}",
    "a comma too many": '{"name": "beer",}',
    "two objects": "{}{}",
    "a form": "name=beer",
    "XML": "<name>beer</name>",
    "NaN": '{"name": NaN}',
    "Infinity": '{"a": [{"name": Infinity}]}',
    "-Infinity": '{"name": -Infinity}',
    "a line break in a string": '{"name": "be\ner"}',
    "a lone surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "Latin-1": '{"name": "bière"}'.encode("latin-1"),
    "UTF-16": '{"name": "beer"}'.encode("utf-16"),
    "UTF-32": '{"name": "beer"}'.encode("utf-32"),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}


def test_a_refused_constant_is_named_with_its_path(experiment: Experiment, editor: Caller) -> None:
    path = f"/experiment/{experiment.pk}/drift"
    columns = '{"name": "rent", "max": 12.5}, {"name": "town", "max": NaN}'
    body = json.dumps(RUN)[:-1] + f', "parameters": {{"columns": [{columns}]}}}}'
    place, sentence = "parameters.columns.1.max", "NaN is not a JSON number. Send null or leave it out."
    assert refusal(400, editor.post(path, body), "a run")["message"] == f"{place}: {sentence}"
    for bodies, media_type in (
        (f"[{json.dumps(RUN)},{{}},{body}]", "application/json"),
        (f"{{}}\n{{}}\n{body}", NDJSON),
    ):
        problem = refusal(422, editor.post(f"{path}/bulk", bodies, content_type=media_type), media_type)
        assert problem["errors"]["json"]["2"] == {place: [sentence]}
    hundredth = RUN | {"parameters": {"a": [*range(99), float("inf")]}}
    assert "parameters.a.99: Infinity" in editor.post(path, hundredth).json()["message"]
    overflow = json.dumps(hundredth).replace("Infinity", "1e400")
    problem = refusal(422, editor.post(path, overflow), "1e400")
    assert problem["message"] == "parameters.a.99: A number must be finite. Send null or leave it out."


def test_a_name_that_stands_twice_is_refused_with_its_path(
    experiment: Experiment, drift: Drift, editor: Caller
) -> None:
    """Otherwise the filter would find the run, by its second condition alone."""
    path = f"/experiment/{experiment.pk}/drift"
    document = '{"parameters.score": {"$gt": 0.9}, "parameters.score": {"$lt": 0.2}}'
    for search in (f"{path}/search", "/drift/search"):
        problem = refusal(422, editor.post(search, document), search)
        assert problem["message"].startswith('body: The name "parameters.score" stands twice.')
        assert "$and" in problem["message"]
    problem = refusal(422, editor.post(f"{path}/stats", f'{{"filter": {document}}}'), "statistics")
    assert list(problem["errors"]["json"]) == ["filter"]
    body = '{"job_status": "Failed", "model": "k", "parameters": {"a": [0, {"b": 1, "c": 2, "b": 1}]}}'
    errors = {"parameters.a.1": [REPEATED.format('"b"')]}
    for method, address in (("POST", path), ("PUT", f"{path}/{drift.id}"), ("PATCH", f"{path}/{drift.id}")):
        assert refusal(422, editor.request(method, address, body), method)["errors"]["json"] == errors
    for bodies, media_type in ((f"[{{}},{body}]", "application/json"), (f"{{}}\n{body}", NDJSON)):
        problem = refusal(422, editor.post(f"{path}/bulk", bodies, content_type=media_type), media_type)
        assert problem["errors"]["json"]["1"] == errors


def test_a_name_in_free_json_is_bounded(experiment: Experiment, drift: Drift, editor: Caller) -> None:
    path, name = f"/experiment/{experiment.pk}/drift", "k" * 1_001
    body = RUN | {"parameters": {"a": [{name: 1}]}}
    for method, address in (("POST", path), ("PUT", f"{path}/{drift.id}"), ("PATCH", f"{path}/{drift.id}")):
        problem = refusal(422, editor.request(method, address, body), method)
        assert problem["message"].startswith("parameters.a.0.kkk")
        assert problem["message"].endswith("…" + "k" * 100 + ": A name must have at most 1,000 characters.")
    problem = refusal(422, editor.post(f"{path}/bulk", [RUN, body]), "bulk")
    assert "at most 1,000 characters" in str(problem["errors"]["json"]["1"])


@pytest.mark.parametrize("body", ['{"job_status": "Failed", "model": "k"}', '{"job_status": "Failed", "model": '])
def test_a_byte_order_mark_is_ignored(experiment: Experiment, editor: Caller, body: str) -> None:
    path, mark, status = f"/experiment/{experiment.pk}/drift", b"\xef\xbb\xbf", 201 if body.endswith("}") else 400
    assert editor.post(path, mark + body.encode()).status_code == status
    assert editor.post(f"{path}/bulk", mark + f"[{body}]".encode()).status_code == status
    lines = editor.post(f"{path}/bulk", mark + f"{body}\n{body}".encode(), content_type=NDJSON)
    assert lines.status_code == (201 if status == 201 else 422)


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_a_body_that_is_not_json_is_refused(body: str | bytes, sender: Sender) -> None:
    for endpoint in WRITE + SEARCH:
        sender.refused(400, endpoint, body)


def test_an_empty_body_is_not_an_empty_object(sender: Sender) -> None:
    for endpoint in WRITE:
        sender.refused(400, endpoint, None, headers={"Content-Type": "application/json", "Content-Length": "0"})


@pytest.mark.parametrize("body", ["null", "true", "7", '"beer"', "[]", '[{"name": "beer"}]'])
def test_a_body_that_is_not_an_object_is_refused(body: str, sender: Sender) -> None:
    for endpoint in WRITE + SEARCH:
        sender.refused(422, endpoint, body)


MEDIA_TYPES = (
    "text/plain",
    "text/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/merge-patch+json",
    "application/jsonp",
    "json",
)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_a_body_of_another_media_type_is_refused(media_type: str, sender: Sender) -> None:
    for endpoint in WRITE + SEARCH:
        sender.refused(415, endpoint, endpoint.good, content_type=media_type)


def test_a_request_without_body_and_type_is_refused(sender: Sender) -> None:
    for endpoint in WRITE:
        sender.refused(415, endpoint, None)


def test_a_search_without_a_body_finds_everything_unless_it_has_another_type_than_json(sender: Sender) -> None:
    for endpoint in SEARCH:
        everything = sender.send(endpoint, {})
        for media_type in ("", "application/json"):
            found = sender.send(endpoint, None, CONTENT_TYPE=media_type)
            assert (found.status_code, found.json(), found["X-Pagination"]) == (
                200,
                everything.json(),
                everything["X-Pagination"],
            )
        for media_type in ("application/x-www-form-urlencoded", "text/plain"):
            sender.refused(415, endpoint, None, CONTENT_TYPE=media_type)


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"])
def test_json_is_recognized_in_every_spelling_of_its_media_type(media_type: str, sender: Sender) -> None:
    assert sender.send(CREATE_EXPERIMENT, {"name": "beer"}, content_type=media_type).status_code == 201


@pytest.mark.parametrize("endpoint", WRITE + SEARCH, ids=name_of)
def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not(endpoint: Endpoint, sender: Sender) -> None:
    body = json.dumps(endpoint.good)
    problem = sender.refused(413, endpoint, body.ljust(BODY_LIMIT + 1))
    assert "2,000,000 bytes" in problem["message"]
    assert sender.send(endpoint, body.ljust(BODY_LIMIT)).status_code in (200, 201)


# Values that cannot be stored and read back unchanged. `@` marks where a template of a body takes them.

PLACES: dict[str, tuple[tuple[Endpoint, ...], str]] = {
    "name": (WRITE_EXPERIMENT, '{"name": @}'),
    "description": (WRITE_EXPERIMENT, '{"name": "beer", "description": @}'),
    "an experiment's tag": (WRITE_EXPERIMENT, '{"name": "beer", "tags": ["a", @]}'),
    "a permission's entity": (
        WRITE_EXPERIMENT,
        '{"name": "beer", "permissions": [{"entity": @, "level": "Read"}]}',
    ),
    "a permission's level": (WRITE_EXPERIMENT, '{"name": "beer", "permissions": [{"entity": "a", "level": @}]}'),
    "config": (WRITE_EXPERIMENT, '{"name": "beer", "config": {"a": @}}'),
    "config, deep inside": (WRITE_EXPERIMENT, '{"name": "beer", "config": {"a": [[{"b": [@]}]]}}'),
    "a read-only field": (WRITE_EXPERIMENT, '{"name": "beer", "id": @}'),
    "an unknown field": (WRITE_EXPERIMENT, '{"name": "beer", "colour": @}'),
    "job_status": (WRITE_RUN, '{"model": "m", "drift_detected": true, "job_status": @}'),
    "model": (WRITE_RUN, '{"job_status": "Running", "model": @}'),
    "drift_detected": (WRITE_RUN, '{"job_status": "Running", "model": "m", "drift_detected": @}'),
    "detector": (WRITE_RUN, '{"job_status": "Running", "model": "m", "detector": @}'),
    "environment": (WRITE_RUN, '{"job_status": "Running", "model": "m", "environment": @}'),
    "model_version": (WRITE_RUN, '{"job_status": "Running", "model": "m", "model_version": @}'),
    "a run's tag": (WRITE_RUN, '{"job_status": "Running", "model": "m", "tags": [@]}'),
    "parameters": (WRITE_RUN, '{"job_status": "Running", "model": "m", "parameters": {"a": @}}'),
    "parameters, deep inside": (WRITE_RUN, '{"job_status": "Running", "model": "m", "parameters": {"a": [{"b": @}]}}'),
    "a filter's value": ((SEARCH_EXPERIMENTS,), '{"name": @}'),
    "a filter's operand": ((SEARCH_EXPERIMENTS,), '{"config.a": {"$gt": @}}'),
    "a filter's list": (SEARCH, '{"id": {"$in": [@]}}'),
    "a filter's pattern": (SEARCH, '{"$or": [{"created_at": {"$regex": @}}]}'),
    "a filter's free value": ((SEARCH_RUNS,), '{"parameters.a": [@]}'),
    "a filter's email": ((SEARCH_USERS,), '{"email": @}'),
}
UNSTORABLE_TEXTS = ("be\0er", f"be{SURROGATE}er", "be\udc00er", "\udc00\ud800")
UNSTORABLE = (
    *map(json.dumps, UNSTORABLE_TEXTS),
    *(str(INT64), str(-INT64 - 1), "1" + "0" * 1_000, "1e999", "-1e999"),
    *("[" * depth + "]" * depth for depth in (200, 100_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (200, 100_000)),
)


@pytest.mark.parametrize(("endpoints", "template"), PLACES.values(), ids=PLACES)
def test_a_value_that_cannot_be_stored_is_refused(
    endpoints: tuple[Endpoint, ...], template: str, sender: Sender
) -> None:
    for value in UNSTORABLE:
        for endpoint in endpoints:
            sender.refused(422, endpoint, template.replace("@", value))


def test_an_integer_of_any_size_is_reported_as_too_large(sender: Sender) -> None:
    problem = sender.refused(422, CREATE_RUN, f'{{"parameters": {{"n": {"9" * 5_000}}}}}')
    assert "64 bits" in problem["message"]


KEYS_IN: dict[str, tuple[tuple[Endpoint, ...], str]] = {
    "an experiment": (WRITE_EXPERIMENT, '{"name": "beer", @: 1}'),
    "config": (WRITE_EXPERIMENT, '{"name": "beer", "config": {"a": [{@: 1}]}}'),
    "a permission": (WRITE_EXPERIMENT, '{"name": "beer", "permissions": [{@: 1}]}'),
    "a run": (WRITE_RUN, '{"job_status": "Running", "model": "m", @: 1}'),
    "parameters": (WRITE_RUN, '{"job_status": "Running", "model": "m", "parameters": {@: 1}}'),
    "a filter": (SEARCH, "{@: 1}"),
    "a filter's clause": (SEARCH, '{"$and": [{@: 1}]}'),
    "a filter's condition": (SEARCH, '{"id": {@: 1}}'),
}


@pytest.mark.parametrize(("endpoints", "template"), KEYS_IN.values(), ids=KEYS_IN)
def test_a_key_that_cannot_be_stored_is_refused(endpoints: tuple[Endpoint, ...], template: str, sender: Sender) -> None:
    for key in UNSTORABLE_TEXTS:
        for endpoint in endpoints:
            sender.refused(422, endpoint, template.replace("@", json.dumps(key)))


# Fields.

NOT_TEXT: list[Any] = [1, 1.5, True, [], ["beer"], {}]
NOT_BOOLEAN: list[Any] = [None, 0, 1, 1.0, "", "true", "True", "false", "on", [], [True], {}]
NOT_LEVEL: list[Any] = [None, "", "read", "Owner", 0, True, [], {}]
NOT_OBJECT: list[Any] = [0, 1.5, True, "", "{}", [], [{}]]
NOT_TAGS: list[Any] = [
    *(1, True, "", "nightly", {}, {"0": "nightly"}),
    *([1], [None], [True], [["nightly"]], [{}], ["nightly", 1]),
    *([""], [" "], ["t" * 21], [f"tag {number}" for number in range(51)]),
]


def permissions(*entries: Any) -> list[Any]:
    return [{"entity": "group", "level": "Read"}, *entries]


WRONG_EXPERIMENT: dict[str, list[Any]] = {
    "name": [*NOT_TEXT, None, "", " ", "\n\t ", "n" * 256],
    "description": NOT_TEXT,
    "public": NOT_BOOLEAN,
    "tags": NOT_TAGS,
    "config": NOT_OBJECT,
    "permissions": [
        *(None, 1, True, "group", {}, {"entity": "group", "level": "Read"}, [None], ["group"], [[]], [{}]),
        *(permissions({"entity": "other"}), permissions({"level": "Read"})),
        *(permissions({"entity": entity, "level": "Read"}) for entity in [*NOT_TEXT, None, "", "  ", "e" * 256]),
        *(permissions({"entity": "o", "level": level}) for level in NOT_LEVEL),
        permissions({"entity": "other", "level": "Read", "colour": "red"}),
    ],
}
WRONG_RUN: dict[str, list[Any]] = {
    "job_status": [*NOT_TEXT, None, "", "completed", "COMPLETED", " Completed", "Done", ["Completed"]],
    "model": [*NOT_TEXT, None, "", " ", "\n\t ", "m" * 256],
    "drift_detected": NOT_BOOLEAN,
    "parameters": NOT_OBJECT,
    "tags": NOT_TAGS,
    "detector": [*NOT_TEXT, "d" * 256],
    "environment": [*NOT_TEXT, "e" * 256],
    "model_version": [*NOT_TEXT, "v" * 256],
}


def rows(table: dict[str, list[Any]]) -> list[Any]:
    """A row for each field and wrong value, with an id short enough to read."""
    return [
        pytest.param(field, value, id=f"{field}={json.dumps(value)[:60]}")
        for field, values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("field", "value"), rows(WRONG_EXPERIMENT))
def test_a_wrong_value_of_an_experiment_is_refused(field: str, value: Any, sender: Sender) -> None:
    for endpoint in WRITE_EXPERIMENT:
        sender.refused_field(field, endpoint, endpoint.good | {field: value})


@pytest.mark.parametrize(("field", "value"), rows(WRONG_RUN))
def test_a_wrong_value_of_a_run_is_refused(field: str, value: Any, sender: Sender) -> None:
    for endpoint in WRITE_RUN:
        sender.refused_field(field, endpoint, endpoint.good | {field: value})


@pytest.mark.parametrize("field", ["colour", "_id", "pk", "verdict_", "", "name.first", "$set", "__class__"])
def test_an_unknown_field_is_refused_with_the_names_of_the_known_ones(field: str, sender: Sender) -> None:
    for endpoint in WRITE:
        problem = sender.refused(422, endpoint, endpoint.good | {field: {}})
        assert "tags" in problem["errors"]["json"][field][0]


@pytest.mark.parametrize(
    ("endpoints", "field"),
    [(WRITE_EXPERIMENT, "name"), (WRITE_RUN, "job_status"), (WRITE_RUN, "model")],
    ids=["name", "job_status", "model"],
)
def test_a_missing_required_field_is_refused_unless_it_is_stored_already(
    endpoints: tuple[Endpoint, ...], field: str, sender: Sender
) -> None:
    create, replace, change = endpoints
    for endpoint in (create, replace):
        sender.refused_field(field, endpoint, {name: endpoint.good[name] for name in endpoint.good if name != field})
    assert sender.send(change, {}).status_code == 200


@pytest.mark.parametrize("endpoint", [CREATE_RUN, REPLACE_RUN], ids=name_of)
def test_a_completed_run_needs_drift_detected(endpoint: Endpoint, sender: Sender) -> None:
    sender.refused_field("drift_detected", endpoint, {"job_status": "Completed", "model": "forest"})


@pytest.mark.parametrize("status", ["Running", "Failed"])
def test_a_run_that_completes_needs_drift_detected(status: str, sender: Sender, drift: Drift) -> None:
    Drift.objects.filter(pk=drift.pk).update(job_status=status)
    sender.refused_field("drift_detected", CHANGE_RUN, {"job_status": "Completed", "tags": ["late"]})
    completed = sender.send(CHANGE_RUN, {"job_status": "Completed", "drift_detected": False})
    assert completed.json()["verdict"] == "no_drift"


def test_a_completed_run_is_changed_without_repeating_drift_detected(sender: Sender) -> None:
    assert sender.send(CHANGE_RUN, {"job_status": "Completed", "tags": ["a"]}).json()["drift_detected"] is True


READ_ONLY: dict[str, Any] = {"id": NOBODY, "created_at": "1970-01-01T00:00:00Z", "updated_at": None}
READ_ONLY_RUN: dict[str, Any] = READ_ONLY | {"experiment_id": 7, "schema_version": "9", "verdict": "unknown"}


@pytest.mark.parametrize("endpoint", [REPLACE_EXPERIMENT, CHANGE_EXPERIMENT, REPLACE_RUN, CHANGE_RUN], ids=name_of)
def test_an_object_sent_back_unchanged_stays_unchanged(endpoint: Endpoint, sender: Sender) -> None:
    read = sender.send(Endpoint("GET", endpoint.path, {}), None).json()
    written = sender.send(endpoint, read).json()
    assert written.pop("updated_at") > read.pop("updated_at")
    assert written == read


@pytest.mark.parametrize(
    ("endpoint", "read_only"),
    [
        *((endpoint, READ_ONLY) for endpoint in WRITE_EXPERIMENT),
        *((endpoint, READ_ONLY_RUN) for endpoint in WRITE_RUN),
    ],
    ids=map(name_of, WRITE),
)
def test_read_only_fields_are_ignored(endpoint: Endpoint, read_only: dict[str, Any], sender: Sender) -> None:
    written = sender.send(endpoint, endpoint.good | read_only).json()
    assert {name for name in read_only if written[name] == read_only[name]} == set()


# Free JSON: the service returns any key and any value as it was sent.

FREE: dict[str, dict[str, Any]] = {
    "an operator": {"$ne": None},
    "code": {"$where": "sleep(1000)", "$function": {"body": "f", "args": [], "lang": "js"}},
    "an update": {"$set": {"public": True}, "$unset": ["name"]},
    "a literal": {"$literal": 1},
    "an expression": {"$concat": ["$name", "$$ROOT"]},
    "a reference": {"$ref": "experiments_experiment", "$id": "1"},
    "a reference to a database": {"$ref": "users", "$id": "1", "$db": "admin"},
    "a reference to nothing": {"$ref": "users", "$id": None, "more": {"$ref": "", "$id": {}}},
    "a JSON Schema": {"properties": {"age": {"$ref": "#/definitions/age"}}, "$id": "https://example.org/schema"},
    "half a reference": {"$id": "1", "$db": "admin"},
    "extended JSON": {"id": {"$oid": "507f1f77bcf86cd799439011"}, "at": {"$date": 0}, "n": {"$numberLong": "1"}},
    "dollars": {"$": 1, "$$": 2, "a$b": 3, "a$": 4},
    "dots": {".": 1, "..": 2, "a.b": 3, "a.": 4, ".a": 5, "a..b": 6},
    "dots and dollars": {"a.$b": 1, "$a.b": 2, "a.$": 3, "$.a": 4, "a.$[].b": 5},
    "a name beside its path": {"a": {"b": 1}, "a.b": 2},
    "an empty key": {"": {"": ""}},
    "blank keys": {" ": 1, "\n": 2, "\t": 3},
    "numbers as keys": {"0": "a", "01": "b", "-1": "c"},
    "names with a meaning elsewhere": {"_id": 1, "id": 2, "__proto__": {}, "__class__": 3, "constructor": 4},
    "letters of the world": {"détecteur": "größer", "模型": "森林", "🌊": "👩\u200d🔬", "\ufeff": "\u202e"},
    "a long key": {"k" * 1_000: 1},
    "many keys": {f"key {number}": number for number in range(1_000)},
    "values that look like fields": {"a": "$name", "b": "$$NOW", "c": ["$tags", {"d": "$$ROOT"}]},
    "values that look like dates and ids": {"a": "2026-01-31T12:00:00Z", "b": "507f1f77bcf86cd799439011"},
    "nothing in many ways": {"a": None, "b": {}, "c": [], "d": "", "e": [None, {}, [[]]], "f": False, "g": 0},
    "integers at the limits": {"a": INT64 - 1, "b": -INT64, "c": 2**31, "d": 2**53 + 1},
    "numbers": {"a": 1.0, "b": -0.0, "c": 1e308, "d": 5e-324, "e": 0.1, "f": 1, "g": 1e2},
}


def nested_objects(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


FREE["45 levels"] = nested_objects(45)


@pytest.mark.parametrize("free", FREE.values(), ids=FREE)
@pytest.mark.parametrize(
    ("create", "field"), [(CREATE_EXPERIMENT, "config"), (CREATE_RUN, "parameters")], ids=["config", "parameters"]
)
def test_free_json_is_returned_as_it_was_sent(
    create: Endpoint, field: str, free: dict[str, Any], sender: Sender
) -> None:
    """Through creation, PUT and PATCH, at the top and inside, and for another reader."""
    sent = free | {"inside": [free]}

    def assert_stored(written: Any) -> str:
        identifier: str = written.json()["id"]
        read = sender.send(Endpoint("GET", f"{create.path}/{identifier}", {}), None)
        found = sender.send(Endpoint("POST", f"{create.path}/search", {}), {"id": identifier})
        assert [response.status_code for response in (read, found)] == [200, 200]
        for item in (written.json(), read.json(), *found.json()):
            assert same(item[field], sent)
        return identifier

    created = assert_stored(sender.send(create, create.good | {field: sent}))
    for method in ("PUT", "PATCH"):
        one = Endpoint(method, f"{create.path}/{created}", {})
        sender.send(one, create.good | {field: {}})
        assert_stored(sender.send(one, create.good | {field: sent}))


def same(one: Any, other: Any) -> bool:
    """Equal, and written the same: 1 is not 1.0 and not true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


TEXTS_WITH_A_MEANING = ("$name", "$$ROOT", "a.b", "{$ne: 1}", "' OR 1=1 --", "<b>{{7*7}}</b>", "%s%n", "../..")


@pytest.mark.parametrize("text", TEXTS_WITH_A_MEANING)
def test_code_and_operators_in_a_text_are_stored_as_text(text: str, sender: Sender) -> None:
    entries = [{"entity": text, "level": "Read"}, {"entity": "keepers", "level": "Manage"}]
    experiment = {"name": text, "description": text, "tags": [text], "permissions": entries}
    run = RUN | {"model": text, "tags": [text], "detector": text, "environment": text, "model_version": text}
    for endpoint in (REPLACE_EXPERIMENT, CHANGE_EXPERIMENT, *WRITE_RUN):
        sent = run if endpoint in WRITE_RUN else experiment
        written = sender.send(endpoint, sent).json()
        written["permissions"] = [held for held in written.get("permissions", []) if held in entries]
        assert {name: written[name] for name in sent} == sent


RUN_STATES, LEVELS = "Running, Completed, Failed", "Read, Edit, Manage"


@pytest.mark.parametrize(
    ("path", "body", "choices"),
    [
        ("/experiment/{experiment}/drift", RUN | {"job_status": "FINISHED"}, RUN_STATES),
        ("/experiment/{experiment}/drift/bulk", [RUN | {"job_status": "FINISHED"}], RUN_STATES),
        ("/experiment", {"name": "beer", "permissions": [{"entity": "a", "level": "read"}]}, LEVELS),
        ("/experiment/{experiment}/access/handover", {"entity": "x", "keep": "read"}, LEVELS),
        ("/token", {"name": "x", "level": "Admin"}, LEVELS),
        ("/experiment/search?sort_by=colour", {}, "created_at, name, public"),
        (
            "/experiment/{experiment}/drift/search?sort_by=verdict",
            {},
            "created_at, observed_at, job_status, model, drift_detected, schema_version",
        ),
        ("/user/search?sort_by=id", {}, "created_at, email, subject, issuer"),
        ("/drift/search?order_by=up", {}, "asc, desc"),
        ("/drift/search", {"verdict": "maybe"}, "drift, no_drift, unknown"),
        ("/drift/stats", {"interval": "decade"}, "hour, day, week, month"),
        ("/drift/stats", {"group_by": "colour"}, "model, "),
        ("/drift/stats", {"measures": "model"}, "a path such as parameters.p_value"),
    ],
)
def test_a_refusal_of_a_choice_names_the_choices(sender: Sender, path: str, body: Any, choices: str) -> None:
    response = sender.caller.post(path.format(**sender.ids), body)
    assert response.status_code == 422
    assert choices in response.content.decode()


# Addresses.

IDS = {
    "a number": "1",
    "a word": "latest",
    "an ObjectId": "507f1f77bcf86cd799439011",
    "a UUID cut short": NOBODY[:-1],
    "a UUID and more": f"{NOBODY}0",
    "a UUID with a letter that is no digit": f"g{NOBODY[1:]}",
    "an operator": "$ne",
    "JSON": "%7B%22$ne%22:1%7D",
    "a NUL": "%00",
    "a UUID and a NUL": f"{NOBODY}%00",
    "no UTF-8": "%ff%fe",
    "a lone surrogate": "%ED%A0%80",
    "a line break": f"{NOBODY}%0A",
    "a slash": "..%2F..",
    "letters of the world": "%E6%A8%A1%E5%9E%8B",
    "very long": "9" * 5_000,
    "nobody's UUID": NOBODY,
}
WITH_AN_ID = [
    *(Endpoint(method, "/experiment/{experiment}", {"name": "beer"}) for method in ("GET", "PUT", "PATCH", "DELETE")),
    CREATE_RUN,
    SEARCH_RUNS,
    *(Endpoint(method, "/experiment/{experiment}/drift/{drift}", RUN) for method in ("GET", "PUT", "PATCH", "DELETE")),
]


@pytest.mark.parametrize("unknown", IDS.values(), ids=IDS)
def test_an_unknown_id_is_not_found(unknown: str, sender: Sender) -> None:
    ids = dict(sender.ids)
    for endpoint in WITH_AN_ID:
        for place in [place for place in ids if f"{{{place}}}" in endpoint.path]:
            sender.ids = ids | {place: unknown}
            sender.refused(404, endpoint, None if endpoint.method in ("GET", "DELETE") else endpoint.good)


@pytest.mark.parametrize("endpoint", WITH_AN_ID, ids=name_of)
def test_a_deleted_object_accepts_no_request(endpoint: Endpoint, sender: Sender, drift: Drift) -> None:
    assert sender.send(Endpoint("DELETE", "/experiment/{experiment}", {}), None).status_code == 204
    sender.refused(404, endpoint, None if endpoint.method in ("GET", "DELETE") else endpoint.good)
    purge_in_background()
    assert everything_stored()[Drift._meta.db_table] == []


def test_a_run_is_not_found_in_another_experiment(sender: Sender) -> None:
    sender.ids |= {"experiment": Experiment.objects.create(name="other").id}
    for endpoint in (REPLACE_RUN, CHANGE_RUN, Endpoint("DELETE", CHANGE_RUN.path, {})):
        sender.refused(404, endpoint, endpoint.good)


NOWHERE = (
    *("/api", "/api/v1", "/api/v1/", "/api/v2/experiment", "/API/v1/experiment", "/api/v1//experiment"),
    *("/api/v1/nothing", "/api/v1/experiments", "/api/v1/experiment/", "/api/v1/experiment/search/"),
    *(f"/api/v1/experiment/{NOBODY}{rest}" for rest in ("/", "/runs", "/drift/", f"/drift/{NOBODY}/", "//drift")),
    *("/api/v1/user/self/", "/api/v1/%00", "/api/v1/%ff", "/api/v1/user%00", "/nothing", "/.env", "/static/nothing.js"),
)


@pytest.mark.parametrize("path", NOWHERE)
def test_an_unknown_address_is_not_found(path: str, admin: Caller) -> None:
    for method in ("GET", "POST", "DELETE"):
        problem = refusal(404, admin.client.generic(method, path, "{}", "application/json"), method)
        assert path.endswith("/") is ("trailing slash" in problem["message"])


METHODS = {
    "/experiment": {"POST"},
    "/experiment/search": {"POST"},
    "/experiment/{experiment}": {"GET", "PUT", "PATCH", "DELETE"},
    "/experiment/{experiment}/drift": {"POST"},
    "/experiment/{experiment}/drift/search": {"POST"},
    "/experiment/{experiment}/drift/{drift}": {"GET", "PUT", "PATCH", "DELETE"},
    "/user": {"POST"},
    "/user/self": {"GET", "PUT"},
    "/user/search": {"POST"},
    "/entitlement": {"GET"},
    "/entitlements": {"GET"},
}


@pytest.mark.parametrize(("path", "allowed"), METHODS.items(), ids=METHODS)
def test_a_method_that_an_address_does_not_support_is_refused(path: str, allowed: set[str], sender: Sender) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"} - allowed:
        response = sender.send(Endpoint(method, path, {}), {})
        refusal(405, response, method)
        assert {name.strip() for name in response["Allow"].split(",")} - {"HEAD", "OPTIONS"} == allowed


@pytest.mark.parametrize("path", ["/api/v1/openapi.json", "/api/v1/docs", "/livez", "/readyz", "/"])
def test_a_read_only_page_refuses_other_methods(path: str, admin: Caller) -> None:
    refusal(405, admin.client.post(path, "{}", "application/json"), path)


def test_an_unknown_host_is_refused(admin: Caller) -> None:
    refusal(400, admin.get("/user/self", headers={"Host": "evil.example"}), "GET")


def test_an_unknown_host_is_not_logged() -> None:
    """Python writes to stderr if a logger has no handler."""
    handlers = logging.getLogger("django.security.DisallowedHost").handlers
    assert logging.NullHandler in map(type, handlers)


# Query parameters.

WRONG_QUERIES: dict[str, list[Any]] = {
    "page": ["0", "-1", "1.5", "one", "1%00", "%00", "NaN", "1e3", "0x1", "99999999999999999999", "9" * 5_000],
    "page_size": ["0", "-1", "101", "1.5", "ten", "10%00", "%ff", "Infinity", "9" * 5_000],
    "order_by": ["up", "ASC", "1", "-1", "asc%00", "%ED%A0%80", "asc,desc", "$natural"],
    "sort_by": ["colour", "_id", "-created_at", "created_at%00", "$where", "%ff", "created_at,id", "permissions"],
}


@pytest.mark.parametrize(("name", "value"), rows(WRONG_QUERIES))
def test_a_wrong_query_parameter_is_refused(name: str, value: str, sender: Sender) -> None:
    for endpoint in SEARCH:
        problem = sender.refused(422, endpoint, {}, f"?{name}={value}")
        assert name in problem["errors"]["query"]
        assert problem["message"].startswith(name)
