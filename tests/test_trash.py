"""The trash: a deleted experiment can be restored with its runs, until it is removed for good."""

import datetime
import json
import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import Model
from pytest_django import Settings

from accounts.models import User
from audit.models import Event
from core import timestamps
from core.identity import Identity, Level
from core.mongodb.documents import collection_of, find_raw, mongodb
from drifts import models
from drifts.models import Drift
from drifts.overdue import fail_overdue_runs, overdue_count, running_count
from drifts.recomputation import recompute_runs
from drifts.upgrades import Place, upgrade_runs
from driftwatch.checks import check_settings
from experiments import personal_data
from experiments.models import LONGEST_REQUEST, DeletedExperiment, Experiment, Permission
from tests.caller import Caller
from tests.conftest import GROUP, RUN
from tests.live import ROOT
from tests.profiler import commands, reads_of
from tests.test_database_unavailable import eventually
from tests.test_observed_at import FIRST, as_older_record
from tests.test_service_tokens import made

DAY = datetime.timedelta(days=1)
SEARCH = "/experiment/trash/search"


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}"


@pytest.fixture
def runs(experiment: Experiment) -> list[Drift]:
    return [Drift.objects.create_in(experiment, **{**RUN, "model": f"model {number % 3}"}) for number in range(25)]


@pytest.fixture
def trashed(runs: list[Drift], experiment: Experiment, manager: Caller, path: str) -> DeletedExperiment:
    """The experiment with 25 runs, deleted by its manager."""
    assert manager.delete(path).status_code == 204
    return DeletedExperiment.objects.get(pk=experiment.pk)


def age(days: float) -> None:
    """Make the deletions older."""
    DeletedExperiment.objects.update(deleted_at=timestamps.now() - days * DAY)


def stored(model: type[Model]) -> list[dict[str, Any]]:
    """The documents of a collection."""
    return list(collection_of(model).find().sort("_id"))


def actions() -> list[str]:
    return list(Event.objects.order_by("id").values_list("action", flat=True))


def never() -> bool:
    return False


# Restoring.


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("is_archived", [False, True])
def test_a_restored_experiment_is_as_it_was_with_all_of_its_runs(
    manager: Caller, admin: Caller, experiment: Experiment, path: str, is_archived: bool
) -> None:
    changes = {"description": "of 2019", "tags": ["x", "wine"], "series_by": ["model"], "run_timeout": 60}
    assert manager.patch(path, changes).status_code == 200
    # The driver takes such an object for a reference, and may change the order of its names.
    config = {"$ref": "a", "z": 2**40, "$id": {"y": 1.0, "x": None}}
    collection_of(Experiment).update_one({}, {"$set": {"config": config, "of a later release": [1]}})
    recompute_runs(never)
    if is_archived:
        assert manager.post(f"{path}/archive").status_code == 200

    def seen() -> list[Any]:
        searches = ["/drift/search?page_size=100", "/drift/stats", "/series/search"]
        own = [manager.post(f"{path}{search}", {}).json() for search in searches]
        return [*own, manager.get(path).json(), admin.post("/drift/search?page_size=100", {}).json()]

    before, documents = seen(), stored(Drift)
    whole = find_raw(Experiment, {})
    assert whole
    assert manager.delete(path).status_code == 204
    assert (stored(Experiment), stored(Drift)) == ([], documents)
    DeletedExperiment.objects.purge(never)
    restored = manager.post(f"{path}/restore")
    assert restored.status_code == 200
    assert restored.headers["ETag"] == manager.get(path).headers["ETag"]
    assert bool(restored.json()["archived_at"]) is is_archived
    assert seen() == before
    collection_of(Experiment).update_one({}, {"$unset": {"restored_at": ""}})
    again = find_raw(Experiment, {})
    assert again
    assert {**again, "restored_at": None} == {**whole, "restored_at": None}
    assert again["config"].raw == whole["config"].raw
    assert stored(Drift) == documents
    assert not DeletedExperiment.objects.exists()
    assert manager.post(f"{path}/drift", RUN).status_code == 201


