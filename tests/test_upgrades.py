"""The upgrade of stored runs while the service serves and writes: `drifts/upgrades.py` and `manage.py upgrade_runs`."""

import datetime
import itertools
import re
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import DEFAULT, Mock

import bson
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from pymongo.collection import Collection
from pymongo.common import MAX_BSON_SIZE
from pymongo.errors import AutoReconnect, BulkWriteError

from core import timestamps
from core.mongodb.documents import collection_of
from drifts import batches, documents, upgrades
from drifts.models import Drift
from drifts.upgrades import Place, make_pass, upgrade_runs
from experiments.models import LONGEST_REQUEST, Experiment, ExperimentQuerySet
from tests.caller import Caller
from tests.profiler import commands, reads_of
from tests.test_observed_at import DAY, FIRST, as_older_record

RUN = {"job_status": "Completed", "model": "forest", "drift_detected": False}


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}/drift"


@pytest.fixture(autouse=True)
def small_batches_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_SIZE", 3)
    monkeypatch.setattr(batches, "LONGEST_PAUSE", 0)


def never() -> bool:
    return False


def after(steps: int) -> Callable[[], bool]:
    """Ask to stop after a number of steps."""
    left = iter(range(steps))
    return lambda: next(left, None) is None


@pytest.fixture
def older(editor: Caller, path: str) -> list[str]:
    """The ids of ten runs of schema 1.0.0, the oldest first. Four were created at the same time."""
    ids = []
    for number in range(10):
        ids.append(editor.post(path, RUN | {"model": f"model {number}", "parameters": {"number": number}}).json()["id"])
        as_older_record(ids[-1], FIRST + (number if number < 4 or number > 7 else 4) * DAY)
    return sorted(ids, key=lambda pk: (stored(pk)["created_at"], pk))


def stored(pk: str) -> dict[str, Any]:
    document = collection_of(Drift).find_one({"_id": uuid.UUID(pk).hex})
    assert document
    return document


def versions() -> dict[str, int]:
    counted = collection_of(Drift).aggregate([{"$group": {"_id": "$schema_version", "runs": {"$sum": 1}}}])
    return {group["_id"]: group["runs"] for group in counted}


def test_older_runs_are_upgraded(older: list[str]) -> None:
    before = {pk: stored(pk) for pk in older}
    upgrade_runs(never)
    for pk in older:
        after = stored(pk)
        assert after == before[pk] | {
            "schema_version": "1.1.0",
            "observed_at": before[pk]["created_at"],
            "derived": ["observed_at"],
            "series": {"model": before[pk]["model"]},
        }


def test_an_upgrade_does_not_change_what_clients_see(older: list[str], editor: Caller, path: str) -> None:
    def seen() -> list[dict[str, Any]]:
        runs = editor.post(f"{path}/search?page_size=100&sort_by=observed_at").json()
        return [{**run, "schema_version": None, "series": None} for run in runs]

    before = seen()
    upgrade_runs(never)
    assert seen() == before


def test_a_stopped_upgrade_resumes_at_its_place(older: list[str]) -> None:
    upgrade_runs(after(2))
    assert versions() == {"1.0.0": 4, "1.1.0": 6}
    place = Place.stored()
    assert (place.visited, place.after.id) == (6, uuid.UUID(older[5]).hex)
    upgrade_runs(never)
    assert versions() == {"1.1.0": 10}
    assert Place.stored().visited == 10, "no run is visited twice"


def test_a_pass_visits_new_runs_only(older: list[str], editor: Caller, path: str) -> None:
    upgrade_runs(never)
    upgrade_runs(never)
    assert Place.stored().visited == 0
    editor.post(path, RUN)
    upgrade_runs(never)
    assert (Place.stored().visited, Place.stored().changed) == (1, 0)


