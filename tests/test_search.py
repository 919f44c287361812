"""`POST …/search`: pages, order, refusals, and the secrecy of records that the caller may not read."""

import datetime
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.db.models import Model
from pytest_django import Settings

from accounts.models import User
from core.identity import Level
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller
from tests.conftest import GROUP

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def add_runs(experiment: Experiment, count: int, **fields: Any) -> None:
    run = {"job_status": "Completed", "model": "forest", **fields}
    Drift.objects.bulk_create(Drift(experiment=experiment, **run) for _ in range(count))


def drift_search(experiment: Experiment, query: str = "") -> str:
    return f"/experiment/{experiment.id}/drift/search{query}"


def found(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.content
    items: list[dict[str, Any]] = response.json()
    return items


def pagination(response: Any) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(response.headers["X-Pagination"])
    return header


def names(response: Any) -> set[str]:
    """The names of the found experiments. The header must count the same number."""
    experiments = found(response)
    assert pagination(response)["total"] == len(experiments)
    return {experiment["name"] for experiment in experiments}


def as_json(value: Any) -> str | None:
    """Name a test by its filter."""
    return json.dumps(value) if isinstance(value, dict) else None


def refusal(response: Any, code: int = 422) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (code, code), body
    assert "X-Pagination" not in response.headers
    return body


# Pages.


@pytest.mark.parametrize(
    ("total", "query", "items", "header"),
    [
        pytest.param(0, "", 0, {"total": 0, "total_pages": 0, "page": 1}, id="nothing"),
        pytest.param(3, "", 3, {"total": 3, "total_pages": 1, "page": 1}, id="the only one"),
        pytest.param(23, "", 10, {"total": 23, "total_pages": 3, "page": 1, "next_page": 2}, id="the first of ten"),
        pytest.param(
            23,
            "?page=2",
            10,
            {"total": 23, "total_pages": 3, "page": 2, "previous_page": 1, "next_page": 3},
            id="one between",
        ),
        pytest.param(
            23, "?page=3", 3, {"total": 23, "total_pages": 3, "page": 3, "previous_page": 2}, id="the last, not full"
        ),
        pytest.param(
            20, "?page=2", 10, {"total": 20, "total_pages": 2, "page": 2, "previous_page": 1}, id="the last, full"
        ),
        pytest.param(
            23, "?page=4", 0, {"total": 23, "total_pages": 3, "page": 4, "previous_page": 3}, id="one past the last"
        ),
        pytest.param(
            23, "?page=999", 0, {"total": 23, "total_pages": 3, "page": 999, "previous_page": 3}, id="far past the last"
        ),
        pytest.param(
            3,
            "?page=2&page_size=1",
            1,
            {"total": 3, "total_pages": 3, "page": 2, "previous_page": 1, "next_page": 3},
            id="the smallest",
        ),
        pytest.param(
            101, "?page_size=100", 100, {"total": 101, "total_pages": 2, "page": 1, "next_page": 2}, id="the largest"
        ),
    ],
)
def test_a_page_gives_its_number_and_the_total(
    reader: Caller, experiment: Experiment, total: int, query: str, items: int, header: dict[str, int]
) -> None:
    add_runs(experiment, total)
    response = reader.post(drift_search(experiment, query), {})
    assert len(found(response)) == items
    ends = {"first_page": 1, "last_page": max(header["total_pages"], 1), "total_is_exact": True}
    header_content = pagination(response)
    assert ("next_cursor" in header_content) == ("next_page" in header_content)
    assert header_content == {
        **ends,
        **header,
        **({"next_cursor": header_content["next_cursor"]} if "next_cursor" in header_content else {}),
    }


def test_the_pages_contain_the_matching_records(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 4, model="tree")
    add_runs(experiment, 5, model="forest")
    response = reader.post(drift_search(experiment, "?page_size=3"), {"model": "tree"})
    assert {run["model"] for run in found(response)} == {"tree"}
    assert (pagination(response)["total"], pagination(response)["total_pages"]) == (4, 2)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("page", value) for value in ("0", "-1", "1.5", "two", str(10**18), str(10**30), "NaN")),
        *(("page_size", value) for value in ("0", "-1", "101", "all", str(10**18))),
        *(("order_by", value) for value in ("up", "ASC", "1")),
        *(("sort_by", value) for value in ("colour", "id", "_id", "pk", "-created_at", "created_at,model")),
        *(("sort_by", value) for value in ("updated_at", "parameters", "parameters.a", "$natural", "verdict")),
        *(("sort_by", value) for value in ("experiment__name", "name", "email", "permissions")),
    ],
)
def test_a_query_parameter_out_of_its_bounds_is_refused_by_name(
    reader: Caller, experiment: Experiment, parameter: str, value: str
) -> None:
    body = refusal(reader.post(drift_search(experiment, f"?{parameter}={value}"), {}))
    assert body["errors"]["query"].keys() == {parameter}
    assert body["message"].startswith(f"{parameter}: ")