def test_the_audit_trail_has_the_way_through_the_trash(
    trashed: DeletedExperiment, manager: Caller, admin: Caller, path: str
) -> None:
    assert manager.post(f"{path}/restore").status_code == 200
    assert admin.delete(path).status_code == 204
    age(30)
    DeletedExperiment.objects.purge(never)
    deleted, restored, again, purged = Event.objects.order_by("id")
    assert [each.action for each in (deleted, restored, again, purged)] == [
        "experiment_deleted",
        "experiment_restored",
        "experiment_deleted",
        "experiment_purged",
    ]
    assert deleted.before["drift_runs"] == 25
    until = (trashed.deleted_at + 30 * DAY).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert deleted.after == {"purge_at": until}
    assert restored.before.keys() == restored.after.keys() == {"deleted_at"}
    assert (restored.after, restored.actor.email) == ({"deleted_at": None}, "manager@example.org")
    assert (purged.before["drift_runs"], purged.actor.kind) == (25, "service")
    assert {(each.experiment_id, each.target.type, each.target.name) for each in Event.objects.all()} == {
        (trashed.pk, "experiment", "wine quality")
    }


@pytest.mark.parametrize(
    ("role", "restores", "listed"),
    [
        ("anonymous", 401, None),
        ("newcomer", 403, None),
        ("outsider", 403, None),
        ("stranger", 404, 0),
        ("reader", 404, 0),
        ("watcher", 404, 0),
        ("editor", 404, 0),
        ("manager", 200, 1),
        ("admin", 200, 1),
    ],
)
@pytest.mark.parametrize("public", [False, True])
def test_the_trash_is_for_those_who_managed_the_experiment(
    request: pytest.FixtureRequest,
    runs: list[Drift],
    experiment: Experiment,
    manager: Caller,
    path: str,
    role: str,
    restores: int,
    listed: int | None,
    public: bool,
) -> None:
    Experiment.objects.update(public=public)
    assert manager.delete(path).status_code == 204
    caller: Caller = request.getfixturevalue(role)
    found = caller.post(SEARCH)
    assert found.status_code == (restores if listed is None else 200)
    assert listed is None or len(found.json()) == listed
    response = caller.post(f"{path}/restore")
    assert response.status_code == restores
    assert restores == 200 or experiment.name not in response.content.decode()
    assert Experiment.objects.exists() is (restores == 200)


@pytest.mark.parametrize("role", ["manager", "admin"])
@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("PATCH", "", {"public": True}),
        ("POST", "/archive", None),
        ("GET", "/access", None),
        ("POST", "/drift", RUN),
        ("POST", "/drift/search", {}),
        ("POST", "/audit/search", {}),
    ],
)
def test_every_other_request_is_a_404(
    request: pytest.FixtureRequest,
    trashed: DeletedExperiment,
    path: str,
    role: str,
    method: str,
    address: str,
    body: Any,
) -> None:
    caller: Caller = request.getfixturevalue(role)
    assert caller.request(method, f"{path}{address}", body).status_code == 404
    assert caller.post("/experiment/search", {}).json() == caller.post("/drift/search", {}).json() == []


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({}, 200),
        ({"experiments": ["this"]}, 200),
        ({"experiments": ["another"]}, 404),
        ({"level": "Edit"}, 404),
    ],
)
def test_a_token_reaches_the_trash_within_its_limits(
    experiment: Experiment, manager: Caller, path: str, limits: Any, status: int
) -> None:
    ids = {"this": str(experiment.pk), "another": manager.post("/experiment", {"name": "another"}).json()["id"]}
    if "experiments" in limits:
        limits = {"experiments": [ids[name] for name in limits["experiments"]]}
    token = Caller(made(manager, **limits)["token"], manager.user)
    assert manager.delete(path).status_code == 204
    assert len(token.post(SEARCH).json()) == (status == 200)
    assert token.post(f"{path}/restore").status_code == status


def test_a_group_that_managed_the_experiment_restores_it(experiment: Experiment, watcher: Caller, path: str) -> None:
    Experiment.objects.update(permissions=[Permission(entity=GROUP, level=Level.MANAGE)])
    experiment.delete_by(None)
    (found,) = watcher.post(SEARCH).json()
    assert found["deleted_by"] is None
    assert watcher.post(f"{path}/restore").status_code == 200


