"""Deletion of experiments: an experiment is hidden at once, and its runs are purged. Here there is no trash."""

import datetime
import importlib
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError
from pymongo.database import Database
from pymongo.errors import AutoReconnect
from pytest_django import Settings

from audit.models import Event
from core import timestamps
from core.mongodb.documents import collection_of, delete_one, insert_many, insert_one, mongodb
from drifts import models
from drifts.models import Drift, DriftManager
from experiments.models import LONGEST_REQUEST, DeletedExperiment, Experiment
from tests.caller import Caller
from tests.conftest import RUN, purge_in_background
from tests.crowd import RemoteUser
from tests.session import through_session

WRITERS = 6


@pytest.fixture(autouse=True)
def without_trash(settings: Settings) -> None:
    settings.TRASH_DAYS = 0


@pytest.fixture
def runs(experiment: Experiment) -> list[Drift]:
    return [Drift.objects.create_in(experiment, **RUN) for _ in range(25)]


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.id}"


def interrupt_a_deletion(experiment: Experiment, ago: datetime.timedelta = datetime.timedelta()) -> None:
    """Delete an experiment as a process of 0.1.0 does that ends before its purge."""
    assert delete_one(Experiment, {"_id": experiment.pk.hex})
    record = {"name": experiment.name, "deleted_at": timestamps.now() - ago, "purged_at": None}
    insert_one(DeletedExperiment, {"_id": experiment.pk.hex, **record})


def purge() -> str:
    said = StringIO()
    call_command("purge", stdout=said)
    return said.getvalue()


def recorded() -> list[tuple[str, Any]]:
    return [(event.action, event.before.get("drift_runs")) for event in Event.objects.order_by("id")]


DELETED = [("experiment_deleted", 25)]
PURGED = [*DELETED, ("experiment_purged", 25)]


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("headers", [{}, {"If-Match": "*"}], ids=["as it is", "if it is there"])
def test_all_runs_are_deleted_in_several_batches(
    manager: Caller, path: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "DELETED_AT_ONCE", 10)
    assert manager.delete(path, headers=headers).status_code == 204
    assert Drift.objects.count() == 25, "the response does not wait for the runs"
    purge_in_background()
    assert not Drift.objects.exists()
    assert recorded() == PURGED


def test_the_name_of_a_deleted_experiment_is_free_at_once(manager: Caller, experiment: Experiment, path: str) -> None:
    assert manager.post("/experiment", {"name": experiment.name}).status_code == 409
    assert manager.delete(path).status_code == 204
    assert manager.post("/experiment", {"name": experiment.name}).status_code == 201
    assert manager.post("/experiment", {"name": experiment.name}).status_code == 409


@pytest.mark.parametrize("role", ["anonymous", "reader", "manager", "admin"])
@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("GET", "", None),
        ("GET", "/access", None),
        ("GET", "/drift/{drift}", None),
        ("POST", "/drift/search", {}),
        ("POST", "/drift/stats", {}),
        ("PUT", "", {"name": "renamed"}),
        ("PATCH", "", {"public": True}),
        ("DELETE", "", None),
        ("POST", "/archive", None),
        ("POST", "/restore", None),
        ("POST", "/drift", RUN),
        ("POST", "/drift/bulk", [RUN]),
        ("PATCH", "/drift/{drift}", {"tags": ["late"]}),
        ("DELETE", "/drift/{drift}", None),
        ("POST", "/access/preview", {"public": True}),
        ("POST", "/audit/search", {}),
    ],
)
def test_a_deleted_experiment_is_not_found_by_any_role(
    request: pytest.FixtureRequest, drift: Drift, path: str, role: str, method: str, address: str, body: Any
) -> None:
    caller: Caller = request.getfixturevalue(role)
    Experiment.objects.filter(pk=drift.experiment_id).update(public=True)
    interrupt_a_deletion(drift.experiment)
    response = caller.request(method, path + address.format(drift=drift.id), body)
    reads = method == "GET" or address in ("/drift/search", "/drift/stats")
    assert response.status_code == (404 if role != "anonymous" or reads else 401)
    assert drift.experiment.name not in response.content.decode()


@pytest.mark.parametrize("role", ["anonymous", "reader", "manager", "admin"])
def test_no_search_finds_a_deleted_experiment_or_its_runs(
    request: pytest.FixtureRequest, drift: Drift, role: str
) -> None:
    caller: Caller = request.getfixturevalue(role)
    Experiment.objects.filter(pk=drift.experiment_id).update(public=True)
    searches = ["/experiment/search", "/drift/search", "/drift/stats"]
    assert [len(caller.post(search, {}).json()) for search in searches] == [1, 1, 1]
    interrupt_a_deletion(drift.experiment)
    assert [caller.post(search, {}).json() for search in searches] == [[], [], []]