@pytest.mark.parametrize("field", ["description", "permissions", "permissions.entity", "config", "id"])
def test_experiments_cannot_be_sorted_by_fields_that_may_be_hidden(anonymous: Caller, field: str) -> None:
    refusal(anonymous.post(f"/experiment/search?sort_by={field}", {}))


@pytest.mark.parametrize("field", ["password", "is_superuser", "last_login", "id"])
def test_users_are_sorted_only_by_visible_fields(admin: Caller, field: str) -> None:
    refusal(admin.post(f"/user/search?sort_by={field}", {}))


# Order.

SORTED: dict[str, tuple[type[Model], tuple[str, ...]]] = {
    "experiment": (Experiment, ("created_at", "name", "public")),
    "drift": (Drift, ("created_at", "job_status", "model", "drift_detected", "schema_version")),
    "user": (User, ("created_at", "email", "subject", "issuer")),
}


@pytest.fixture
def paths(experiment: Experiment) -> dict[str, str]:
    """The path of a search for each resource. Each has many records with equal values."""
    times = [START + datetime.timedelta(days=number // 5) for number in range(12)]
    Experiment.objects.bulk_create(
        Experiment(name=f"{number % 7} {number}", public=number % 2 == 0, created_at=time)
        for number, time in enumerate(times)
    )
    Drift.objects.bulk_create(
        Drift(
            experiment=experiment,
            job_status=("Running", "Completed", "Failed")[number % 3],
            model=("forest", "tree")[number % 2],
            drift_detected=number % 2 == 0,
            schema_version=f"1.0.{number % 2}",
            created_at=time,
        )
        for number, time in enumerate(times)
    )
    User.objects.bulk_create(
        User(
            issuer=f"https://{number % 2}.example.org",
            subject=str(number // 2),
            email=f"{number % 3}@example.org",
            created_at=time,
        )
        for number, time in enumerate(times)
    )
    return {"experiment": "/experiment/search", "drift": drift_search(experiment), "user": "/user/search"}


def walk(caller: Caller, path: str, query: str, by: str = "page") -> Iterator[str]:
    """The ids of all pages, read one after the other by number or by cursor."""
    place: str | None = ""
    while place is not None:
        response = caller.post(f"{path}?page_size=5&{query}{place}", {})
        yield from (item["id"] for item in found(response))
        following = pagination(response).get(f"next_{by}")
        place = following and f"&{by}={following}"


@pytest.mark.parametrize("by", ["page", "cursor"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("resource", "field"), [(resource, field) for resource, (_, fields) in SORTED.items() for field in fields]
)
def test_the_pages_contain_every_record_once_sorted_with_ties_broken_by_time_and_id(
    admin: Caller, paths: dict[str, str], resource: str, field: str, order: str, by: str
) -> None:
    records: Iterable[Any] = SORTED[resource][0]._default_manager.all()
    in_order = sorted(
        records,
        key=lambda record: (getattr(record, field), record.created_at, record.pk.hex),
        reverse=order == "desc",
    )
    walked = list(walk(admin, paths[resource], f"sort_by={field}&order_by={order}", by))
    assert walked == [str(record.pk) for record in in_order]


@pytest.mark.parametrize("resource", SORTED)
def test_the_default_order_is_newest_first(admin: Caller, paths: dict[str, str], resource: str) -> None:
    path = paths[resource]
    newest_first = list(walk(admin, path, "sort_by=created_at&order_by=desc"))
    assert list(walk(admin, path, "")) == newest_first
    assert list(walk(admin, path, "order_by=asc")) == newest_first[::-1]


# Bodies.


@pytest.mark.parametrize("path", ["/experiment/search", "/user/search"])
@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        pytest.param("text/plain", "{}", 415, id="text"),
        pytest.param("application/x-www-form-urlencoded", "model=forest", 415, id="form"),
        pytest.param("multipart/form-data; boundary=b", "--b--", 415, id="multipart"),
        pytest.param("application/jsonp", "{}", 415, id="nearly JSON"),
        pytest.param("", "{}", 415, id="no type"),
        pytest.param("application/json", " ", 400, id="blank"),
        pytest.param("application/json", "{'model': 'forest'}", 400, id="not JSON"),
        pytest.param("application/json", '{"a": NaN}', 400, id="not a number of JSON"),
        pytest.param("application/json", b'{"a": "\xff"}', 400, id="not UTF-8"),
        pytest.param("application/json", "null", 422, id="null"),
        pytest.param("application/json", "[]", 422, id="list"),
    ],
)
def test_an_invalid_body_is_refused_and_never_read_as_an_empty_filter(
    admin: Caller, path: str, content_type: str, body: str | bytes | None, code: int
) -> None:
    refusal(admin.post(path, body, content_type=content_type), code)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_recognized_by_its_media_type(anonymous: Caller, content_type: str) -> None:
    assert found(anonymous.post("/experiment/search", {}, content_type=content_type)) == []


@pytest.mark.parametrize("origin", ["https://pages.example.org", "https://elsewhere.example.org"])
def test_scripts_of_an_allowed_origin_read_the_pagination(anonymous: Caller, settings: Settings, origin: str) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://pages.example.org"]
    response = anonymous.post("/experiment/search", {}, headers={"Origin": origin})
    allowed = origin in settings.CORS_ALLOWED_ORIGINS
    assert (response.headers.get("Access-Control-Allow-Origin") == origin) == allowed
    assert ("X-Pagination" in response.headers.get("Access-Control-Expose-Headers", "")) == allowed


# Filters over HTTP.


def test_a_run_is_found_by_id_under_both_names_and_in_both_spellings(reader: Caller, drift: Drift) -> None:
    add_runs(drift.experiment, 2)
    for name in ("id", "_id"):
        for text in (str(drift.id), drift.id.hex):
            response = reader.post(drift_search(drift.experiment), {name: text})
            assert [run["id"] for run in found(response)] == [str(drift.id)]


@pytest.mark.parametrize(
    ("condition", "models"),
    [
        ({"$lt": "2026-01-02"}, {"first"}),
        ({"$gte": "2026-01-02T00:00:00Z"}, {"second", "third"}),
        ({"$gt": "2026-01-02T02:00:00+02:00"}, {"third"}),
        ("2026-01-01T19:00:00-05:00", {"second"}),
        ({"$in": ["2026-01-01", "2026-01-03"]}, {"first", "third"}),
    ],
)
def test_date_strings_are_compared_as_times(
    reader: Caller, experiment: Experiment, condition: Any, models: set[str]
) -> None:
    for day, model in enumerate(["first", "second", "third"]):
        add_runs(experiment, 1, model=model, created_at=START + datetime.timedelta(days=day))
    response = reader.post(drift_search(experiment), {"created_at": condition})
    assert {run["model"] for run in found(response)} == models


def test_a_time_from_a_response_finds_its_record(reader: Caller, drift: Drift) -> None:
    shown = reader.get(f"/experiment/{drift.experiment_id}/drift/{drift.id}").json()
    response = reader.post(drift_search(drift.experiment), {"created_at": shown["created_at"]})
    assert found(response) == [shown]


def test_parameters_are_searched_at_any_depth(reader: Caller, drift: Drift) -> None:
    add_runs(drift.experiment, 1, parameters={"p_value": 0.7, "features": {"alcohol": {"statistic": 0.1}}})
    significant = {"parameters.p_value": {"$lt": 0.05}, "parameters.features.alcohol.statistic": {"$gt": 0.3}}
    response = reader.post(drift_search(drift.experiment), significant)
    assert [run["id"] for run in found(response)] == [str(drift.id)]


# The status and the stored boolean of each run.
DRIFTED, STABLE = ("Completed", True), ("Completed", False)
OPEN, OPEN_TRUE, FAILED, FAILED_TRUE = ("Running", False), ("Running", True), ("Failed", False), ("Failed", True)
UNKNOWN = {OPEN, OPEN_TRUE, FAILED, FAILED_TRUE}


@pytest.mark.parametrize(
    ("document", "runs"),
    [
        ({"verdict": "drift"}, {DRIFTED}),
        ({"verdict": "no_drift"}, {STABLE}),
        ({"verdict": "unknown"}, UNKNOWN),
        ({"verdict": {"$ne": "drift"}}, {STABLE, *UNKNOWN}),
        ({"verdict": {"$in": ["drift", "no_drift"]}}, {DRIFTED, STABLE}),
        ({"verdict": {"$in": []}}, set()),
        ({"verdict": {"$nin": ["drift", "unknown"]}}, {STABLE}),
        ({"verdict": {"$nin": []}}, {DRIFTED, STABLE, *UNKNOWN}),
        ({"$nor": [{"verdict": "unknown"}]}, {DRIFTED, STABLE}),
        ({"verdict": "unknown", "drift_detected": True}, {OPEN_TRUE, FAILED_TRUE}),
    ],
)
def test_only_completed_runs_have_a_verdict_whatever_their_stored_boolean(
    reader: Caller, experiment: Experiment, document: Any, runs: set[tuple[str, bool]]
) -> None:
    for status, boolean in (DRIFTED, STABLE, *UNKNOWN):
        add_runs(experiment, 1, job_status=status, drift_detected=boolean)
    response = reader.post(drift_search(experiment), document)
    assert {(run["job_status"], run["drift_detected"]) for run in found(response)} == runs


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ({"$where": "sleep(1000)"}, "$where", "$where is not allowed"),
        ({"$or": [{"model": {"$expr": 1}}]}, "$or.0.model.$expr", "$expr is not allowed"),
        ({"colour": "red"}, "colour", "Unknown field"),
    ],
)
def test_a_refused_filter_is_a_422_that_names_its_path(
    reader: Caller, experiment: Experiment, document: Any, path: str, words: str
) -> None:
    body = refusal(reader.post(drift_search(experiment), document))
    assert words in body["errors"]["json"][path][0]
    assert body["message"].startswith(f"{path}: ")


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?<n>a)(?<n>b)", "\\"])
def test_a_pattern_that_mongodb_cannot_compile_is_a_422(reader: Caller, drift: Drift, pattern: str) -> None:
    body = refusal(reader.post(drift_search(drift.experiment), {"model": {"$regex": pattern}}))
    assert "egular expression" in body["message"]


