"""Commands on runs name their experiment, which is the head of the shard key (docs/scaling.md).

A sharded cluster sends a command that names the experiment to the shard that has its runs, and any other command to all
shards.
"""

import datetime
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import resolve
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from pytest_django import Settings

from core.mongodb.documents import collection_of, mongodb
from drifts.models import Drift
from drifts.overdue import fail_overdue_runs
from drifts.recomputation import recompute_runs
from drifts.retention import remove_old_runs
from drifts.upgrades import upgrade_runs
from driftwatch.api_urls import urlpatterns as api_patterns
from experiments.models import DeletedExperiment, Experiment
from pages.urls import urlpatterns as page_patterns
from tests.caller import FORM, Caller
from tests.conftest import RUN
from tests.session import through_session, version_shown
from tests.test_observed_at import as_older_record
from tests.uploads import MULTIPART, form, part, stored_file

RUNS = Drift._meta.db_table
# The names of a command's filters, below the list of its statements if it has one.
STATEMENTS = {"update": "updates", "delete": "deletes"}
FILTERS = {"find": "filter", "count": "query", "distinct": "query", "findAndModify": "query"}


@dataclass(frozen=True)
class Request:
    """A request for the runs of one experiment. `{experiment}`, `{run}` and `{other}` stand for ids."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


API = "/api/v1/experiment/{experiment}"
PAGES = "/experiments/{experiment}"
PORTAL = "/admin/drifts/drift"
EXISTING = {"If-Match": "*"}
ONCE = {"Idempotency-Key": "1"}
LONG_AGO = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CHART = "x=parameters.p_value&y=created_at"

# Every request below an experiment. Each sends a command on runs.
REQUESTS = {
    "create": Request("POST", f"{API}/drift", RUN),
    "create once": Request("POST", f"{API}/drift", RUN, ONCE),
    "bulk": Request("POST", f"{API}/drift/bulk", [RUN, RUN]),
    "bulk once": Request("POST", f"{API}/drift/bulk", [RUN, RUN], ONCE),
    "read": Request("GET", f"{API}/drift/{{run}}"),
    "replace": Request("PUT", f"{API}/drift/{{run}}", RUN),
    "replace if unchanged": Request("PUT", f"{API}/drift/{{run}}", RUN, EXISTING),
    "change": Request("PATCH", f"{API}/drift/{{run}}", {"tags": ["late"]}),
    "change if unchanged": Request("PATCH", f"{API}/drift/{{run}}", {"tags": ["late"]}, EXISTING),
    "heartbeat": Request("POST", f"{API}/drift/{{other}}/heartbeat"),
    "delete": Request("DELETE", f"{API}/drift/{{run}}"),
    "delete if unchanged": Request("DELETE", f"{API}/drift/{{run}}", None, EXISTING),
    "upload of a file": Request("POST", f"{API}/drift/{{run}}/file", form(part(b"x"))),
    "list of files": Request("GET", f"{API}/drift/{{run}}/file"),
    "download of a file": Request("GET", f"{API}/drift/{{run}}/file/{{file}}"),
    "deletion of a file": Request("DELETE", f"{API}/drift/{{run}}/file/{{file}}"),
    "search": Request("POST", f"{API}/drift/search", {}),
    "search with a total": Request("POST", f"{API}/drift/search?page_size=1&sort_by=model", {"verdict": "drift"}),
    "search by alternatives": Request("POST", f"{API}/drift/search", {"$or": [{"model": "forest"}, {"tags": "late"}]}),
    "statistics": Request("POST", f"{API}/drift/stats", {"group_by": "model", "interval": "day"}),
    "retention": Request("GET", f"{API}/retention?days=1"),
    "export": Request("GET", f"{API}/export"),
    "export as CSV": Request("GET", f"{API}/export?format=csv"),
    "series": Request("POST", f"{API}/series/search", {"series.model": "forest"}),
    "delete the experiment": Request("DELETE", API),
    "runs page": Request("GET", PAGES),
    "filtered runs page": Request("GET", f"{PAGES}?model=forest&column=parameters.p_value&sort_by=model&page_size=50"),
    "running rows": Request("GET", f"{PAGES}/running?id={{run}}"),
    "comparison": Request("GET", f"{PAGES}/compare?selected={{run}}&selected={{other}}"),
    "comparison as CSV": Request("GET", f"{PAGES}/compare?selected={{run}}&selected={{other}}&format=csv"),
    "chart": Request("GET", f"{PAGES}/chart?{CHART}"),
    "chart of selected runs": Request("GET", f"{PAGES}/chart?{CHART}&only_selected=1&selected={{run}}"),
    "chart as SVG": Request("GET", f"{PAGES}/chart.svg?{CHART}"),
    "chart as CSV": Request("GET", f"{PAGES}/chart.csv?{CHART}"),
    "timeline": Request("GET", f"{PAGES}/timeline"),
    "timeline as SVG": Request("GET", f"{PAGES}/timeline.svg"),
    "timeline as CSV": Request("GET", f"{PAGES}/timeline.csv"),
    "audit trail": Request("GET", f"{PAGES}/audit"),
    "run page": Request("GET", f"{PAGES}/runs/{{run}}"),
    "state of a run": Request("GET", f"{PAGES}/runs/{{run}}/state"),
    "question before the deletion of a run": Request("GET", f"{PAGES}/runs/{{run}}/delete"),
    "deletion of a run on its page": Request("POST", f"{PAGES}/runs/{{run}}/delete"),
    "upload of a file on a page": Request("POST", f"{PAGES}/runs/{{run}}/files", form(part(b"x"))),
    "page of a file": Request("GET", f"{PAGES}/runs/{{run}}/files/{{file}}"),
    "content of a file": Request("GET", f"{PAGES}/runs/{{run}}/files/{{file}}/content"),
    "question before the deletion of a file": Request("GET", f"{PAGES}/runs/{{run}}/files/{{file}}/delete"),
    "deletion of a file on its page": Request("POST", f"{PAGES}/runs/{{run}}/files/{{file}}/delete"),
    "question before the deletion of the experiment": Request("GET", f"{PAGES}/delete"),
    "deletion of the experiment on its page": Request("POST", f"{PAGES}/delete", {"name": "wine quality"}),
}
# Addresses below an experiment whose requests concern the experiment itself.
WITHOUT_RUNS = re.compile(
    r"experiment/<str:experiment_id>(/(archive|restore|access.*|audit/search))?"
    r"|experiments/<str:experiment_id>/(edit|archive|restore|permissions.*|audit\.csv)"
)
# Requests of the portal for one run. Their addresses have at most the id of the run.
PORTAL_REQUESTS = {
    "addition": Request(
        "POST",
        f"{PORTAL}/add/",
        {"experiment": "{experiment}", "job_status": "Failed", "model": "forest", "parameters": "{{}}", "tags": ""},
    ),
    "form": Request("GET", f"{PORTAL}/{{run}}/change/"),
    "change": Request("POST", f"{PORTAL}/{{run}}/change/", {"job_status": "Failed", "model": "forest", "tags": ""}),
    "history": Request("GET", f"{PORTAL}/{{run}}/history/"),
    "question before the deletion": Request("GET", f"{PORTAL}/{{run}}/delete/"),
    "deletion": Request("POST", f"{PORTAL}/{{run}}/delete/", {"post": "yes"}),
}


class Recorder(CommandListener):
    """Collects the commands that the driver sends."""

    def __init__(self) -> None:
        self.commands: list[Mapping[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(event.command)

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...

    def on_runs(self) -> list[Mapping[str, Any]]:
        """The commands on runs, also from pipelines on other collections. A `getMore` continues one of them."""
        return [each for each in self.commands if RUNS in (next(iter(each.values())), *collections_in(each))]


@pytest.fixture(scope="module")
def recording(migrated_database: list[str]) -> Iterator[tuple[MongoClient[dict[str, Any]], Recorder]]:
    recorder = Recorder()
    with MongoClient(**mongodb().get_connection_params() | {"event_listeners": [recorder]}) as client:
        yield client, recorder


@pytest.fixture
def recorder(recording: tuple[MongoClient[dict[str, Any]], Recorder], monkeypatch: pytest.MonkeyPatch) -> Recorder:
    client, recorder = recording
    connection = mongodb()
    monkeypatch.setattr(connection, "database", client[connection.database.name])
    monkeypatch.setattr(connection, "connection", client)
    recorder.commands.clear()
    return recorder


@pytest.fixture
def browser(admin: Caller, settings: Settings) -> Caller:
    return through_session(admin, settings)


@pytest.fixture
def other(drift: Drift) -> Drift:
    """A second run of the experiment, which is Running."""
    return Drift.objects.create_in(drift.experiment, job_status="Running", model="forest")


def send(caller: Caller, request: Request, **ids: Any) -> Any:
    path = request.path.format(**ids)
    if path.startswith("/api/v1"):
        options = {"content_type": MULTIPART} if isinstance(request.body, bytes) else {}
        address = path.removeprefix("/api/v1")
        return caller.request(request.method, address, request.body, headers=request.headers, **options)
    if isinstance(request.body, bytes):
        return caller.client.post(path, request.body, MULTIPART)
    body = {name: value.format(**ids) for name, value in (request.body or {}).items()}
    if "/change/" in path and body:
        body |= version_shown(caller.client, path)
    if request.method == "POST":
        return caller.client.post(path, body, FORM)
    return caller.client.get(path)


# The content of commands.


def pipelines_in(value: Any) -> Iterator[tuple[str, Any]]:
    """The collections that the stages of a pipeline join, at any depth, with their own pipelines."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name in ("$lookup", "$graphLookup", "$unionWith"):
                yield (part, []) if isinstance(part, str) else (part.get("from") or part["coll"], part.get("pipeline"))
            yield from pipelines_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from pipelines_in(part)