def test_a_pass_without_new_runs_takes_two_queries_for_each_experiment(older: list[str]) -> None:
    upgrade_runs(never)
    with commands() as seen:
        upgrade_runs(never)
    queries = Counter(entry["ns"].partition(".")[2] for entry in seen)
    assert queries[Drift._meta.db_table] == 2
    assert queries[Experiment._meta.db_table] == 2, "the lists of all experiments, and of those from the trash"


def test_runs_that_an_older_copy_stores_late_are_found(older: list[str], editor: Caller, path: str) -> None:
    upgrade_runs(never)
    pk = editor.post(path, RUN).json()["id"]
    as_older_record(pk, timestamps.now() - LONGEST_REQUEST + datetime.timedelta(seconds=30))
    upgrade_runs(never)
    assert versions() == {"1.1.0": 11}


def test_runs_of_a_deleted_experiment_are_left_to_the_purge(older: list[str], experiment: Experiment) -> None:
    upgrade_runs(after(1))
    experiment.delete()
    upgrade_runs(never)
    assert versions() == {"1.0.0": 7, "1.1.0": 3}


@pytest.mark.parametrize("lost", [["parameters"], ["model", "parameters", "updated_at", "job_status", "tags"]])
def test_a_damaged_record_does_not_hold_up_the_others(
    older: list[str], lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    collection_of(Drift).update_one({"_id": uuid.UUID(older[1]).hex}, {"$unset": dict.fromkeys(lost, "")})
    upgrade_runs(never)
    assert versions() == {"1.0.0": 1, "1.1.0": 9}
    assert uuid.UUID(older[1]).hex in caplog.text


def test_a_time_that_python_does_not_have_does_not_hold_up_the_others(
    older: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    damaged = {"_id": uuid.UUID(older[1]).hex}
    year_10000 = {"$toDate": {"$toLong": 253402300800000}}
    collection_of(Drift).update_one(damaged, [{"$set": {"updated_at": year_10000}}])
    upgrade_runs(never)
    assert versions() == {"1.0.0": 1, "1.1.0": 9}
    assert damaged["_id"] in caplog.text


@pytest.mark.parametrize("name", ["$where", "a.b", ""])
def test_a_field_that_no_release_stores_holds_up_no_run(older: list[str], name: str) -> None:
    named = stored(older[1]) | {name: "by another client"}
    collection_of(Drift).delete_one({"_id": named["_id"]})
    collection_of(Drift).insert_one(named)
    upgrade_runs(never)
    assert versions() == {"1.1.0": 10}
    assert stored(older[1])[name] == "by another client"


def test_a_second_process_stops(older: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one moves the place while the second one works on its batch."""
    completed = batches.completed

    def complete_after_another(*arguments: Any) -> Any:
        monkeypatch.setattr(batches, "completed", completed)
        upgrade_runs(after(1))
        return completed(*arguments)

    monkeypatch.setattr(batches, "completed", complete_after_another)
    with pytest.raises(CommandError, match="Another process upgrades the runs now"):
        call_command("upgrade_runs")
    assert Place.stored().visited == 3
    upgrade_runs(never)
    assert versions() == {"1.1.0": 10}


def test_a_process_that_is_killed_before_it_stores_its_place_repeats_the_batch(
    older: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade_runs(after(1))
    with monkeypatch.context() as killed:
        killed.setattr(Place, "moved_to", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            upgrade_runs(never)
    assert versions() == {"1.0.0": 4, "1.1.0": 6}
    upgrade_runs(never)
    assert versions() == {"1.1.0": 10}
    assert (Place.stored().visited, Place.stored().changed) == (10, 7)


def test_an_upgrade_waits_for_a_database_that_is_unavailable(older: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    away = AutoReconnect("no primary")
    write = Mock(wraps=batches.write, side_effect=[away, DEFAULT, away, *[DEFAULT] * 10])
    monkeypatch.setattr(batches, "write", write)
    upgrade_runs(never)
    assert versions() == {"1.1.0": 10}


def refuse_every_second_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Have the first call of a function fail as without a primary, the third, and so on."""
    function, calls = getattr(owner, name), itertools.count()

    def called(*arguments: Any) -> Any:
        if next(calls) % 2 == 0:
            raise DatabaseError from AutoReconnect("no primary")
        return function(*arguments)

    monkeypatch.setattr(owner, name, called)


@pytest.mark.parametrize(("owner", "name"), [(upgrades, "places"), (ExperimentQuerySet, "ids")])
def test_each_step_of_an_upgrade_waits_for_the_database(
    older: list[str], owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_SIZE", 10)
    with monkeypatch.context() as patch:
        refuse_every_second_call(patch, owner, name)
        upgrade_runs(never)
    assert versions() == {"1.1.0": 10}
    assert Place.stored().started_at is None, "the pass has ended"


@pytest.mark.parametrize("lost", [0, 1])
def test_a_place_is_stored_although_the_response_is_lost(
    older: list[str], lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second response is lost: that of the start, of a batch, and of the end."""
    replace_one, calls = Collection.replace_one, itertools.count()

    def replace_and_lose(*arguments: Any, **options: Any) -> Any:
        result = replace_one(*arguments, **options)
        if next(calls) % 2 == lost:
            raise AutoReconnect("connection closed")
        return result

    monkeypatch.setattr(Collection, "replace_one", replace_and_lose)
    place = make_pass(never, lambda line: None)
    assert (place.visited, place.changed) == (10, 10)


def test_a_stop_without_a_database_is_no_failure(older: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrades, "places", Mock(side_effect=AutoReconnect("no primary")))
    upgrade_runs(lambda: True)


def test_a_run_that_became_too_large_does_not_hold_up_the_others(
    older: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An older release has stored a run of nearly 16 MB. It has no room for the fields of the current version."""
    monkeypatch.setattr(batches, "ATTEMPTS", 1)
    large = {"_id": uuid.UUID(older[1]).hex}
    room = MAX_BSON_SIZE - len(bson.encode(stored(older[1]))) - 20
    collection_of(Drift).update_one(large, {"$set": {"parameters.text": "." * room}})
    upgrade_runs(never)
    assert versions() == {"1.0.0": 1, "1.1.0": 9}
    assert large["_id"] in caplog.text


@pytest.mark.parametrize(
    "details",
    [
        {"writeErrors": [], "writeConcernErrors": [{"code": 64}], "nMatched": 3},
        {"writeErrors": [{"code": 11600}], "writeConcernErrors": [], "nMatched": 0},
    ],
)
def test_a_write_that_may_succeed_later_is_not_given_up(
    details: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "bulk_write", Mock(side_effect=BulkWriteError(details)))
    with pytest.raises((BulkWriteError, DatabaseError)):
        batches.write([])


def test_a_batch_reads_no_runs_but_its_own(older: list[str], experiment: Experiment) -> None:
    with reads_of(Drift) as reads:
        upgrade_runs(never)
    assert all(read.documents <= batches.BATCH_SIZE and not read.sorts_in_memory for read in reads), reads


# Clients that change the same runs


def during_the_next_batch(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Make the change after the upgrade has read its next batch, and before it writes it."""
    compute = documents.upgraded_document

    def compute_during_change(*arguments: Any) -> Any:
        monkeypatch.setattr(batches, "upgraded_document", compute)
        outside_the_transaction(change)
        return compute(*arguments)

    monkeypatch.setattr(batches, "upgraded_document", compute_during_change)


def outside_the_transaction(change: Callable[[], object]) -> None:
    """Run it in another thread, which has a connection of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(change).result()


def test_a_change_during_a_batch_is_kept(
    older: list[str], editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"model": "changed", "note": "by a client"}
    during_the_next_batch(monkeypatch, lambda: editor.patch(f"{path}/{older[0]}", change))
    upgrade_runs(never)
    assert versions() == {"1.1.0": 10}
    assert {"note": "by a client", "series": {"model": "changed"}}.items() <= stored(older[0]).items()


def test_a_run_that_is_deleted_during_a_batch_stays_deleted(
    older: list[str], editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    during_the_next_batch(monkeypatch, lambda: editor.delete(f"{path}/{older[0]}"))
    upgrade_runs(never)
    assert versions() == {"1.1.0": 9}
    assert editor.get(f"{path}/{older[0]}").status_code == 404


def test_a_change_by_an_older_copy_during_a_batch_is_upgraded_too(
    older: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"$set": {"model": "changed", "updated_at": timestamps.now()}}
    first = {"_id": uuid.UUID(older[0]).hex}
    during_the_next_batch(monkeypatch, lambda: collection_of(Drift).update_one(first, change))
    upgrade_runs(never)
    assert versions() == {"1.1.0": 10}
    assert (stored(older[0])["model"], stored(older[0])["series"]) == ("changed", {"model": "changed"})


def test_two_changes_in_one_millisecond_are_told_apart(older: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    change = {"$set": {"detector": "psi"}}
    first = {"_id": uuid.UUID(older[0]).hex}
    during_the_next_batch(monkeypatch, lambda: collection_of(Drift).update_one(first, change))
    upgrade_runs(never)
    assert stored(older[0])["series"] == {"model": "model 0", "detector": "psi"}


def test_parameters_that_look_like_operators_are_data(experiment: Experiment) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"deep": [deep]}
    parameters = {"$gt": 1, "$where": "false", "reference": {"$ref": "a", "$id": 1}, "deep": deep, "none": None}
    run = Drift.objects.create_in(experiment, job_status="Completed", model="forest", parameters=parameters)
    as_older_record(str(run.pk))
    upgrade_runs(never)
    assert versions() == {"1.1.0": 1}
    assert Drift.objects.get(pk=run.pk).parameters == parameters


@pytest.mark.parametrize("method", ["patch", "put"])
def test_a_change_upgrades_the_run(older: list[str], editor: Caller, path: str, method: str) -> None:
    changed = getattr(editor, method)(f"{path}/{older[0]}", RUN | {"model": "pine"}).json()
    assert changed["schema_version"] == "1.1.0"
    assert changed["series"] == {"model": "pine"}
    assert changed["observed_at"] == changed["created_at"]
    assert editor.get(f"{path}/{older[0]}").json() == changed


# The command


def test_the_command_upgrades_all_and_counts_what_is_left(
    older: list[str], experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("upgrade_runs", "--dry-run")
    counted = f"'wine quality' ({experiment.pk}): 10 runs\n10 runs are older than schema 1.1.0.\n"
    assert capsys.readouterr().out.startswith(counted)
    assert versions() == {"1.0.0": 10}
    call_command("upgrade_runs")
    assert re.fullmatch(r"Visited 10 runs and changed 10\. This command took \d+ s\.\n", capsys.readouterr().out)
    call_command("upgrade_runs", "--dry-run")
    assert capsys.readouterr().out == "0 runs are older than schema 1.1.0.\n"


def test_all_runs_are_visited_again_on_request(older: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An older release has changed a run, and runs of 1.0.0 were loaded from a dump."""
    call_command("upgrade_runs")
    collection_of(Drift).update_one({"_id": uuid.UUID(older[0]).hex}, {"$set": {"model": "pine"}})
    as_older_record(older[1])
    call_command("upgrade_runs", "--all")
    assert "Visited 10 runs and changed 2" in capsys.readouterr().out
    assert versions() == {"1.1.0": 10}
    assert stored(older[0])["series"] == {"model": "pine"}


def test_an_interrupted_command_fails_and_says_how_to_continue(
    older: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as interrupted:
        interrupted.setattr(batches, "write", Mock(side_effect=[DEFAULT, KeyboardInterrupt], wraps=batches.write))
        with pytest.raises(CommandError, match="Run the command again"):
            call_command("upgrade_runs")
    assert versions() == {"1.0.0": 7, "1.1.0": 3}
    call_command("upgrade_runs")
    assert versions() == {"1.1.0": 10}