# Time.


def test_a_search_that_takes_too_long_is_a_422_that_says_how_to_narrow_it(
    reader: Caller, experiment: Experiment, settings: Settings
) -> None:
    add_runs(experiment, 2_000, parameters={"note": "a" * 900 + "b"})
    slow = {"parameters.note": {"$regex": "(a+)+$"}}
    settings.SEARCH_TIME_LIMIT = 0.05
    body = refusal(reader.post(drift_search(experiment), slow))
    assert "longer than 0.05 s" in body["message"]
    assert "Narrow it" in body["message"]
    settings.SEARCH_TIME_LIMIT = 5.0
    assert len(found(reader.post(drift_search(experiment), {}))) == 10
    assert found(reader.post(drift_search(experiment), {"model": "tree", **slow})) == []


# Secrecy.

TRICKS: list[dict[str, Any]] = [
    {},
    {"public": False},
    {"public": {"$in": [True, False, None]}},
    {"$or": [{"public": True}, {"public": False}]},
    {"$or": [{}]},
    {"$nor": [{"public": True}]},
    {"$nor": [{"name": "nothing has this name"}]},
    {"$and": [{"$or": [{}, {"public": False}]}]},
    {"name": {"$exists": True}},
    {"name": "wine quality"},
    {"name": {"$regex": "wine"}},
    {"permissions": {"$exists": True}},
    {"permissions.entity": {"$ne": "nobody"}},
    {"permissions.entity": GROUP},
    {"$nor": [{"permissions.entity": {"$exists": False}}]},
    {"config.secret": 1},
]