def collections_in(value: Any) -> list[str]:
    return [collection for collection, _ in pipelines_in(value)]


def filters_of(command: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Each filter by which a command finds runs, and each run that it inserts. An unknown command is an error.

    That of a pipeline is its first stage, or is missing.
    """
    name, collection = next(iter(command.items()))
    pipelines = list(pipelines_in(command))
    if collection == RUNS:
        if name == "aggregate":
            pipelines.append((RUNS, command["pipeline"]))
        elif name == "insert":
            yield from command["documents"]
        elif name in STATEMENTS:
            yield from (statement["q"] for statement in command[STATEMENTS[name]])
        else:
            yield command[FILTERS[name]]
    for joined, pipeline in pipelines:
        if joined == RUNS:
            yield pipeline[0].get("$match", {}) if pipeline else {}


def names(match: Mapping[str, Any], field: str) -> bool:
    """Return whether a filter compares a field with one value, or with each of a list."""
    match match.get(field):
        case None:
            return any(names(part, field) for part in match.get("$and", ()))
        case {"$in": _} | {"$eq": _}:
            return True
        case value:
            return not isinstance(value, Mapping)


def is_read(command: Mapping[str, Any]) -> bool:
    return next(iter(command)) in ("find", "aggregate")


def assert_suits_a_sharded_cluster(command: Mapping[str, Any], *, may_scatter: bool = False) -> None:
    """Require that a command names the experiment, and in a transaction joins nothing with runs.

    A read that `may_scatter` may name the id of a run instead.
    """
    for match in filters_of(command):
        is_by_id = may_scatter and is_read(command) and names(match, "_id")
        assert names(match, "experiment_id") or is_by_id, command
    if command.get("autocommit") is False:
        # Inside a transaction, MongoDB refuses any $unionWith, and on a sharded cluster a $lookup of sharded runs.
        assert not list(collections_in(command)), command


@pytest.mark.parametrize("name", REQUESTS)
def test_each_command_on_runs_names_the_experiment(
    admin: Caller, browser: Caller, drift: Drift, other: Drift, recorder: Recorder, name: str
) -> None:
    request = REQUESTS[name]
    ids = {"experiment": drift.experiment_id, "run": drift.pk, "other": other.pk, "file": stored_file(drift).pk}
    recorder.commands.clear()
    response = send(admin if request.path.startswith(API) else browser, request, **ids)
    # The content of an export is read while it is sent.
    content = response.getvalue()
    assert response.status_code < 400, content
    assert recorder.on_runs()
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command)


def test_every_address_below_an_experiment_is_tested() -> None:
    """A new address needs a row in `REQUESTS`."""
    ids = dict.fromkeys(("experiment", "run", "other", "file"), uuid.uuid4())
    sent = [(request.method, request.path.format(**ids)) for request in REQUESTS.values()]
    tested = {(method.lower(), resolve(path.partition("?")[0]).route) for method, path in sent}
    served = {
        (method, prefix + str(pattern.pattern))
        for prefix, patterns in (("api/v1/", api_patterns), ("", page_patterns))
        for pattern in patterns
        if "<str:experiment_id>" in str(pattern.pattern) and not WITHOUT_RUNS.fullmatch(str(pattern.pattern))
        for method in {*vars(pattern.callback)["actions"]} - {"head"}
    }
    assert served - tested == set()


@pytest.mark.parametrize("page", ["next", "previous"])
def test_a_page_after_another_names_the_experiment(
    browser: Caller, drift: Drift, other: Drift, recorder: Recorder, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a page reads several ranges, each in a pipeline of its own."""
    monkeypatch.setattr("pages.runs_view.PAGE_SIZES", ("1",))
    address = f"/experiments/{drift.experiment_id}"
    first = browser.client.get(address, {"page_size": "1", "sort_by": "model"}).context["table"]
    second = browser.client.get(f"{address}?{first.next.query}").context["table"]
    view = first.next if page == "next" else second.previous
    recorder.commands.clear()
    assert len(browser.client.get(f"{address}?{view.query}").context["table"].rows) == 1
    assert RUNS in collections_in(recorder.commands)
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command)