def test_a_name_that_is_taken_is_a_conflict_until_it_is_free_again(
    trashed: DeletedExperiment, manager: Caller, stranger: Caller, path: str
) -> None:
    other = stranger.post("/experiment", {"name": "wine quality"}).json()["id"]
    for _ in range(2):
        refused = manager.post(f"{path}/restore")
        assert refused.status_code == 409
        assert refused.json()["message"] == (
            "Another experiment has the name “wine quality” now. Have that one renamed, then restore this one."
        )
    assert actions() == ["experiment_deleted", "experiment_created"]
    assert len(manager.post(SEARCH).json()) == 1
    assert stranger.patch(f"/experiment/{other}", {"name": "wine"}).status_code == 200
    assert manager.post(f"{path}/restore").status_code == 200
    assert Drift.objects.count() == 25


def test_restoring_twice_finds_an_experiment_that_is_not_deleted(
    trashed: DeletedExperiment, manager: Caller, path: str
) -> None:
    first, second = (manager.post(f"{path}/restore") for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert actions() == ["experiment_deleted", "experiment_restored"]


def test_requests_that_restore_at_once_restore_once(
    experiment: Experiment, manager: Caller, path: str, settings: Settings
) -> None:
    """A request that finds it restored does not take it out of the archive."""
    assert manager.post(f"{path}/archive").status_code == 200
    assert manager.delete(path).status_code == 204
    deleted = [DeletedExperiment.objects.get() for _ in range(4)]
    identity = Identity(user=manager.user)

    def restore(each: DeletedExperiment) -> bool:
        try:
            each.restore_by(identity)
        except DeletedExperiment.DoesNotExist:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(restore, deleted)) == [False, False, False, True]
    assert Experiment.objects.archived().count() == 1
    assert actions().count("experiment_restored") == 1


def test_a_run_that_is_stored_during_the_deletion_is_restored_too(
    experiment: Experiment, manager: Caller, path: str
) -> None:
    reference = Experiment.objects.reference_to(experiment.pk)
    assert reference
    assert manager.delete(path).status_code == 204
    Drift.objects.create_in(reference, **RUN)
    assert manager.post(f"{path}/restore").status_code == 200
    assert len(manager.post(f"{path}/drift/search").json()) == 1


# The list.


def test_the_list_shows_the_experiment_and_when_it_goes_for_good(
    trashed: DeletedExperiment, manager: Caller, anonymous: Caller
) -> None:
    (found,) = manager.post(SEARCH).json()
    assert found["name"] == "wine quality"
    assert [entry["level"] for entry in found["permissions"]] == ["Manage", "Edit", "Read", "Read"]
    assert found["deleted_by"] == {"user_id": manager.id, "name": "manager@example.org"}
    assert found["runs"] == 25
    times = {name: datetime.datetime.fromisoformat(found[name]) for name in ("deleted_at", "purge_at")}
    assert times == {"deleted_at": trashed.deleted_at, "purge_at": trashed.deleted_at + 30 * DAY}
    schema = anonymous.get("/openapi.json").json()["components"]["schemas"]["DeletedExperiment"]
    assert set(schema["required"]) == found.keys()


@pytest.mark.parametrize(
    ("query", "document", "names"),
    [
        ("", {}, "cab"),
        ("?order_by=asc", {}, "bac"),
        ("?sort_by=name&order_by=asc", {}, "abc"),
        ("?sort_by=created_at", {}, "bac"),
        ("?page_size=2&page=2", {}, "b"),
        ("", {"name": {"$in": ["a", "b"]}}, "ab"),
        ("", {"deleted_by.name": "manager@example.org", "runs": 0, "deleted_at": {"$gte": "2026-01-01"}}, "cab"),
        ("", {"deleted_by.user_id": str(uuid.uuid4())}, ""),
        ("", {"permissions.level": "Manage"}, "cab"),
        ("", {"tags": "kept"}, "a"),
    ],
)
def test_the_list_is_searched_like_experiments(
    manager: Caller, admin: Caller, query: str, document: Any, names: str
) -> None:
    created = {
        name: manager.post("/experiment", {"name": name, "tags": ["kept"] * (name == "a")}).json() for name in "cab"
    }
    for number, name in enumerate("bac"):
        assert manager.delete(f"/experiment/{created[name]['id']}").status_code == 204
        DeletedExperiment.objects.filter(name=name).update(deleted_at=timestamps.now() - (3 - number) * DAY)
    for caller in (manager, admin):
        response = caller.post(f"{SEARCH}{query}", document)
        assert "".join(found["name"] for found in response.json()) == names