@pytest.mark.parametrize("document", TRICKS, ids=as_json)
@pytest.mark.parametrize("caller", ["anonymous", "newcomer", "outsider", "stranger"])
def test_no_filter_finds_an_experiment_that_the_caller_may_not_read(
    request: pytest.FixtureRequest, experiment: Experiment, caller: str, document: Any
) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(config={"secret": 1})
    Experiment.objects.create(name="open", public=True, config={"secret": 1})
    asking: Caller = request.getfixturevalue(caller)
    assert names(asking.post("/experiment/search", document)) <= {"open"}


def test_ids_find_no_experiment_that_the_caller_may_not_read(stranger: Caller, experiment: Experiment) -> None:
    for name in ("id", "_id"):
        assert names(stranger.post("/experiment/search", {name: str(experiment.id)})) == set()


@pytest.mark.parametrize(
    ("caller", "seen"),
    [
        ("anonymous", {"open"}),
        ("stranger", {"open"}),
        ("reader", {"open", "wine quality"}),
        ("watcher", {"open", "wine quality", "of the group"}),
        ("manager", {"open", "wine quality"}),
        ("admin", {"open", "wine quality", "of the group", "of nobody"}),
    ],
)
def test_an_empty_filter_finds_everything_that_the_caller_may_read(
    request: pytest.FixtureRequest, experiment: Experiment, caller: str, seen: set[str]
) -> None:
    group = Permission(entity=GROUP, level=Level.EDIT)
    Experiment.objects.create(name="open", public=True, permissions=[group])
    Experiment.objects.create(name="of the group", permissions=[group])
    Experiment.objects.create(name="of nobody")
    assert experiment.name == "wine quality"
    asking: Caller = request.getfixturevalue(caller)
    assert names(asking.post("/experiment/search", {})) == seen