def test_the_next_page_of_a_search_names_the_experiment(
    admin: Caller, drift: Drift, other: Drift, recorder: Recorder
) -> None:
    search = f"/experiment/{drift.experiment_id}/drift/search?page_size=1&sort_by=model"
    cursor = json.loads(admin.post(search, {}).headers["X-Pagination"])["next_cursor"]
    recorder.commands.clear()
    assert len(admin.post(f"{search}&cursor={cursor}", {}).json()) == 1
    assert RUNS in collections_in(recorder.commands)
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command)


def test_a_repeated_request_names_the_experiment(admin: Caller, experiment: Experiment, recorder: Recorder) -> None:
    create = [admin.post(f"/experiment/{experiment.pk}/drift", RUN, headers=ONCE) for _ in range(2)]
    assert create[1].headers["Idempotent-Replayed"] == "true"
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command)


@pytest.mark.parametrize("name", PORTAL_REQUESTS)
def test_the_portal_finds_a_run_by_its_id_alone_but_changes_it_in_its_experiment(
    browser: Caller, drift: Drift, recorder: Recorder, name: str
) -> None:
    request = PORTAL_REQUESTS[name]
    response = send(browser, request, experiment=drift.experiment_id, run=drift.pk)
    assert response.status_code == (200 if request.method == "GET" else 302), response.content
    assert recorder.on_runs()
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command, may_scatter=True)