def test_pages_and_the_portal_do_not_show_a_deleted_experiment(admin: Caller, drift: Drift, settings: Any) -> None:
    client = through_session(admin, settings).client
    Experiment.objects.update(name="sulphates of 2019")
    addresses = [
        f"/experiments/{drift.experiment_id}",
        f"/experiments/{drift.experiment_id}/runs/{drift.id}",
        f"/admin/experiments/experiment/{drift.experiment_id}/change/",
        f"/admin/drifts/drift/{drift.id}/change/",
    ]
    lists = ["/experiments", "/admin/experiments/experiment/", "/admin/drifts/drift/", "/admin/"]
    assert [client.get(address, headers={"accept": "text/html"}).status_code for address in addresses] == [200] * 4
    interrupt_a_deletion(drift.experiment)
    assert {client.get(address, headers={"accept": "text/html"}).status_code for address in addresses} <= {404, 302}
    for address in lists:
        shown = client.get(address, headers={"accept": "text/html"})
        assert shown.status_code == 200
        assert "sulphates" not in shown.content.decode(), address


@pytest.mark.usefixtures("runs")
def test_a_deletion_holds_when_the_connection_is_lost_during_the_purge(
    manager: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_connection(*arguments: Any) -> None:
        raise AutoReconnect("connection closed")

    assert manager.delete(path).status_code == 204
    with monkeypatch.context() as unavailable:
        unavailable.setattr(DriftManager, "delete_of", lose_connection)
        with pytest.raises(AutoReconnect):
            purge_in_background()
    assert manager.get(path).status_code == 404
    assert manager.delete(path).status_code == 404
    purge_in_background()
    assert not Drift.objects.exists()
    assert recorded() == PURGED


@pytest.mark.usefixtures("runs")
def test_a_purge_stops_between_two_batches_and_is_continued(
    manager: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "DELETED_AT_ONCE", 10)
    assert manager.delete(path).status_code == 204
    stops = iter([False, False, True])
    DeletedExperiment.objects.purge(lambda: next(stops))
    assert Drift.objects.count() == 15
    assert DeletedExperiment.objects.get().purged_at is None
    purge_in_background()
    assert not Drift.objects.exists()
    assert DeletedExperiment.objects.get().purged_at


def test_a_record_outlives_a_purge_that_began_while_requests_could_add_runs(
    manager: Caller, experiment: Experiment, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The purge takes longer than the longest request. A run is stored after the purge has read its part."""
    reference = Experiment.objects.reference_to(experiment.pk)
    assert reference
    assert manager.delete(path).status_code == 204
    delete_of = DriftManager.delete_of

    def delete_slowly(*arguments: Any) -> bool:
        is_complete = delete_of(*arguments)
        Drift.objects.create_in(reference, **RUN)
        monkeypatch.setattr("experiments.models.deleted_experiment.LONGEST_REQUEST", datetime.timedelta())
        return is_complete

    with monkeypatch.context() as slow:
        slow.setattr(DriftManager, "delete_of", delete_slowly)
        purge_in_background()
    assert DeletedExperiment.objects.exists()
    purge_in_background()
    assert not Drift.objects.exists()
    assert not DeletedExperiment.objects.exists()


@pytest.mark.usefixtures("runs")
def test_a_purge_deletes_the_remaining_runs(experiment: Experiment) -> None:
    interrupt_a_deletion(experiment, ago=LONGEST_REQUEST)
    DeletedExperiment.objects.update(name="wine\nquality")
    said = purge()
    assert f"Removed the runs of 'wine\\nquality' ({experiment.pk})." in said
    assert "Nothing left to remove" in said
    assert not Drift.objects.exists()
    assert not DeletedExperiment.objects.exists()


def test_other_experiments_keep_their_runs(manager: Caller, path: str, runs: list[Drift]) -> None:
    other = Experiment.objects.create(name="other")
    kept = Drift.objects.create_in(other, **RUN)
    assert manager.delete(path).status_code == 204
    purge()
    assert list(Drift.objects.all()) == [kept]
    assert list(Experiment.objects.all()) == [other]


def test_a_run_stored_during_the_deletion_is_hidden_and_purged_later(
    admin: Caller, manager: Caller, experiment: Experiment, path: str
) -> None:
    as_read_before = Experiment.objects.reference_to(experiment.pk)
    assert as_read_before
    assert manager.delete(path).status_code == 204
    Drift.objects.create_in(as_read_before, **RUN)
    assert admin.post("/drift/search", {}).json() == []
    assert "1 deletion is less than 2 minutes old" in purge()
    assert not Drift.objects.exists()
    Drift.objects.create_in(as_read_before, **RUN)
    DeletedExperiment.objects.update(deleted_at=timestamps.now() - LONGEST_REQUEST)
    purge()
    assert not Drift.objects.exists()
    assert not DeletedExperiment.objects.exists()


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("delete", [lambda it: it.delete(), lambda it: type(it).objects.all().delete()])
def test_the_model_methods_delete_like_the_api(experiment: Experiment, delete: Any) -> None:
    delete(experiment)
    assert not Experiment.objects.exists()
    purge_in_background()
    assert not Drift.objects.exists()
    assert recorded() == PURGED


def test_the_background_purge_removes_records_that_no_request_needs(manager: Caller, experiment: Experiment) -> None:
    assert manager.delete(f"/experiment/{experiment.pk}").status_code == 204
    purge_in_background()
    DeletedExperiment.objects.update(deleted_at=timestamps.now() - LONGEST_REQUEST)
    other = manager.post("/experiment", {"name": "other"}).json()["id"]
    assert manager.delete(f"/experiment/{other}").status_code == 204
    purge_in_background()
    assert [str(left.pk) for left in DeletedExperiment.objects.all()] == [other]


@pytest.mark.parametrize("is_keyed", [False, True])
def test_a_bulk_request_is_refused_if_the_experiment_is_deleted_meanwhile(
    manager: Caller, experiment: Experiment, path: str, is_keyed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storing takes long enough for a second user to delete the experiment meanwhile."""

    def insert_while_it_is_deleted(*args: Any) -> None:
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(experiment.delete_by, None).result()
        insert_many(*args)

    monkeypatch.setattr("drifts.models.insert_many", insert_while_it_is_deleted)
    headers = {"Idempotency-Key": "1"} if is_keyed else {}
    assert manager.post(f"{path}/drift/bulk", [RUN] * 3, headers=headers).status_code == 404
    assert not Drift.objects.exists()


def test_the_portal_says_that_a_run_was_deleted_with_its_experiment(admin: Caller, drift: Drift, settings: Any) -> None:
    """A page may be requested during a deletion: its runs are found, and the experiment is not."""
    client = through_session(admin, settings).client
    client.raise_request_exception = False
    assert delete_one(Experiment, {"_id": drift.experiment_id.hex})
    for address in ("change", "history", "delete"):
        shown = client.get(f"/admin/drifts/drift/{drift.pk}/{address}/", headers={"accept": "text/html"})
        assert shown.status_code == 404


def test_the_dashboard_and_searches_work_with_many_deletion_records(admin: Caller, settings: Any) -> None:
    """MongoDB refuses a query that names so many of them for each of the dashboard's days."""
    settings.SEARCH_TIME_LIMIT = 60
    DeletedExperiment.objects.bulk_create(DeletedExperiment(id=uuid.uuid4(), name=str(n)) for n in range(8_000))
    client = through_session(admin, settings).client
    shown = client.get("/admin/", headers={"accept": "text/html"})
    assert (shown.status_code, len(shown.context["dashboard"].days)) == (200, 30)
    assert admin.post("/drift/search", {}).status_code == 200


def test_the_migration_of_interrupted_deletions_can_be_repeated(experiment: Experiment, drift: Drift) -> None:
    """MongoDB rolls nothing back if the migration is killed: the record may exist, and the experiment too."""
    migration = importlib.import_module("experiments.migrations.0007_broken_off_deletions")
    marked = {"$set": {"deletion_began": timestamps.now()}}
    collection_of(Experiment).update_one({"_id": experiment.pk.hex}, marked)
    DeletedExperiment.objects.create(id=experiment.pk, name=experiment.name)
    for _ in range(2):
        migration.replace_marked(None, SimpleNamespace(connection=mongodb()))
        assert not Experiment.objects.exists()
        assert DeletedExperiment.objects.get().name == experiment.name
    purge()
    assert not Drift.objects.exists()


def test_saving_an_older_instance_does_not_restore_a_deleted_experiment(experiment: Experiment) -> None:
    stale = Experiment.objects.get(pk=experiment.pk)
    interrupt_a_deletion(experiment)
    stale.description = "renewed"
    with pytest.raises(DatabaseError):
        stale.save()
    assert not Experiment.objects.exists()


def test_concurrent_writers_add_no_visible_run_to_a_deleted_experiment_and_lose_none_of_another(
    remote_user: RemoteUser, stored: Database[dict[str, Any]]
) -> None:
    """On real workers: some threads write to an experiment while it is deleted, others to one that stays."""
    going, living = remote_user.new_experiment(), remote_user.new_experiment()
    acknowledged: list[str] = []
    responses: Counter[int] = Counter()
    late: Counter[int] = Counter()
    is_deleted, is_over = threading.Event(), threading.Event()

    def write(to: str) -> None:
        while not is_over.is_set():
            began_after = is_deleted.is_set()
            response = remote_user.call("POST", f"{to}/drift", RUN)
            if to == living:
                assert response.status_code == 201
                acknowledged.append(response.json()["id"])
            else:
                (late if began_after else responses)[response.status_code] += 1

    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, going if number % 2 else living) for number in range(WRITERS)]
        while responses[201] < 20:
            assert not any(writer.done() for writer in writers)
        assert remote_user.call("DELETE", going).status_code == 204
        is_deleted.set()
        while sum(late.values()) < 20:
            assert not any(writer.done() for writer in writers)
        is_over.set()
        for writer in writers:
            writer.result()
    assert set(responses) <= {201, 404}
    assert set(late) == {404}
    assert remote_user.call("POST", f"{going}/drift/search", {}).status_code == 404
    kept = {run["_id"] for run in stored["drifts_drift"].find({"experiment_id": living[-36:].replace("-", "")})}
    assert kept == {pk.replace("-", "") for pk in acknowledged}
    # The record hides the runs of the deleted experiment until they are purged.
    assert stored["experiments_deletedexperiment"].find_one({"_id": going[-36:].replace("-", "")})
