"""Every collection has its places: in the export, the import, the trash, the erasure of an account, and in `doctor`.

`transfer/collections.py` has a row for each collection. A new collection needs one, and these tests prove the rows.
"""

import datetime
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.management import call_command
from django.db.models import Model
from django_mongodb_backend.models import EmbeddedModel

from accounts.models import User
from core.background import Worker
from core.mongodb.documents import mongodb
from drifts.models import Drift
from driftwatch.tasks import TASKS
from experiments import personal_data
from experiments.models import Experiment
from tests.belongings import fill
from tests.caller import Caller
from transfer.collections import (
    BY_NAME,
    COLLECTIONS,
    EXPERIMENTS,
    EXPORTED,
    KEEPS_ID,
    MOVED,
    OF_NO_EXPERIMENT,
    REMOVED,
    TRASH,
)

ROWS = "transfer/collections.py"
FILES = {"files_runfile", "run_files.files", "run_files.chunks"}
# Encrypted documents, whose mentions nobody can read.
SEALED = {"driftwatch_keptanswer"}


@pytest.fixture
def filled(experiment: Experiment, drift: Drift, reader: Caller) -> Iterator[Experiment]:
    """The experiment in a service that has something of everything, also of the state of its processes."""
    fill(experiment)
    Worker(TASKS).run_once()
    yield experiment
    for name in FILES:
        mongodb().database[name].delete_many({})


def collections() -> set[str]:
    """The collections of the models, and those that exist besides."""
    return models() | {name for name in mongodb().database.list_collection_names() if not name.startswith("system.")}


def models() -> set[str]:
    return {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy and not issubclass(model, EmbeddedModel)
    }


def without_a_row() -> list[str]:
    return sorted(collections() - BY_NAME.keys())


def mentioning(*texts: str) -> dict[str, list[str]]:
    """The documents that have one of these texts anywhere, by collection."""
    found = {
        name: [text for text in map(str, mongodb().database[name].find()) if any(each in text for each in texts)]
        for name in collections()
    }
    return {name: documents for name, documents in found.items() if documents}


def ids_of(pk: Any) -> tuple[str, str]:
    """The two forms in which documents have an id."""
    return str(pk), uuid.UUID(str(pk)).hex


@pytest.mark.usefixtures("filled")
def test_every_collection_has_a_row() -> None:
    assert without_a_row() == [], f"Add a row to COLLECTIONS in {ROWS}: a place in the export or a reason, and so on"


def test_a_new_collection_without_a_row_is_found() -> None:
    mongodb().database["novel"].insert_one({})
    try:
        assert without_a_row() == ["novel"]
        (finding,) = [each for each in doctor() if each["name"] == "novel"]
        assert (finding["state"], finding["text"]) == ("warning", "1 document, 22 bytes; not of this release")
    finally:
        mongodb().database["novel"].drop()


def test_every_row_has_all_places() -> None:
    assert len(BY_NAME) == len(COLLECTIONS)
    for places in COLLECTIONS:
        for place in ("export", "trash", "erasure"):
            assert getattr(places, place), f"{places.name} has no place in: {place}. Add it in {ROWS}"


@pytest.mark.usefixtures("filled")
def test_the_export_has_what_the_rows_say(tmp_path: Path) -> None:
    call_command("export", str(tmp_path / "out"), stdout=StringIO(), stderr=StringIO())
    exported = {part["collection"] for part in json.loads((tmp_path / "out" / "manifest.json").read_text())["parts"]}
    assert exported == EXPORTED.keys()


def test_the_erasure_of_an_account_leaves_what_the_rows_say(
    filled: Experiment, manager: Caller, reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(personal_data, "RECENT_SECONDS", 0)
    assert manager.patch(f"/experiment/{filled.pk}", {"description": "new"}).status_code == 200
    assert manager.user
    note_in_portal(manager.user)
    person = ("manager@example.org", "'manager'")
    assert mentioning(*person)
    assert mentioning(*ids_of(manager.id)).keys() > {"accounts_servicetoken", "experiments_experiment"}
    call_command("user", "erase", manager.id, "--successor", reader.id, stdout=StringIO(), stderr=StringIO())
    assert mentioning(*person) == {}
    left = mentioning(*ids_of(manager.id)).keys()
    assert left == {places.name for places in COLLECTIONS if KEEPS_ID in places.erasure}


def test_the_deletion_of_an_experiment_leaves_what_the_rows_say(filled: Experiment, manager: Caller) -> None:
    note_in_portal(filled)
    runs = [run.pk for run in Drift.objects.of(filled)]
    files = [file["_id"] for file in mongodb().database["files_runfile"].find()]
    ids = [text for pk in (filled.pk, *runs, *files) for text in ids_of(pk)]
    concerned = {places.name: places.trash for places in COLLECTIONS if places.trash != OF_NO_EXPERIMENT}
    assert mentioning(*ids).keys() == concerned.keys() - {TRASH} - SEALED
    assert manager.delete(f"/experiment/{filled.pk}").status_code == 204
    assert mentioning(*ids).keys() == concerned.keys() - {EXPERIMENTS} - SEALED
    mongodb().database[TRASH].update_many({}, {"$set": {"deleted_at": datetime.datetime(2026, 1, 1)}})
    for task in TASKS:
        task.run(lambda: False)
    # No task removes files in a release that has none.
    left = mentioning(*ids).keys() - (FILES - models())
    assert left == {name for name, trash in concerned.items() if trash not in {REMOVED, MOVED}} - SEALED


@pytest.mark.usefixtures("filled")
def test_doctor_names_every_collection() -> None:
    named = {finding["name"]: finding["state"] for finding in doctor() if finding["section"] == "Collections"}
    assert named.keys() == collections()
    assert {*named.values()} == {"ok"}


def doctor() -> list[dict[str, Any]]:
    output = StringIO()
    with suppress(SystemExit):
        call_command("doctor", "--json", stdout=output)
    findings: list[dict[str, Any]] = json.loads(output.getvalue())["findings"]
    return findings


def note_in_portal(about: Model) -> None:
    """Add an entry about an object to the portal's log."""
    root = User.objects.get(subject="root")
    LogEntry.objects.log_actions(root.pk, [about], CHANGE, change_message="changed", single_object=True)