def test_the_portal_deletes_selected_runs_in_their_experiments(
    browser: Caller, drift: Drift, recorder: Recorder
) -> None:
    selected = {"action": "delete_selected", "_selected_action": str(drift.pk), "post": "yes"}
    assert browser.client.post(f"{PORTAL}/", selected).status_code == 302
    (deletion,) = (command for command in recorder.on_runs() if not is_read(command))
    assert_suits_a_sharded_cluster(deletion)


def test_the_portal_lists_the_runs_of_one_experiment(browser: Caller, drift: Drift, recorder: Recorder) -> None:
    query = {"experiment": str(drift.experiment_id), "model": "forest"}
    assert len(browser.client.get(f"{PORTAL}/", query).context["cl"].result_list) == 1
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command)


def test_the_list_of_experiments_names_those_that_it_shows(browser: Caller, drift: Drift, recorder: Recorder) -> None:
    assert browser.client.get("/experiments").status_code == 200
    assert recorder.on_runs()
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command)


@pytest.mark.parametrize("path", ["/drift/search", "/drift/stats"])
def test_a_search_of_all_runs_names_the_experiments_that_the_caller_may_read(
    reader: Caller, drift: Drift, recorder: Recorder, path: str
) -> None:
    assert len(reader.post(path, {}).json()) == 1
    assert recorder.on_runs()
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command)


def test_a_purge_names_the_experiment(drift: Drift, recorder: Recorder, settings: Settings) -> None:
    """Also the runs that a bulk request stored during the deletion are removed so."""
    settings.TRASH_DAYS = 0
    Drift.objects.create_all_in(drift.experiment, [RUN])
    Experiment.objects.filter(pk=drift.experiment_id)._raw_delete("default")
    with pytest.raises(Experiment.DoesNotExist):
        Drift.objects.create_all_in(drift.experiment, [RUN])
    DeletedExperiment.objects.create(id=drift.experiment_id, name="wine quality")
    call_command("purge", verbosity=0)
    assert not Drift.objects.exists()
    changes = [command for command in recorder.on_runs() if not is_read(command)]
    assert {next(iter(command)) for command in changes} == {"insert", "delete"}
    for command in changes:
        assert_suits_a_sharded_cluster(command)


def test_background_work_on_runs_names_the_experiment(
    experiment: Experiment, drift: Drift, manager: Caller, recorder: Recorder
) -> None:
    as_older_record(str(drift.pk))
    preparation = len(recorder.on_runs())
    upgrade_runs(lambda: False)
    manager.patch(f"/experiment/{experiment.pk}", {"field_map": {"p_value": "parameters.p_value"}})
    recompute_runs(lambda: False)
    commands = recorder.on_runs()[preparation:]
    assert [next(iter(command)) for command in commands].count("update") == 2
    for command in commands:
        assert_suits_a_sharded_cluster(command)