def test_the_list_takes_no_other_sort_and_no_other_field(manager: Caller) -> None:
    assert manager.post(f"{SEARCH}?sort_by=public").status_code == 422
    assert manager.post(SEARCH, {"purge_started_at": None}).status_code == 422


@pytest.mark.parametrize("role", ["watcher", "admin"])
def test_the_list_is_read_in_index_order(request: pytest.FixtureRequest, role: str) -> None:
    """The last of 600 deletions, of which the watchers' group managed half."""
    DeletedExperiment.objects.bulk_create(
        DeletedExperiment(
            name=str(number),
            permissions=[Permission(entity=GROUP, level=Level.MANAGE)] if number % 2 else [],
            deleted_at=timestamps.now() - number * datetime.timedelta(minutes=1),
            runs=0,
        )
        for number in range(600)
    )
    caller: Caller = request.getfixturevalue(role)
    caller.get("/user/self")
    with reads_of(DeletedExperiment) as reads:
        assert len(caller.post(SEARCH).json()) == 10
    (page,) = (read for read in reads if "$sort" in read.stages)
    assert page.plan.startswith("IXSCAN")
    assert role == "watcher" or (not page.sorts_in_memory and page.documents <= 12)


# Removal for good.


def test_the_purge_leaves_the_trash_alone_until_its_time_is_over(
    trashed: DeletedExperiment, manager: Caller, path: str, settings: Settings
) -> None:
    age(29.9)
    DeletedExperiment.objects.purge(never)
    assert Drift.objects.count() == 25
    settings.TRASH_DAYS = 29
    assert manager.post(SEARCH).json() == []
    assert manager.post(f"{path}/restore").status_code == 404, "the time is over, although no task has run yet"
    DeletedExperiment.objects.purge(never)
    assert not Drift.objects.exists()
    assert not DeletedExperiment.objects.exists()
    assert actions() == ["experiment_deleted", "experiment_purged"]


def test_a_longer_time_counts_for_what_is_in_the_trash(
    trashed: DeletedExperiment, manager: Caller, path: str, settings: Settings
) -> None:
    age(40)
    settings.TRASH_DAYS = 90
    DeletedExperiment.objects.purge(never)
    assert manager.post(f"{path}/restore").status_code == 200


@pytest.mark.usefixtures("runs")
def test_without_days_there_is_no_trash(manager: Caller, admin: Caller, path: str, settings: Settings) -> None:
    settings.TRASH_DAYS = 0
    assert manager.delete(path).status_code == 204
    assert admin.post(SEARCH).json() == []
    assert admin.post(f"{path}/restore").status_code == 404
    DeletedExperiment.objects.purge(never)
    assert not Drift.objects.exists()


@pytest.mark.parametrize("days", [-1, 36_501, float("nan")])
def test_a_number_of_days_that_makes_no_sense_is_refused(days: float, settings: Settings) -> None:
    settings.TRASH_DAYS = days
    assert [problem.id for problem in check_settings()] == ["driftwatch.E051"]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "DELETED_AT_ONCE", 10)


@pytest.mark.usefixtures("small_batches")
def test_nobody_restores_an_experiment_whose_purge_has_begun(
    trashed: DeletedExperiment, admin: Caller, path: str, settings: Settings
) -> None:
    age(30)
    stops = iter([False, False, True])
    DeletedExperiment.objects.purge(lambda: next(stops))
    assert Drift.objects.count() == 15
    settings.TRASH_DAYS = 365
    assert admin.post(f"{path}/restore").status_code == 404
    assert admin.post(SEARCH).json() == []
    DeletedExperiment.objects.purge(never)
    assert not Drift.objects.exists()
    assert actions() == ["experiment_deleted", "experiment_purged"]


