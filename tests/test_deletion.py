"""Deleting experiments that have more runs than fit one transaction, and what is added to them meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from audit.models import Event
from core.identity import Identity
from core.mongodb.transaction import in_transaction
from drifts import models
from drifts.models import Drift
from experiments.models import Experiment, deleting
from tests.caller import Caller
from tests.conftest import RUN
from tests.profiler import commands


@pytest.fixture
def runs(experiment: Experiment) -> list[Drift]:
    return [Drift.objects.create_in(experiment, **RUN) for _ in range(25)]


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.id}"


def recorded() -> list[tuple[str, Any]]:
    return [(event.action, event.before.get("drift_runs")) for event in Event.objects.all()]


def assert_gone(path: str, manager: Caller) -> None:
    assert manager.get(path).status_code == 404
    assert not Experiment.objects.exists()
    assert not Drift.objects.exists()


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("headers", [{}, {"If-Match": "*"}], ids=["as it is", "if it is there"])
def test_runs_go_in_batches_and_then_the_experiment_with_what_is_left(
    manager: Caller, path: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "DELETED_AT_ONCE", 10)
    with commands() as entries:
        assert manager.delete(path, headers=headers).status_code == 204
    removals = [(entry["ns"].partition(".")[2], entry["ndeleted"]) for entry in entries if entry["op"] == "remove"]
    drifts, experiments = Drift._meta.db_table, Experiment._meta.db_table
    assert removals == [(drifts, 10), (drifts, 10), (drifts, 5), (drifts, 0), (experiments, 1)]
    assert_gone(path, manager)
    assert recorded() == [("experiment_deleted", 25)]


@pytest.mark.parametrize("left", [25, 7, 0])
def test_a_deletion_that_was_broken_off_is_ended_by_another(
    manager: Caller, path: str, runs: list[Drift], left: int
) -> None:
    """Whatever it had come to: the experiment can be read, not changed, and goes when it is deleted again."""
    Experiment.objects.all().begin_deletion()
    for run in runs[left:]:
        run.delete()
    assert manager.get(path).status_code == 200
    assert len(manager.post(f"{path}/drift/search?page_size=100", {}).json()) == left
    changes = [("PATCH", "", {"public": True}), ("POST", "/drift", RUN), ("POST", "/drift/bulk", [RUN, RUN])]
    for method, address, body in changes:
        refused = manager.request(method, path + address, body)
        assert refused.status_code == 404
        assert "being deleted" in refused.json()["message"]
    assert Drift.objects.count() == left
    assert manager.delete(path).status_code == 204
    assert_gone(path, manager)


@pytest.mark.usefixtures("runs")
def test_a_deletion_in_which_the_database_goes_away_is_told_and_ended_by_another(manager: Caller, path: str) -> None:
    def lose_connection(**signal: Any) -> None:
        raise AutoReconnect("connection closed")

    deleting.connect(lose_connection)
    try:
        response = manager.delete(path)
    finally:
        deleting.disconnect(lose_connection)
    assert response.status_code == 503
    assert manager.get(path).status_code == 200
    assert manager.delete(path).status_code == 204
    assert_gone(path, manager)
    assert recorded() == [("experiment_deleted", 25)], "it is recorded once, when it began"


def test_other_experiments_keep_their_runs(manager: Caller, path: str, runs: list[Drift]) -> None:
    other = Experiment.objects.create(name="other")
    kept = Drift.objects.create_in(other, **RUN)
    assert manager.delete(path).status_code == 204
    assert list(Drift.objects.all()) == [kept]
    assert list(Experiment.objects.all()) == [other]
    assert other.takes_runs()


# Added meanwhile. What is read before it began is a stale experiment here.


@pytest.fixture
def stale(experiment: Experiment) -> Experiment:
    return Experiment.objects.get(pk=experiment.pk)


def add_one(experiment: Experiment) -> None:
    Drift.objects.create_in(experiment, **RUN)


def add_many(experiment: Experiment) -> None:
    Drift.objects.create_all_in(experiment, [RUN] * 30)


def add_in_a_transaction(experiment: Experiment) -> None:
    in_transaction(lambda: add_many(experiment))


WAYS = [add_one, add_many, add_in_a_transaction]


@pytest.mark.parametrize("add", WAYS)
def test_what_is_added_after_a_deletion_began_is_taken_back(stale: Experiment, add: Any) -> None:
    Experiment.objects.all().begin_deletion()
    with pytest.raises(Experiment.DoesNotExist):
        add(stale)
    assert not Drift.objects.exists()


@pytest.mark.parametrize("add", WAYS)
def test_what_is_added_after_a_deletion_ended_is_taken_back(stale: Experiment, add: Any) -> None:
    Experiment.objects.all().delete()
    with pytest.raises(Experiment.DoesNotExist):
        add(stale)
    assert not Drift.objects.exists()


@pytest.mark.parametrize("add", WAYS)
@pytest.mark.parametrize("way", ["by somebody", "by the model"])
def test_what_is_added_within_the_lease_is_found_by_the_deletion(
    experiment: Experiment, add: Any, way: str, monkeypatch: pytest.MonkeyPatch, long_lease: None
) -> None:
    began, added = threading.Event(), threading.Event()

    def outwait(since: float | None = None) -> None:
        began.set()
        assert added.wait(30)

    monkeypatch.setattr("experiments.leases.outwait", outwait)
    leased = Experiment.objects.by_id(experiment.pk)
    assert leased
    with ThreadPoolExecutor(1) as elsewhere:
        delete = (lambda: experiment.delete_by(Identity())) if way == "by somebody" else experiment.delete
        deletion = elsewhere.submit(delete)
        assert began.wait(30)
        add(leased)
        assert Drift.objects.exists()
        added.set()
        deletion.result()
    assert not Experiment.objects.exists()
    assert not Drift.objects.exists()


def test_who_reads_it_in_a_transaction_looks_again(experiment: Experiment, long_lease: None) -> None:
    """There it may be shown as it was long before."""
    leased = Experiment.objects.by_id(experiment.pk)
    read_in_transaction = in_transaction(lambda: Experiment.objects.by_id(experiment.pk))
    assert leased
    assert read_in_transaction
    Experiment.objects.all().begin_deletion()
    add_one(leased)
    with pytest.raises(Experiment.DoesNotExist):
        add_one(read_in_transaction)
    assert Drift.objects.count() == 1


def test_whoever_changes_it_as_it_was_before_does_not_undo_that_its_deletion_began(stale: Experiment) -> None:
    Experiment.objects.all().begin_deletion()
    stale.description = "renewed"
    stale.save()
    assert not Experiment.objects.get(description="renewed").takes_runs()


def test_runs_that_are_not_committed_yet_when_a_deletion_begins_are_taken_back(stale: Experiment) -> None:
    def add_while_it_is_deleted() -> None:
        add_many(stale)
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(Experiment.objects.all().delete).result()
        # Seen from inside the transaction, it is still there.
        assert Experiment.objects.count() == 1

    with pytest.raises(Experiment.DoesNotExist):
        in_transaction(add_while_it_is_deleted)
    assert not Drift.objects.exists()