def test_retention_names_the_experiment(experiment: Experiment, drift: Drift, recorder: Recorder) -> None:
    as_older_record(str(Drift.objects.create_in(experiment, job_status="Failed", model="forest").pk))
    collection_of(Drift).update_many({}, {"$set": {"created_at": LONG_AGO}})
    collection_of(Drift).update_one({"_id": drift.pk.hex}, {"$set": {"observed_at": LONG_AGO}})
    Experiment.objects.update(retention_days=1, retention_seen=1, retention_seen_at=LONG_AGO)
    preparation = len(recorder.on_runs())
    remove_old_runs(lambda: False)
    commands = recorder.on_runs()[preparation:]
    assert not Drift.objects.exists()
    assert [next(iter(command)) for command in commands].count("delete") == 2
    for command in commands:
        assert_suits_a_sharded_cluster(command)


def test_only_the_search_for_overdue_runs_asks_all_shards(other: Drift, recorder: Recorder) -> None:
    overdue = {"run_timeout": 1, "created_at": datetime.datetime(2026, 1, 1)}
    collection_of(Drift).update_one({"_id": other.pk.hex}, {"$set": overdue})
    preparation = len(recorder.on_runs())
    fail_overdue_runs(lambda: False)
    commands = recorder.on_runs()[preparation:]
    searches = [command for command in commands if command.get("aggregate") == Experiment._meta.db_table]
    assert ["autocommit" in command for command in searches] == [False, False]
    others = [command for command in commands if command not in searches]
    assert [next(iter(command)) for command in others] == ["find", "find", "update"]
    for command in others:
        assert_suits_a_sharded_cluster(command)


def test_the_methods_of_a_run_name_its_experiment(drift: Drift, recorder: Recorder) -> None:
    """Django's own methods name a run by its id alone."""
    drift.model = "oak"
    drift.save()
    drift.save(update_fields=["model"])
    drift.refresh_from_db()
    assert drift.delete() == (1, {"drifts.Drift": 1})
    assert {next(iter(command)) for command in recorder.on_runs()} == {"aggregate", "find", "update", "delete"}
    for command in recorder.on_runs():
        assert_suits_a_sharded_cluster(command)


COUNT = {"aggregate": RUNS, "pipeline": [{"$match": {"experiment_id": "1"}}, {"$count": "runs"}]}
SORTED: list[dict[str, Any]] = [{"$sort": {"created_at": 1}}, {"$match": {"experiment_id": "1"}}]
JOIN = {"$lookup": {"from": RUNS, "pipeline": [{"$match": {"experiment_id": "1"}}], "as": "runs"}}
BY_ID: dict[str, Any] = {"$match": {"_id": "1"}}


@pytest.mark.parametrize(
    ("command", "is_suitable"),
    [
        (COUNT, True),
        ({**COUNT, "autocommit": False}, True),
        ({"find": RUNS, "filter": {"$and": [{"model": "oak"}, {"experiment_id": {"$in": ["1"]}}]}}, True),
        ({"find": RUNS, "filter": {"experiment_id": {"$ne": "1"}}}, False),
        ({"find": RUNS, "filter": {"$or": [{"experiment_id": "1"}, {"model": "oak"}]}}, False),
        ({"find": RUNS, "filter": {}}, False),
        ({"aggregate": RUNS, "pipeline": SORTED}, False),
        ({"aggregate": RUNS, "pipeline": [*COUNT["pipeline"], {"$unionWith": {"coll": RUNS, "pipeline": []}}]}, False),
        ({"aggregate": "experiments", "pipeline": [BY_ID, JOIN]}, True),
        ({"aggregate": "experiments", "pipeline": [BY_ID, JOIN], "autocommit": False}, False),
        ({"aggregate": "experiments", "pipeline": [{"$lookup": {**JOIN["$lookup"], "pipeline": [BY_ID]}}]}, False),
        ({"aggregate": "experiments", "pipeline": [{"$facet": {"runs": [{"$unionWith": RUNS}]}}]}, False),
        ({"update": RUNS, "updates": [{"q": {"experiment_id": "1"}, "u": {}}, {"q": {"_id": "1"}, "u": {}}]}, False),
        ({"delete": RUNS, "deletes": [{"q": {"_id": "1"}, "limit": 1}]}, False),
        ({"insert": RUNS, "documents": [{"_id": "1"}]}, False),
    ],
)
def test_the_rule_of_this_file(command: dict[str, Any], is_suitable: bool) -> None:
    if is_suitable:
        assert_suits_a_sharded_cluster(command)
        return
    with pytest.raises(AssertionError):
        assert_suits_a_sharded_cluster(command)