def test_either_the_purge_or_the_restoration_wins(
    trashed: DeletedExperiment, manager: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both begin at once, twenty times, and no experiment comes back without its runs."""
    identity = Identity(user=manager.user)
    outcomes = set()
    for _ in range(20):
        deleted = DeletedExperiment.objects.get()

        def restore(deleted: DeletedExperiment = deleted) -> bool:
            try:
                deleted.restore_by(identity)
            except DeletedExperiment.DoesNotExist:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            restoring = pool.submit(restore)
            claiming = pool.submit(DeletedExperiment.objects.get().claim_for_purge)
        is_restored, is_claimed = restoring.result(), claiming.result()
        assert is_restored is not is_claimed
        outcomes.add(is_restored)
        if is_claimed:
            assert not Experiment.objects.exists()
            collection_of(DeletedExperiment).update_one({}, {"$set": {"purge_started_at": None}})
        else:
            Experiment.objects.get().delete_by(None)
    assert Drift.objects.count() == 25


def test_an_experiment_that_was_restored_and_deleted_again_is_not_purged_by_an_old_decision(
    trashed: DeletedExperiment, manager: Caller, path: str
) -> None:
    age(30)
    decided = DeletedExperiment.objects.get()
    age(1)
    assert manager.post(f"{path}/restore").status_code == 200
    assert manager.delete(path).status_code == 204
    assert not decided.claim_for_purge()
    assert manager.post(f"{path}/restore").status_code == 200


def test_a_record_of_an_earlier_release_is_purged_and_never_restored(
    runs: list[Drift], experiment: Experiment, admin: Caller, path: str
) -> None:
    collection_of(Experiment).delete_one({})
    deleted_at = timestamps.now() - LONGEST_REQUEST
    record = {"_id": experiment.pk.hex, "name": "wine quality", "deleted_at": deleted_at, "purged_at": None}
    collection_of(DeletedExperiment).insert_one(record)
    assert admin.post(SEARCH).json() == []
    assert admin.post(f"{path}/restore").status_code == 404
    DeletedExperiment.objects.purge(never)
    assert not Drift.objects.exists()
    assert not DeletedExperiment.objects.exists()


def test_the_command_purges_what_is_due_and_says_what_is_left(
    trashed: DeletedExperiment, manager: Caller, settings: Settings
) -> None:
    def purge() -> list[str]:
        call_command("purge", stdout=(said := StringIO()))
        return said.getvalue().splitlines()

    assert purge() == ["1 experiment is in the trash, and can be restored.", "Nothing left to remove."]
    age(31)
    assert purge() == [f"Removed the runs of 'wine quality' ({trashed.pk}).", "Nothing left to remove."]
    assert not Drift.objects.exists()


def test_a_purge_that_is_killed_is_continued_by_another_process(
    experiment: Experiment, manager: Caller, path: str
) -> None:
    """In the middle of thousands of runs, with SIGKILL."""
    pool = [{**RUN, "model": str(number)} for number in range(10_000)]
    Drift.objects.create_all_in(experiment, pool)
    other = Drift.objects.create_in(Experiment.objects.create(name="another"), **RUN)
    assert manager.delete(path).status_code == 204
    age(31)
    own = {"DJANGO_SETTINGS_MODULE": "driftwatch.settings", "MONGODB_NAME": mongodb().settings_dict["NAME"]}
    # Batches of 100, so that the process is still at work when it is killed.
    program = (
        "from drifts import models; models.DELETED_AT_ONCE = 100; from experiments.models import DeletedExperiment"
    )
    program += "; DeletedExperiment.objects.purge(lambda: False)"
    arguments = [sys.executable, "manage.py", "shell", "--verbosity=0", "--command", program]
    with subprocess.Popen(arguments, cwd=ROOT, env=os.environ | own) as process:
        eventually(lambda: Drift.objects.count() < 10_000, 30)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert 1 < Drift.objects.count() < 10_000
    assert actions() == ["experiment_deleted", "experiment_purged"]
    with subprocess.Popen([sys.executable, "manage.py", "work"], cwd=ROOT, env=os.environ | own) as process:
        eventually(lambda: not DeletedExperiment.objects.exists(), 30)
        process.terminate()
        assert process.wait(10) == 0
    assert [run.pk for run in Drift.objects.all()] == [other.pk]
    assert actions() == ["experiment_deleted", "experiment_purged"]
    assert Event.objects.get(action="experiment_purged").before["drift_runs"] == 10_000


# Other background work.


@pytest.fixture
def running(experiment: Experiment) -> Drift:
    """A Running run whose time-out was over long ago."""
    run = Drift.objects.create_in(experiment, job_status="Running", model="forest", run_timeout=60)
    collection_of(Drift).update_one({"_id": run.pk.hex}, {"$set": {"created_at": timestamps.now() - DAY}})
    return run


def test_runs_in_the_trash_become_overdue_after_the_restoration(
    running: Drift, experiment: Experiment, manager: Caller, path: str
) -> None:
    Experiment.objects.update(run_timeout=60)
    Drift.objects.create_in(experiment, job_status="Running", model="forest")
    collection_of(Drift).update_many({}, {"$set": {"created_at": timestamps.now() - DAY}})
    assert (running_count(), overdue_count()) == (2, 2)
    assert manager.delete(path).status_code == 204
    before = stored(Drift)
    fail_overdue_runs(never)
    assert (stored(Drift), running_count(), overdue_count()) == (before, 0, 0)
    assert manager.post(f"{path}/restore").status_code == 200
    fail_overdue_runs(never)
    assert {run.job_status for run in Drift.objects.all()} == {"Failed"}


def test_runs_in_the_trash_are_upgraded_after_the_restoration(
    runs: list[Drift], experiment: Experiment, manager: Caller, path: str
) -> None:
    """Also if a whole pass has ended meanwhile, which later passes do not repeat."""
    for run in runs:
        as_older_record(str(run.pk), FIRST)
    assert manager.delete(path).status_code == 204
    before = stored(Drift)
    upgrade_runs(never)
    upgrade_runs(never)
    assert stored(Drift) == before
    assert manager.post(f"{path}/restore").status_code == 200
    upgrade_runs(never)
    assert {run["schema_version"] for run in stored(Drift)} == {"1.1.0"}
    assert Place.stored().changed == 25
    Experiment.objects.update(restored_at=timestamps.now() - DAY)
    upgrade_runs(never)
    assert Place.stored().visited == 0, "later passes visit new runs only"


@pytest.mark.usefixtures("runs")
def test_a_recomputation_goes_on_after_the_restoration(manager: Caller, path: str) -> None:
    assert manager.patch(path, {"field_map": {"environment": "parameters.site"}}).status_code == 200
    assert manager.delete(path).status_code == 204
    before = stored(Drift)
    recompute_runs(never)
    assert stored(Drift) == before
    assert manager.post(f"{path}/restore").json()["recomputation"]["total"] == 25
    recompute_runs(never)
    assert manager.get(path).json()["recomputation"] is None
    assert {run["rules_version"] for run in stored(Drift)} == {1}


def test_the_ids_of_deleted_experiments_are_read_from_an_index_alone() -> None:
    DeletedExperiment.objects.bulk_create(DeletedExperiment(name=str(number), config={"a": 1}) for number in range(50))
    with commands() as entries:
        ids = DeletedExperiment.objects.ids()
    assert ids == sorted(ids)
    assert len(ids) == 50
    assert [entry["docsExamined"] for entry in entries] == [0]


# Personal data.


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal_data, "RECENT_SECONDS", 0)


def user(*arguments: str) -> str:
    call_command("user", *arguments, stdout=(said := StringIO()), stderr=StringIO())
    return said.getvalue()


def test_an_export_has_the_permissions_in_the_trash(trashed: DeletedExperiment, manager: Caller) -> None:
    exported = json.loads(user("export", manager.id))
    assert exported["permissions"] == []
    assert exported["permissions_in_trash"] == [
        {"experiment": str(trashed.pk), "name": "wine quality", "level": "Manage"}
    ]


@pytest.mark.usefixtures("account")
def test_an_erasure_reaches_the_trash_and_is_not_held_up_by_it(
    trashed: DeletedExperiment, manager: Caller, admin: Caller, path: str
) -> None:
    user("erase", manager.id)
    (document,) = stored(DeletedExperiment)
    assert manager.id not in str(document)
    assert uuid.UUID(manager.id).hex not in str(document)
    assert "manager@example.org" not in str(document)
    (found,) = admin.post(SEARCH).json()
    assert found["deleted_by"] is None
    assert [entry["level"] for entry in found["permissions"]] == ["Edit", "Read", "Read"]
    assert admin.post(f"{path}/restore").status_code == 200


@pytest.mark.usefixtures("account")
def test_the_successor_of_an_erased_account_manages_the_trash(
    trashed: DeletedExperiment, manager: Caller, reader: Caller, path: str
) -> None:
    user("erase", manager.id, "--successor", reader.id)
    assert reader.post(f"{path}/restore").status_code == 200
    assert not User.objects.filter(pk=manager.id).exists()
