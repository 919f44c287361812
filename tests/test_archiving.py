"""Archiving an experiment, and restoring it."""

from datetime import timedelta

import pytest

from accounts.models import User
from audit.models import Event
from core import timestamps
from core.identity import Identity, Level, identity_of_user
from core.mongodb.documents import mongodb
from core.mongodb.order import Order
from experiments.models import Experiment, Permission
from tests.caller import Caller
from tests.conftest import RUN
from tests.profiler import reads_of


@pytest.fixture
def identity(manager: Caller) -> Identity:
    assert manager.user
    return identity_of_user(manager.user)


@pytest.fixture
def archived(experiment: Experiment, identity: Identity) -> Experiment:
    experiment.archive_by(identity)
    return experiment


def test_an_archived_experiment_is_marked_and_restored(archived: Experiment, identity: Identity) -> None:
    other = Experiment.objects.create(name="barley")
    assert archived.archived_at
    assert list(Experiment.objects.archived()) == [archived]
    assert list(Experiment.objects.archived(False)) == [other]
    archived.restore_by(identity)
    assert archived.archived_at is None
    assert not Experiment.objects.archived().exists()


def test_an_experiment_stored_without_the_field_is_not_archived(experiment: Experiment, reader: Caller) -> None:
    mongodb().database[Experiment._meta.db_table].update_one({}, {"$unset": {"archived_at": ""}})
    assert list(Experiment.objects.archived(False)) == [experiment]
    assert reader.get(f"/experiment/{experiment.id}").json()["archived_at"] is None
    assert [found["archived_at"] for found in reader.post("/experiment/search", {"archived_at": None}).json()] == [None]


def test_archiving_and_restoring_are_recorded_once(archived: Experiment, identity: Identity) -> None:
    since = archived.archived_at
    archived.archive_by(identity)
    assert archived.archived_at == since
    archived.restore_by(identity)
    archived.restore_by(identity)
    events = list(Event.objects.order_by("id"))
    assert [event.action for event in events] == ["experiment_archived", "experiment_restored"]
    assert events[0].before == {"archived_at": None} == events[1].after
    assert events[0].after == events[1].before
    assert {event.actor.email for event in events} == {"manager@example.org"}


def test_the_api_treats_an_archived_experiment_as_any_other(
    experiment: Experiment, identity: Identity, reader: Caller
) -> None:
    path = f"/experiment/{experiment.id}"
    before = reader.get(path).json()
    experiment.archive_by(identity)
    after = reader.get(path).json()
    assert after == before | {"archived_at": after["archived_at"]}
    assert [found["id"] for found in reader.post("/experiment/search", {}).json()] == [str(experiment.id)]


def test_the_api_archives_and_restores(manager: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.id}"
    before = manager.get(path).json()
    assert before["archived_at"] is None
    archived = manager.post(f"{path}/archive")
    assert archived.status_code == 200
    time = archived.json()["archived_at"]
    assert archived.json() == before | {"archived_at": time} == manager.get(path).json()
    assert manager.post(f"{path}/archive").json()["archived_at"] == time
    kept = manager.put(path, {**before, "archived_at": None})
    assert (kept.status_code, kept.json()["archived_at"]) == (200, time)
    searches = {"null": {"archived_at": None}, "set": {"archived_at": {"$gte": "2026-01-01"}}}
    found = {name: len(manager.post("/experiment/search", document).json()) for name, document in searches.items()}
    assert found == {"null": 0, "set": 1}
    for _ in range(2):
        restored = manager.post(f"{path}/restore")
        assert (restored.status_code, restored.json()["archived_at"]) == (200, None)
    assert len(manager.post("/experiment/search", searches["null"]).json()) == 1
    events = list(Event.objects.exclude(action="experiment_updated").order_by("id"))
    assert [event.action for event in events] == ["experiment_archived", "experiment_restored"]


def test_a_deleted_experiment_is_not_archived(manager: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.id}"
    assert manager.delete(path).status_code == 204
    assert manager.post(f"{path}/archive").status_code == 404


def test_runs_are_still_reported_to_an_archived_experiment(
    archived: Experiment, manager: Caller, editor: Caller
) -> None:
    path = f"/experiment/{archived.id}"
    assert editor.post(f"{path}/drift", RUN).status_code == 201
    assert manager.patch(path, {"description": "still in use"}).status_code == 200
    archived.refresh_from_db()
    assert archived.archived_at


def test_saving_an_older_instance_does_not_restore_the_experiment(experiment: Experiment, identity: Identity) -> None:
    stale = Experiment.objects.get(pk=experiment.pk)
    experiment.archive_by(identity)
    stale.description = "renewed"
    stale.save()
    assert Experiment.objects.archived().get().description == "renewed"


@pytest.mark.parametrize("way", ["archive_by", "restore_by"])
def test_archiving_an_experiment_deleted_meanwhile_changes_nothing(
    experiment: Experiment, identity: Identity, way: str
) -> None:
    Experiment.objects.get().delete_by(identity)
    with pytest.raises(Experiment.DoesNotExist):
        getattr(experiment, way)(identity)
    assert [event.action for event in Event.objects.all()] == ["experiment_deleted"]


@pytest.mark.parametrize("role", ["anonymous", "member", "admin"])
def test_the_newest_active_experiments_are_read_in_index_order(role: str) -> None:
    now = timestamps.now()
    Experiment.objects.bulk_create(
        Experiment(
            name=f"experiment {number}",
            public=number % 3 == 0,
            permissions=[Permission(entity="users", level=Level.READ)] if number % 2 else [],
            archived_at=now if number % 20 == 0 else None,
            created_at=now - timedelta(minutes=number),
        )
        for number in range(600)
    )
    user = User(issuer="https://example.org", subject=role)
    identities = {
        "anonymous": Identity(),
        "member": Identity(user.issuer, user.subject, entitlements=frozenset({"users"}), user=user),
        "admin": Identity(user.issuer, user.subject, entitlements=frozenset({"admins"}), user=user),
    }
    visible = Experiment.objects.visible_to(identities[role]).archived(False)
    with reads_of(Experiment) as reads:
        assert len(visible.sorted_slice(Order.by("created_at", is_descending=True), 20)[0]) == 20
    (read,) = reads
    assert not read.sorts_in_memory
    assert read.plan.startswith("IXSCAN")
    assert read.documents <= 30
