"""`manage.py import_legacy`: the predecessor's database arrives whole, twice over, and no gap goes without a line.

`databases/legacy/` is a database that the predecessor's own server has written, in MongoDB's Extended JSON: a file for
each collection. An experiment without runs has none.
"""

import copy
import datetime
import io
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bson
import pytest
from bson import Binary, Code, Int64, ObjectId, json_util
from bson.raw_bson import RawBSONDocument
from django.conf import settings
from django.core.management import CommandError, call_command
from pymongo import MongoClient
from pymongo.database import Database

from accounts.models import User
from audit.models import Event
from core.mongodb.documents import collection_of, insert_many, mongodb
from drifts.models import Drift
from experiments.models import DeletedExperiment, Experiment
from tests.caller import Caller
from tests.live import ROOT
from tests.ports import free_port
from tests.provider import Provider
from transfer.legacy import takeover

SAMPLE = Path(__file__).parent / "databases" / "legacy"
WELD, SCORING = "39dee144-f46a-450f-b4bf-3e933d866651", "276e7b42-13d0-4e4b-8f32-dd62308d3880"
BLANKS = "deea49d6-3722-4b2c-ab36-57a02351514b"
ADA, BEN = "73fcf0a5-a63c-4e73-b52e-8c6f99a255fe", "00610839-6d88-4b3a-855d-3dcd4e8c7018"
RUNS, USERS, EXPERIMENTS = f"app.{WELD}", "app.users", "app.experiments"
# The run of `RUNS` that the tests of odd values change.
DRIFTED = "9b68d1ec-db72-4a4d-8b4e-c1d311ebe049"
WHOLE = ["Users: 2 taken over", "Experiments: 3 taken over", "Runs: 8 taken over", "Parts left out: 0."]

Document = dict[str, Any]


class Legacy:
    """The sample in a database of its own, and the command that imports it."""

    def __init__(self, client: MongoClient[Document], name: str) -> None:
        self.database: Database[Document] = client[name]
        self.uri = urlsplit(settings.MONGODB_URI)._replace(path=f"/{name}").geturl()

    def documents(self, collection: str) -> list[Document]:
        return list(self.database[collection].find())

    def change(self, collection: str, pk: str, fields: Document) -> None:
        """Replace a document by the same with other fields. A field that is `...` is left out."""
        document = {**(self.database[collection].find_one({"_id": pk}) or {}), **fields}
        self.database[collection].delete_one({"_id": pk})
        self.database[collection].insert_one({name: value for name, value in document.items() if value is not ...})

    def imported(self, *options: str) -> tuple[list[str], bool]:
        """Import, and return the lines, and whether the command ended with 0."""
        output = io.StringIO()
        try:
            call_command("import_legacy", self.uri, *options, stdout=output)
        except CommandError:
            return output.getvalue().splitlines(), False
        return output.getvalue().splitlines(), True


@pytest.fixture
def legacy(testrun_uid: str, worker_id: str) -> Iterator[Legacy]:
    with MongoClient[Document](settings.MONGODB_URI) as client:
        copied = Legacy(client, f"legacy_{testrun_uid[:8]}_{worker_id}")
        for file in SAMPLE.glob("*.json"):
            copied.database[file.stem].insert_many(json_util.loads(file.read_text()))
        yield copied
        client.drop_database(copied.database)


def stored() -> dict[str, list[Document]]:
    """All documents of the service, by collection."""
    database = mongodb().database
    return {name: list(database[name].find().sort("_id")) for name in sorted(database.list_collection_names())}


def in_json(value: Any) -> Any:
    """A value as a JSON response has it."""
    match value:
        case dict():
            return {name: in_json(part) for name, part in value.items()}
        case list():
            return [in_json(part) for part in value]
        case Int64():
            return int(value)
        case _:
            return value