PROBES: list[dict[str, Any]] = [
    {"permissions.entity": GROUP},
    {"permissions.entity": {"$ne": GROUP}},
    {"permissions.entity": {"$in": [GROUP, None]}},
    {"permissions.entity": {"$nin": [GROUP]}},
    {"permissions.entity": {"$gt": "a"}},
    {"permissions.entity": {"$exists": True}},
    {"permissions.entity": {"$exists": False}},
    {"permissions.entity": {"$type": "string"}},
    {"permissions.entity": {"$regex": "^urn"}},
    {"permissions.entity": {"$not": {"$regex": "^urn"}}},
    {"permissions.entity": None},
    {"permissions.level": "Manage"},
    {"permissions.level": {"$ne": "Manage"}},
    {"permissions": {"$size": 0}},
    {"permissions": {"$size": 1}},
    {"permissions": {"$exists": False}},
    {"permissions": {"$elemMatch": {"entity": GROUP, "level": "Manage"}}},
    {"permissions": {"$elemMatch": {"$nor": [{"entity": GROUP}]}}},
]


@pytest.mark.parametrize("probe", PROBES, ids=as_json)
@pytest.mark.parametrize("caller", ["anonymous", "stranger"])
def test_no_filter_distinguishes_public_experiments_by_hidden_permissions(
    request: pytest.FixtureRequest, caller: str, probe: dict[str, Any]
) -> None:
    Experiment.objects.create(name="bare", public=True)
    Experiment.objects.create(name="shared", public=True, permissions=[Permission(entity=GROUP, level=Level.MANAGE)])
    asking: Caller = request.getfixturevalue(caller)
    for document in (probe, {"$nor": [probe]}, {"$or": [probe, {"name": ""}]}, {"$nor": [{"$nor": [probe]}]}):
        assert names(asking.post("/experiment/search", document)) in (set(), {"bare", "shared"})


@pytest.mark.parametrize(
    ("document", "seen"),
    [
        ({"permissions.entity": GROUP}, {"wine quality", "of the group"}),
        ({"permissions.level": "Manage"}, {"wine quality"}),
        ({"permissions": {"$size": 1}}, {"of the group"}),
        ({"permissions": {"$elemMatch": {"entity": GROUP, "level": "Edit"}}}, {"of the group"}),
    ],
    ids=as_json,
)
@pytest.mark.parametrize("caller", ["watcher", "admin"])
def test_callers_who_see_the_permissions_can_search_them(
    request: pytest.FixtureRequest, experiment: Experiment, caller: str, document: Any, seen: set[str]
) -> None:
    Experiment.objects.create(name="of the group", permissions=[Permission(entity=GROUP, level=Level.EDIT)])
    Experiment.objects.create(name="bare", public=True)
    assert experiment.name == "wine quality"
    asking: Caller = request.getfixturevalue(caller)
    assert names(asking.post("/experiment/search", document)) == seen


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"experiment_id": {"$exists": True}},
        {"$or": [{"experiment_id": {"$ne": str(uuid.UUID(int=0))}}, {}]},
        {"$nor": [{"model": "nothing has this name"}]},
    ],
    ids=as_json,
)
def test_no_filter_finds_the_runs_of_another_experiment(anonymous: Caller, drift: Drift, document: Any) -> None:
    mine = Experiment.objects.create(name="open", public=True)
    add_runs(mine, 1)
    response = anonymous.post(drift_search(mine), document)
    assert [run["experiment_id"] for run in found(response)] == [str(mine.id)]
    refusal(anonymous.post(drift_search(drift.experiment), document), 403)
    assert found(anonymous.post(drift_search(mine), {"experiment_id": str(drift.experiment_id)})) == []


def test_only_administrators_find_users(everybody: dict[str, Caller]) -> None:
    codes = {name: caller.post("/user/search", {}).status_code for name, caller in everybody.items()}
    assert codes == {**dict.fromkeys(everybody, 403), "anonymous": 401, "admin": 200}
    response = everybody["admin"].post("/user/search", {"email": {"$regex": "^reader@"}})
    assert [user["subject"] for user in found(response)] == ["reader"]