def milliseconds(text: str) -> str:
    """A time of the predecessor as responses have it: MongoDB stores whole milliseconds."""
    time = datetime.datetime.fromisoformat(text)
    return time.replace(microsecond=time.microsecond // 1000 * 1000).isoformat() + "Z"


# The sample.


def test_the_sample_arrives_whole(legacy: Legacy, admin: Caller) -> None:
    lines, is_whole = legacy.imported()
    assert is_whole
    assert [line.partition(",")[0] for line in lines[-4:]] == WHOLE
    for user in legacy.documents(USERS):
        (shown,) = admin.post("/user/search", {"id": user["_id"]}).json()
        assert shown == {**renamed(user), "created_at": milliseconds(user["created_at"])}
    for experiment in legacy.documents(EXPERIMENTS):
        path = f"/experiment/{experiment['_id']}"
        shown = admin.get(path).json()
        expected = {**renamed(experiment), "created_at": milliseconds(experiment["created_at"])}
        assert {name: shown[name] for name in expected} == expected
        assert shown["updated_at"] == shown["created_at"]
        runs = legacy.documents(f"app.{experiment['_id']}")
        assert len(admin.post(f"{path}/drift/search?page_size=100", {}).json()) == len(runs)
        for run in runs:
            shown = admin.get(f"{path}/drift/{run['_id']}").json()
            expected = renamed(run) | {"created_at": milliseconds(run["created_at"]), "schema_version": "1.1.0"}
            assert {name: shown[name] for name in expected} == in_json(expected)
            assert shown["observed_at"] == shown["updated_at"] == shown["created_at"]
            assert shown["series"] == {"model": run["model"]}


def renamed(document: Document) -> Document:
    return {"id" if name == "_id" else name: value for name, value in document.items()}


def test_users_keep_their_access(legacy: Legacy, provider: Provider) -> None:
    legacy.database[USERS].update_many({}, {"$set": {"issuer": provider.issuer}})
    legacy.imported()
    ada, ben = (Caller(provider.token(f"legacy-{name}", "users")) for name in ("ada", "ben"))
    assert ada.get("/user/self").json()["id"] == ADA
    assert ada.patch(f"/experiment/{WELD}", {"description": "Cameras of line 5"}).status_code == 200
    assert ben.patch(f"/experiment/{WELD}/drift/{DRIFTED}", {"note": "checked"}).status_code == 200
    assert ben.delete(f"/experiment/{WELD}").status_code == 403
    assert ada.get(f"/experiment/{SCORING}").status_code == 403


@pytest.mark.parametrize(
    ("filter_", "ours"),
    [
        ({"model": "weld-net 3"}, None),
        ({"model": {"$regex": "^grö"}}, None),
        ({"tags": "nightly"}, None),
        ({"tags": {"$all": ["nightly", "KS Test"]}}, None),
        ({"drift_detected": True, "job_status": "Completed"}, None),
        ({"job_status": {"$in": ["Failed", "Running"]}}, None),
        ({"parameters.p_value": {"$lt": 0.01}}, None),
        ({"parameters.window.size": {"$gte": 500}}, None),
        ({"parameters.scores": {"$elemMatch": {"$gt": 0.5}}}, None),
        ({"parameters.n": 9_007_199_254_740_993}, None),
        ({"parameters.nothing": None, "parameters.n": {"$exists": True}}, None),
        ({"parameters": {}}, None),
        ({"created_at": {"$gte": "2026-11-27T20:49:18.436356", "$lt": "2026-11-27T20:49:18.511289"}}, None),
        ({"created_at": {"$gt": "2026-11-27T20:49:18.5"}}, None),
        ({"$or": [{"model": "größe-µ"}, {"parameters.p_value": 0.003}]}, None),
        ({"_id": "4b85d56c-f631-427a-93ba-34390b78c20a"}, None),
        ({"parameters.petal.length.p": 0.2}, {r"parameters.petal\.length.p": 0.2}),
    ],
    ids=str,
)
def test_filters_find_the_same_runs(legacy: Legacy, admin: Caller, filter_: Document, ours: Document | None) -> None:
    """MongoDB itself cannot reach a name with a dot: then `ours` finds the run that has it."""
    legacy.imported()
    expected = {run["_id"] for run in legacy.database[RUNS].find(filter_)}
    if ours:
        expected = {"9210f434-dd88-4d91-965b-958a15807226"}
    found = admin.post(f"/experiment/{WELD}/drift/search?page_size=100", ours or filter_)
    assert {run["id"] for run in found.json()} == expected
    assert expected


def test_runs_are_counted_and_charted_by_the_verdicts_of_this_service(legacy: Legacy, anonymous: Caller) -> None:
    legacy.imported()
    # The failed run says `drift_detected: true`.
    (row,) = anonymous.post(f"/experiment/{WELD}/drift/stats", {}).json()
    assert row["verdicts"] == {"drift": 1, "no_drift": 1, "unknown": 2}
    found = anonymous.post(f"/experiment/{WELD}/series/search", {}).json()
    assert sorted(sum(series["verdicts"].values()) for series in found) == [1, 3]
    page = f"/experiments/{WELD}"
    assert "weld-net 3" in anonymous.client.get(page).content.decode()
    table = anonymous.client.get(f"{page}/chart.csv?y=parameters.p_value").content.decode()
    assert DRIFTED in table
    assert anonymous.client.get(f"{page}/chart.svg?y=parameters.p_value").status_code == 200
    assert anonymous.client.get(f"{page}/timeline").status_code == 200


# Again.


def test_a_second_import_changes_nothing(legacy: Legacy) -> None:
    legacy.imported()
    before = stored()
    lines, is_whole = legacy.imported()
    assert is_whole
    assert stored() == before
    for kind, number in {"Users": 2, "Experiments": 3, "Runs": 8}.items():
        assert f"{kind}: 0 taken over, {number} already here, 0 different here, 0 skipped." in lines


def test_a_dry_run_says_the_same_and_writes_nothing(legacy: Legacy) -> None:
    legacy.change(RUNS, DRIFTED, {"job_status": "Unknown"})
    # A copy of a run in the collection of another experiment, and a second experiment of the same name.
    legacy.database[f"app.{SCORING}"].insert_one(legacy.documents(RUNS)[1])
    twin = {**legacy.documents(EXPERIMENTS)[0], "_id": "ffffffff-1111-4222-8333-444444444444"}
    legacy.database[EXPERIMENTS].insert_one(twin)
    before = stored()
    planned = legacy.imported("--dry-run")
    assert stored() == before
    assert planned[0].pop() == "Nothing was written, because this was a dry run."
    assert planned == legacy.imported()
    assert "Runs: 7 taken over, 0 already here, 0 different here, 2 skipped." in planned[0]
    assert "Experiments: 3 taken over, 0 already here, 0 different here, 1 skipped." in planned[0]


def test_new_runs_of_the_predecessor_are_added(legacy: Legacy) -> None:
    legacy.imported()
    legacy.database[RUNS].insert_one({**legacy.documents(RUNS)[0], "_id": str(uuid.uuid4())})
    lines, is_whole = legacy.imported()
    assert is_whole
    assert "Runs: 1 taken over, 8 already here, 0 different here, 0 skipped." in lines


def test_what_was_changed_here_is_told_and_stays(legacy: Legacy, admin: Caller) -> None:
    legacy.imported()
    run, experiment = f"/experiment/{WELD}/drift/{DRIFTED}", f"/experiment/{SCORING}"
    assert admin.patch(run, {"tags": ["checked"], "parameters": {}}).status_code == 200
    assert admin.patch(experiment, {"public": True, "name": "scores"}).status_code == 200
    User.objects.filter(pk=ADA).update(email="ada@example.org")
    before = stored()
    lines, is_whole = legacy.imported()
    assert not is_whole
    assert stored() == before
    assert f'Different here: {RUNS} "{DRIFTED}": parameters, tags. It stays as it is here.' in lines
    assert f'Different here: {EXPERIMENTS} "{SCORING}": name, public. It stays as it is here.' in lines
    assert f'Different here: {USERS} "{ADA}": email. It stays as it is here.' in lines


def test_runs_follow_the_rules_that_their_experiment_has_here(legacy: Legacy, admin: Caller) -> None:
    legacy.imported()
    admin.patch(f"/experiment/{WELD}", {"field_map": {"p_value": "parameters.p_value"}})
    collection_of(Drift).delete_one({"_id": uuid.UUID(DRIFTED).hex})
    legacy.imported()
    assert admin.get(f"/experiment/{WELD}/drift/{DRIFTED}").json()["p_value"] == 0.003


def during_storage(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Act once, while the import stores the first runs of the experiment `WELD`."""

    def store(model: Any, documents: list[Document]) -> None:
        insert_many(model, documents)
        if documents[0]["experiment_id"] == uuid.UUID(WELD).hex:
            act()

    monkeypatch.setattr(takeover, "insert_many", store)


def test_rules_that_change_meanwhile_hold_for_the_runs(
    legacy: Legacy, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    during_storage(monkeypatch, lambda: admin.patch(f"/experiment/{WELD}", {"series_by": ["parameters.p_value"]}))
    legacy.imported()
    assert admin.get(f"/experiment/{WELD}/drift/{DRIFTED}").json()["series"] == {"parameters.p_value": 0.003}


def test_an_experiment_that_is_deleted_meanwhile_leaves_no_runs(
    legacy: Legacy, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.legacy.database.BATCH_SIZE", 2)
    during_storage(monkeypatch, lambda: admin.delete(f"/experiment/{WELD}"))
    lines, is_whole = legacy.imported()
    assert not is_whole
    assert f"Skipped: {RUNS}: 2 runs, because their experiment was deleted here meanwhile." in lines
    assert not collection_of(Drift).count_documents({"experiment_id": uuid.UUID(WELD).hex})
    monkeypatch.undo()
    # The runs may not come back before the deletion has ended.
    lines, _ = legacy.imported()
    assert any(line.startswith(f'Skipped: {EXPERIMENTS} "{WELD}": it is in the trash here.') for line in lines)
    DeletedExperiment.objects.all().delete()
    assert "Runs: 4 taken over, 4 already here, 0 different here, 0 skipped." in legacy.imported()[0]


def test_two_imports_at_once_store_each_run_once(legacy: Legacy, monkeypatch: pytest.MonkeyPatch) -> None:
    def store_twice(model: Any, documents: list[Document]) -> None:
        # The other import is faster.
        insert_many(model, documents)
        monkeypatch.undo()
        insert_many(model, documents)

    monkeypatch.setattr(takeover, "insert_many", store_twice)
    lines, is_whole = legacy.imported()
    assert is_whole
    assert "Runs: 4 taken over, 4 already here, 0 different here, 0 skipped." in lines


def test_the_trail_has_one_event_of_each_import(legacy: Legacy, admin: Caller) -> None:
    legacy.imported()
    legacy.imported()
    events = admin.post("/audit/search", {"action": "imported"}).json()
    numbers = {event["experiment_id"]: event["after"]["drift_runs"] for event in events}
    assert (numbers, len(events)) == ({WELD: 4, SCORING: 4, BLANKS: 0}, 3)
    assert {event["actor"]["kind"] for event in events} == {"command line"}
    assert Event.objects.matching({"action": "experiment_created"}).count() == 3
    assert Event.objects.matching({"action": "registered"}).count() == 2


def test_an_import_that_is_killed_is_completed_by_the_next(legacy: Legacy) -> None:
    template, number = legacy.documents(RUNS)[0], 2_500
    legacy.database[RUNS].insert_many([{**copy.deepcopy(template), "_id": str(uuid.uuid4())} for _ in range(number)])
    environment = {**os.environ, "MONGODB_NAME": mongodb().settings_dict["NAME"]}
    environment["DJANGO_SETTINGS_MODULE"] = "driftwatch.settings"
    command = [sys.executable, "manage.py", "import_legacy", legacy.uri]
    runs = collection_of(Drift)
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        while runs.estimated_document_count() < 1_000:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert 0 < runs.count_documents({}) < number
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert runs.count_documents({}) == number + 8
    assert legacy.imported()[1]
    event = Event.objects.matching({"action": "imported", "experiment_id": uuid.UUID(WELD).hex}).get()
    assert event.after["drift_runs"] == number + 4


# Times.


@pytest.mark.parametrize(
    ("written", "zone", "expected", "note"),
    [
        ("2026-07-01T12:00:00.123456", "UTC", "2026-07-01T12:00:00.123000Z", None),
        ("2026-07-01T12:00:00", "Europe/Berlin", "2026-07-01T10:00:00Z", None),
        ("2026-01-01T12:00:00", "Europe/Berlin", "2026-01-01T11:00:00Z", None),
        ("2026-01-01T12:00:00Z", "Europe/Berlin", "2026-01-01T12:00:00Z", None),
        ("2026-01-01T12:00:00-05:00", "Europe/Berlin", "2026-01-01T17:00:00Z", None),
        (datetime.datetime(2026, 1, 1, 12), "Europe/Berlin", "2026-01-01T12:00:00Z", None),
        ("2026-10-25T02:30:00", "Europe/Berlin", "2026-10-25T00:30:00Z", "the clocks showed twice"),
        ("2026-03-29T02:30:00", "Europe/Berlin", "2026-03-29T01:30:00Z", "the clocks skipped"),
    ],
)
def test_a_time_without_a_zone_has_that_of_the_predecessor(
    legacy: Legacy, admin: Caller, written: Any, zone: str, expected: str, note: str | None
) -> None:
    legacy.change(RUNS, DRIFTED, {"created_at": written})
    lines, is_whole = legacy.imported("--time-zone", zone)
    assert is_whole
    assert admin.get(f"/experiment/{WELD}/drift/{DRIFTED}").json()["created_at"] == expected
    notes = [line for line in lines if line.startswith("Note: ")]
    assert len(notes) == bool(note)
    assert all(f'{RUNS} "{DRIFTED}": created_at is ' in line and str(note) in line for line in notes)


# Odd values.


def nested(levels: int) -> Document:
    value: Document = {}
    for _ in range(levels):
        value = {"a": value}
    return value


KEPT: dict[str, Document] = {
    "long tags": {"tags": ["t" * 300] * 60 + [""]},
    "a long model": {"model": "m" * 1_020},
    "a blank model": {"model": "  "},
    "an empty model": {"model": ""},
    "odd names": {"parameters": {"a.b": {"$c": 1}, "": 2, "$d": [{"e.f": None}]}},
    "a reference": {"parameters": {"ref": {"$ref": "x", "$id": 1}}},
    "deep parameters": {"parameters": nested(49)},
    "large numbers": {"parameters": {"n": Int64(2**63 - 1), "x": 1e308}},
    "numbers that are not finite": {"parameters": {"p_value": float("nan"), "l": [float("inf")]}},
    "no tags": {"tags": ...},
    "no parameters": {"parameters": None},
    "no version": {"schema_version": ...},
    "a failed run without drift_detected": {"job_status": "Failed", "drift_detected": ...},
    "the first year": {"created_at": "1970-01-01T00:00:00"},
    "the last year": {"created_at": "2999-12-31T23:59:59.999999"},
}


def test_odd_runs_are_kept_and_shown(legacy: Legacy, admin: Caller, anonymous: Caller) -> None:
    template = legacy.documents(RUNS)[0]
    odd = {kind: {**template, "_id": str(uuid.uuid4()), **fields} for kind, fields in KEPT.items()}
    runs = [{name: value for name, value in run.items() if value is not ...} for run in odd.values()]
    legacy.database[RUNS].insert_many(runs)
    assert legacy.imported()[1]
    before = stored()
    assert legacy.imported()[1]
    # NaN is not equal to itself.
    assert str(stored()) == str(before)
    path, page = f"/experiment/{WELD}", f"/experiments/{WELD}"
    for run in runs:
        shown = admin.get(f"{path}/drift/{run['_id']}").json()
        assert {name: shown[name] for name in ("model", "job_status")} == {
            name: run[name] for name in ("model", "job_status")
        }
        assert shown["tags"] == run.get("tags", [])
        assert anonymous.client.get(f"{page}/runs/{run['_id']}").status_code == 200
    for order in ("created_at", "observed_at", "model"):
        following, ids = f"{path}/drift/search?sort_by={order}&page_size=2", []
        while following:
            found = admin.post(following, {})
            assert found.status_code == 200, found.content
            ids += [run["id"] for run in found.json()]
            following = found["Link"].partition('rel="first", <')[2].partition('>; rel="next"')[0]
            following = following.partition("/api/v1")[2]
        assert len(set(ids)) == len(ids) == len(runs) + 4
    statistics = {"interval": "month", "group_by": "model", "measures": ["parameters.p_value"]}
    for request, body in {"drift/stats": statistics, "series/search": {}}.items():
        assert admin.post(f"{path}/{request}", body).status_code == 200
    selected = "&".join(f"selected={run['_id']}" for run in runs)
    for address in (
        page,
        f"{page}?column=parameters.p_value&sort_by=model",
        f"{page}/compare?{selected}",
        f"{page}/timeline",
        f"{page}/timeline.csv",
        f"{page}/chart?y=parameters.p_value",
        f"{page}/chart.svg?y=parameters.p_value&fit=1",
        f"{page}/chart.csv?y=parameters.p_value",
    ):
        assert anonymous.client.get(address).status_code == 200, address


REFUSED: dict[str, tuple[Document, str]] = {
    "an unknown status": ({"job_status": "Queued"}, 'job_status is "Queued", which is none of Running, Completed'),
    "no status": ({"job_status": ...}, "its job_status is missing."),
    "no model": ({"model": ...}, "its model is missing."),
    "a number as model": ({"model": 7}, "model is 7, which is not a text."),
    "code as model": ({"model": Code("f()")}, "which is not a text."),
    "a model for no cursor": ({"model": "ü" * 511}, "model has more than 1,020 bytes in UTF-8"),
    "a model with NUL": (
        {"model": "a\0b"},
        "model cannot be stored. A string must not hold the character NUL (U+0000).",
    ),
    "no drift_detected": ({"drift_detected": ...}, "its drift_detected is missing."),
    "null as drift_detected": ({"drift_detected": None}, "its drift_detected is null."),
    "a text as drift_detected": (
        {"drift_detected": "yes"},
        'drift_detected is "yes", which is neither true',
    ),
    "no created_at": ({"created_at": ...}, "its created_at is missing."),
    "a number as created_at": ({"created_at": 1.5}, "created_at is 1.5, which is not an ISO time."),
    "no time": ({"created_at": "yesterday"}, 'created_at is "yesterday", which is not an ISO time.'),
    "a time before the first": ({"created_at": "0001-01-01T00:00:00+02:00"}, "which is no time in UTC."),
    "a time before 1970": ({"created_at": "1969-12-31T23:59:59"}, "which is outside the years 1970 to 2999."),
    "a time after the last": ({"created_at": "9999-12-31T00:00:00"}, "which is outside the years 1970 to 2999."),
    "a list as parameters": ({"parameters": [1]}, "parameters is [1], which is not an object."),
    "an ObjectId": ({"parameters": {"a": [ObjectId()]}}, '"parameters.a.0" is a value of the type ObjectId'),
    "binary data": ({"parameters": {"a": Binary(b"\xff")}}, '"parameters.a" is a value of the type bytes'),
    "a time in parameters": ({"parameters": {"a": datetime.datetime(2026, 1, 1)}}, "of the type datetime"),
    "too deep parameters": ({"parameters": nested(60)}, '"parameters" cannot be stored. Nested deeper than 50 levels.'),
    "a text as tags": ({"tags": "nightly"}, 'tags is "nightly", which is not a list.'),
    "a number as tag": ({"tags": ["a", 7]}, "an element of tags is 7, which is not a text."),
    "another version": ({"schema_version": "0.9"}, 'schema_version is "0.9", and only 1.0.0 is known.'),
}


def test_unusable_runs_are_skipped_with_the_reason(legacy: Legacy) -> None:
    template = legacy.documents(RUNS)[0]
    for fields, _ in REFUSED.values():
        legacy.change(RUNS, str(uuid.uuid4()), {**template, "_id": str(uuid.uuid4()), **fields})
    ids = {run["_id"] for run in legacy.documents(RUNS)[4:]}
    lines, is_whole = legacy.imported()
    assert not is_whole
    skipped = [line for line in lines if line.startswith("Skipped: ")]
    assert {line.split('"')[1] for line in skipped} == ids
    for _, reason in REFUSED.values():
        assert any(reason in line for line in skipped), reason
    assert f"Runs: 8 taken over, 0 already here, 0 different here, {len(REFUSED)} skipped." in lines


def test_a_run_keeps_its_id_or_is_skipped(legacy: Legacy) -> None:
    ids = [ObjectId(), 7, "run-7", DRIFTED.upper(), DRIFTED.replace("-", "")]
    template = legacy.documents(RUNS)[0]
    legacy.database[RUNS].insert_many([{**template, "_id": pk} for pk in ids])
    lines, is_whole = legacy.imported()
    assert not is_whole
    assert sum(": its id is not a UUID in lower case with dashes." in line for line in lines) == len(ids)
    assert "Runs: 8 taken over, 0 already here, 0 different here, 5 skipped." in lines


def test_a_field_that_is_not_the_predecessors_is_left_out_with_a_line(legacy: Legacy, admin: Caller) -> None:
    legacy.change(RUNS, DRIFTED, {"detector": "KS", "verdict": 1})
    lines, is_whole = legacy.imported()
    assert not is_whole
    reason = 'the fields "detector", "verdict", which the predecessor\'s schema does not have'
    assert f'Left out: {RUNS} "{DRIFTED}": {reason}.' in lines
    assert "Parts left out: 1." in lines
    assert admin.get(f"/experiment/{WELD}/drift/{DRIFTED}").json()["detector"] is None


def test_numbers_that_are_not_finite_are_told(legacy: Legacy, admin: Caller) -> None:
    legacy.change(RUNS, DRIFTED, {"parameters": {"p_value": float("nan")}})
    lines, _ = legacy.imported()
    assert any(line.startswith(f'Note: {RUNS} "{DRIFTED}": parameters.p_value is not finite') for line in lines)
    assert admin.get(f"/experiment/{WELD}/drift/{DRIFTED}").json()["parameters"] == {"p_value": None}


def test_the_id_of_a_run_of_another_experiment_is_told(legacy: Legacy) -> None:
    legacy.database[f"app.{SCORING}"].insert_one(legacy.documents(RUNS)[1])
    for taken, here in ((8, 0), (0, 8)):
        lines, is_whole = legacy.imported()
        assert not is_whole
        assert f"Runs: {taken} taken over, {here} already here, 0 different here, 1 skipped." in lines
        assert any("its id is that of a run of the experiment " in line for line in lines)


def test_runs_without_an_experiment_are_told(legacy: Legacy) -> None:
    legacy.database["app.unknown"].insert_one({"_id": 1})
    legacy.database[EXPERIMENTS].delete_one({"_id": SCORING})
    lines, is_whole = legacy.imported()
    assert not is_whole
    for collection, runs in {"app.unknown": 1, f"app.{SCORING}": 4}.items():
        reason = "because app.experiments has no experiment with this id"
        assert f"Skipped: {collection}: {runs} runs, {reason}." in lines


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ...}, "its name is missing."),
        ({"name": "ü" * 511}, "name has more than 1,020 bytes in UTF-8"),
        ({"public": "yes"}, 'public is "yes", which is neither true nor false.'),
        ({"permissions": {"a": 1}}, "permissions is {'a': 1}, which is not a list."),
        ({"description": ["a"]}, "description is ['a'], which is not a text."),
    ],
    ids=str,
)
def test_an_unusable_experiment_is_skipped_with_its_runs(legacy: Legacy, fields: Document, reason: str) -> None:
    legacy.change(EXPERIMENTS, WELD, fields)
    lines, is_whole = legacy.imported()
    assert not is_whole
    assert any(line.startswith(f'Skipped: {EXPERIMENTS} "{WELD}": ') and reason in line for line in lines)
    assert f"Skipped: {RUNS}: 4 runs, because their experiment is skipped." in lines
    assert "Runs: 4 taken over, 0 already here, 0 different here, 4 skipped." in lines


@pytest.mark.parametrize("name", ["", "   ", "n" * 1_000, "a\nb"])
def test_an_odd_name_is_kept_and_shown(legacy: Legacy, admin: Caller, anonymous: Caller, name: str) -> None:
    legacy.change(EXPERIMENTS, WELD, {"name": name, "description": "d" * 20_000})
    assert legacy.imported()[1]
    assert admin.get(f"/experiment/{WELD}").json()["name"] == name
    for path in ("/experiments", f"/experiments/{WELD}", f"/experiments/{WELD}/timeline"):
        assert anonymous.client.get(path).status_code == 200


def test_a_name_that_is_taken_here_is_told(legacy: Legacy, experiment: Experiment) -> None:
    legacy.change(EXPERIMENTS, WELD, {"name": experiment.name})
    lines, is_whole = legacy.imported()
    assert not is_whole
    reason = f'its name "wine quality" is taken here by the experiment {experiment.pk}. Rename that one.'
    assert f'Skipped: {EXPERIMENTS} "{WELD}": {reason}' in lines
    Experiment.objects.filter(pk=experiment.pk).update(name="wine")
    assert "Runs: 4 taken over, 4 already here, 0 different here, 0 skipped." in legacy.imported()[0]


def test_permissions_that_mean_nothing_here_are_left_out(legacy: Legacy, admin: Caller) -> None:
    unknown = str(uuid.uuid4())
    odd = [{"entity": ADA, "level": "Own"}, {"level": "Read"}, "Read", {"entity": "", "level": "Read"}]
    kept = [{"entity": unknown, "level": "Edit"}, {"entity": "urn:" + "g" * 300, "level": "Read"}]
    legacy.change(EXPERIMENTS, WELD, {"permissions": [*odd, *kept]})
    lines, is_whole = legacy.imported()
    assert not is_whole
    assert "Parts left out: 4." in lines
    place = f'{EXPERIMENTS} "{WELD}"'
    assert f"Note: {place}: it has no manager, so only administrators can manage it." in lines
    assert f"Note: {place}: the permission Edit of {unknown} is kept, but no user has this id." in lines
    assert admin.get(f"/experiment/{WELD}").json()["permissions"] == kept


def test_a_person_who_is_registered_here_keeps_the_id_of_here(legacy: Legacy, provider: Provider) -> None:
    legacy.database[USERS].update_one({"_id": ADA}, {"$set": {"issuer": provider.issuer}})
    here = User.objects.create(issuer=provider.issuer, subject="legacy-ada", email="ada@example.org")
    lines, is_whole = legacy.imported()
    assert is_whole
    assert any(line.startswith(f'Note: {USERS} "{ADA}": ') and str(here.pk) in line for line in lines)
    ada = Caller(provider.token("legacy-ada", "users"))
    assert ada.get("/user/self").json()["email"] == "ada@example.org"
    entries = ada.get(f"/experiment/{WELD}").json()["permissions"]
    assert {"entity": str(here.pk), "level": "Manage"} in entries
    assert legacy.imported()[1]


def test_nobody_gets_the_access_of_another_person_with_the_same_id(legacy: Legacy, provider: Provider) -> None:
    User.objects.create(id=uuid.UUID(ADA), issuer=provider.issuer, subject="mallory", email="mallory@example.org")
    lines, is_whole = legacy.imported()
    assert not is_whole
    reason = 'its id is that of another account here, with the subject "mallory".'
    assert f'Skipped: {USERS} "{ADA}": {reason}' in lines
    left_out = f"the permission Manage of {ADA}, the id of another account here"
    assert f'Left out: {EXPERIMENTS} "{WELD}": {left_out}.' in lines
    assert Caller(provider.token("mallory", "users")).get(f"/experiment/{BLANKS}").status_code == 403


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subject": ...}, "its subject is missing."),
        ({"issuer": " "}, "its issuer is blank."),
        ({"email": 7}, "email is 7, which is not a text."),
        ({"created_at": "never"}, "which is not an ISO time."),
    ],
    ids=str,
)
def test_an_unusable_user_is_skipped_with_the_reason(legacy: Legacy, fields: Document, reason: str) -> None:
    legacy.change(USERS, BEN, fields)
    lines, is_whole = legacy.imported()
    assert not is_whole
    assert any(line.startswith(f'Skipped: {USERS} "{BEN}": ') and reason in line for line in lines)
    assert f'Note: {EXPERIMENTS} "{WELD}": the permission Edit of {BEN} is kept, but no user has this id.' in lines


def test_a_damaged_document_is_told(legacy: Legacy) -> None:
    """MongoDB stores a text that is not UTF-8."""
    template = json_util.loads((SAMPLE / f"{RUNS}.json").read_text())[0]
    raw = bson.encode({**template, "_id": DRIFTED, "model": "xyz"}).replace(b"xyz", b"x\xffz")
    legacy.database[RUNS].delete_one({"_id": DRIFTED})
    legacy.database[RUNS].insert_one(RawBSONDocument(raw))
    lines, is_whole = legacy.imported()
    assert not is_whole
    assert any(line.startswith(f'Skipped: {RUNS} "{DRIFTED}": it cannot be read (') for line in lines)


# The command.


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("mongodb://localhost", "The address names no database. Append its name: mongodb://host/name."),
        ("localhost/legacy", "This is no address of a MongoDB."),
        ("mongodb://ada:hun/ter2@localhost/legacy", "This is no address of a MongoDB."),
        ("mongodb://localhost:port/legacy", "This is no address of a MongoDB."),
    ],
)
def test_a_wrong_address_is_explained(uri: str, sentence: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("import_legacy", uri)
    assert str(refused.value).startswith(sentence)
    assert "ter2" not in str(refused.value)


def test_a_server_that_does_not_respond_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfer.legacy.database.SECONDS_TO_CONNECT", 0.2)
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(CommandError, match=rf"does not respond \({address}: .*\)\. Check the address"):
        call_command("import_legacy", f"mongodb://{address}/legacy")


def test_another_database_is_told_from_the_predecessors(legacy: Legacy) -> None:
    with pytest.raises(CommandError, match=r"has no collection app\.experiments"):
        call_command("import_legacy", f"{legacy.uri.replace(legacy.database.name, 'nothing')}")


def test_an_unknown_time_zone_is_refused(legacy: Legacy) -> None:
    with pytest.raises(CommandError, match="'Berlin' is no time zone"):
        call_command("import_legacy", legacy.uri, "--time-zone", "Berlin")
