"""`manage.py export` and `manage.py import`: what they take along, and what they do when something is in the way."""

import datetime
import gzip
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from accounts.models import ServiceToken, User
from audit.models import Event
from core import timestamps
from core.mongodb.documents import collection_of, mongodb
from drifts.models import Drift
from drifts.upgrades import Place, make_pass
from experiments.models import DeletedExperiment, Experiment
from tests.belongings import fill, insert_file, insert_run, raw, stored, wipe
from tests.caller import Caller
from tests.conftest import RUN, purge_in_background
from tests.live import ROOT
from tests.provider import Provider
from tests.test_observed_at import as_older_record
from transfer import exporting
from transfer.canonical import line_of, read
from transfer.collections import EXPORTED
from transfer.exporting import Source
from transfer.progress import Progress

# Names by which Extended JSON tells the type of a value, and others.
RESERVED = [*json_util._PARSERS, *"$id $db $options $type $scope base64 subType t i pattern a".split()]
FILES = ("files_runfile", "run_files.files", "run_files.chunks")
SOON = 20


@pytest.fixture(autouse=True)
def collections_of_files() -> Iterator[None]:
    """GridFS has the indexes that every driver makes, and no test finds the files of another."""
    files = mongodb().database
    files["run_files.chunks"].create_index([("files_id", 1), ("n", 1)], name="files_id_1_n_1", unique=True)
    yield
    for name in FILES:
        files[name].delete_many({})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def filled(experiment: Experiment, drift: Drift) -> Experiment:
    """The experiment in a service that has something of everything."""
    fill(experiment)
    return experiment


def take_along(directory: Path, *options: str) -> str:
    return command("export", directory, *options)


def take_in(directory: Path, *options: str) -> str:
    return command("import", directory, *options)


def command(name: str, directory: Path, *options: str) -> str:
    """Run a command, and return what it prints. A failure ends with its message."""
    out = StringIO()
    try:
        call_command(name, str(directory), *options, stdout=out, stderr=StringIO())
    except CommandError as error:
        return f"{out.getvalue()}FAILED: {error}"
    return out.getvalue()


def counts(said: str) -> dict[str, str]:
    """The lines of a report that have the numbers of a collection."""
    return dict(re.findall(r"^(\S+): (\d.*)$", said, re.MULTILINE))


def without_imports() -> Any:
    """The documents as they are stored, but for the events of imports, which the service adds."""
    collections = stored()
    imports = [event.pk.hex for event in Event.objects.filter(action="imported")]
    for pk in imports:
        del collections["audit_event"][pk]
    return collections


def manifest(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "manifest.json").read_text())


# The round trip.


@pytest.mark.usefixtures("filled")
def test_everything_comes_back_byte_by_byte(out: Path) -> None:
    take_along(out)
    before = stored()
    assert [name for name in EXPORTED if not before[name]] == []
    wipe()
    said = take_in(out)
    assert without_imports() == before
    assert counts(said) == {name: f"{len(documents)} inserted" for name, documents in before.items()}
    assert Event.objects.filter(action="exported").count() == Event.objects.filter(action="imported").count() == 1


def test_a_second_import_changes_nothing(filled: Experiment, out: Path) -> None:
    take_along(out)
    before = stored()
    said = take_in(out)
    assert without_imports() == before
    assert counts(said) == {name: f"{len(documents)} already there" for name, documents in before.items()}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(RESERVED), inner, max_size=3),
    max_leaves=6,
)


@hypothesis_settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
@given(st.dictionaries(st.sampled_from(RESERVED), VALUES, max_size=3))
def test_no_object_of_a_client_is_taken_for_a_value(parameters: dict[str, Any]) -> None:
    stored_bytes = bson.encode({"_id": "1", "parameters": parameters})
    line = line_of(stored_bytes)
    assert read(line)[0] == stored_bytes
    assert b"\n" not in line


def test_the_largest_documents_come_back(experiment: Experiment, out: Path) -> None:
    insert_run(experiment, parameters={"values": [number / 7 for number in range(100_000)]})
    insert_run(experiment, parameters={"text": "x$" * 6_000_000})
    assert max(len(document) for document in stored()["drifts_drift"].values()) > 12_000_000
    take_along(out)
    before = stored()
    wipe()
    take_in(out)
    assert without_imports() == before


@pytest.mark.usefixtures("filled")
def test_the_service_works_with_what_came_back(manager: Caller, out: Path, experiment: Experiment) -> None:
    take_along(out)
    wipe()
    take_in(out)
    assert manager.get(f"/experiment/{experiment.pk}").json()["name"] == "wine quality"
    assert User.objects.get(subject="root").check_password("correct horse battery")
    assert manager.post("/experiment", {"name": "wine quality"}).status_code == 409
    purge_in_background()


def test_other_data_of_the_service_stays(filled: Experiment, out: Path) -> None:
    take_along(out)
    taken = stored()
    wipe()
    other = Experiment.objects.create(name="rye")
    insert_run(other)
    User.objects.create_superuser("somebody", "somebody@example.org", "another password")
    before = stored()
    take_in(out)
    assert without_imports() == {name: {**before[name], **taken[name]} for name in EXPORTED}


def test_only_its_owner_can_read_an_export(filled: Experiment, out: Path) -> None:
    take_along(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}


def test_an_export_of_a_few_minutes_is_of_one_moment(
    filled: Experiment, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: dict[str, Any] = {}

    def change(progress: Progress, collection: str) -> None:
        if not before:
            before.update(stored())
            Experiment.objects.create(name="late")
            Experiment.objects.filter(pk=filled.pk).update(description="changed")

    monkeypatch.setattr(Progress, "advance", change)
    take_along(out)
    monkeypatch.undo()
    wipe()
    take_in(out)
    assert without_imports() == before


def test_a_longer_export_goes_on_with_a_later_moment(
    filled: Experiment, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MOMENT_SECONDS", 0)
    monkeypatch.setattr(exporting, "PART_DOCUMENTS", 1)
    said = take_along(out)
    before = stored()
    documents = sum(map(len, before.values()))
    assert len({part["moment"] for part in manifest(out)["parts"]}) > documents / 2
    assert "The parts are of" in said
    wipe()
    take_in(out)
    assert without_imports() == before


@pytest.mark.usefixtures("filled")
def test_a_moment_that_mongodb_has_forgotten_is_replaced_by_a_later_one(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, failures = Source.documents, iter([False, True, False, True])

    def forgotten(source: Source, collection: str, position: str | None) -> Any:
        if next(failures, False):
            raise OperationFailure("Read timestamp is older than the oldest available", 239)
        return documents(source, collection, position)

    monkeypatch.setattr(Source, "documents", forgotten)
    with pytest.raises(OperationFailure):
        take_along(out)
    take_along(out)
    before = stored()
    wipe()
    take_in(out)
    assert without_imports() == before


# Clashes.


def test_a_document_that_differs_is_told_and_stays(filled: Experiment, drift: Drift, out: Path) -> None:
    take_along(out)
    Experiment.objects.filter(pk=filled.pk).update(description="changed here")
    Drift.objects.of(filled).get(pk=drift.pk).update(note="changed here")
    lost = insert_run(filled)
    collection_of(Drift).delete_one({"_id": lost})
    before = stored()
    said = take_in(out)
    different = "A different document with this id is stored. It stays as it is."
    assert f"experiments_experiment {filled.pk.hex}, 'wine quality': {different}" in said
    assert f"drifts_drift {drift.pk.hex}, 'forest': {different}" in said
    assert "FAILED: Clashes: 2." in said
    assert without_imports() == before


def test_what_the_service_notes_by_itself_is_no_difference(filled: Experiment, out: Path) -> None:
    take_along(out)
    now = timestamps.now()
    User.objects.update(last_login=now, last_seen_at=now, entitlements=["urn:example:group:new"])
    ServiceToken.objects.update(last_used_at=now)
    Experiment.objects.update(retention_seen=30, retention_seen_at=now, restored_at=now)
    before = stored()
    said = take_in(out)
    assert "FAILED" not in said
    assert without_imports() == before


def test_deleted_runs_come_back_to_a_changed_experiment(filled: Experiment, drift: Drift, out: Path) -> None:
    take_along(out)
    Experiment.objects.filter(pk=filled.pk).update(description="changed here")
    drift.delete()
    take_in(out)
    assert Drift.objects.of(filled).filter(pk=drift.pk).exists()


def test_an_experiment_whose_name_is_taken_is_left_out_with_all_that_belongs_to_it(
    filled: Experiment, out: Path
) -> None:
    other = Experiment.objects.create(name="rye")
    kept = insert_run(other)
    take_along(out)
    wipe()
    taken = Experiment.objects.create(name="wine quality")
    said = take_in(out)
    reason = f"{taken.pk.hex} has the same name here. It is left out, with its runs, files and events."
    assert f"experiments_experiment {filled.pk.hex}, 'wine quality': {reason}" in said
    assert "FAILED: Clashes: 1." in said
    assert [run.pk.hex for run in Drift.objects.of(other)] == [kept]
    belonging = {
        name: [each for each, document in documents.items() if filled.pk.hex.encode() in document]
        for name, documents in stored().items()
    }
    assert [name for name, found in belonging.items() if found] == []
    assert not any(mongodb().database[name].count_documents({}) for name in FILES)
    assert counts(said)["files_runfile"] == "1 left out"


def test_an_experiment_in_the_trash_does_not_come_back_and_loses_nothing(filled: Experiment, out: Path) -> None:
    take_along(out)
    filled.delete_by(None)
    before = stored()
    said = take_in(out)
    assert "It is in the trash here." in said
    assert not Experiment.objects.filter(pk=filled.pk).exists()
    assert without_imports() == before


def test_an_experiment_that_was_restored_is_not_deleted_by_an_import(filled: Experiment, out: Path) -> None:
    document = raw("experiments_experiment").find_one({"_id": filled.pk.hex})
    runs = Drift.objects.of(filled).count()
    filled.delete_by(None)
    take_along(out)
    DeletedExperiment.objects.filter(pk=filled.pk).delete()
    collection_of(Experiment).insert_one(document)
    said = take_in(out)
    assert "It is deleted in the export, and not here." in said
    purge_in_background()
    assert Drift.objects.of(filled).count() == runs


def test_a_local_account_of_the_same_name_is_another_person(filled: Experiment, out: Path) -> None:
    root = User.objects.get(subject="root")
    ServiceToken.objects.issue(root, "of root", datetime.timedelta(days=1))
    take_along(out)
    wipe()
    other = User.objects.create_superuser("root", "other@example.org", "another password")
    said = take_in(out)
    assert (
        f"accounts_user {root.pk.hex}, 'root@example.org': {other.pk.hex} has the same issuer and subject here." in said
    )
    assert counts(said)["accounts_servicetoken"] == "1 inserted, 1 left out"
    assert list(User.objects.filter(subject="root")) == [other]


def test_the_account_of_a_provider_keeps_its_rights_under_another_id(
    filled: Experiment, manager: Caller, provider: Provider, out: Path
) -> None:
    assert manager.patch(f"/experiment/{filled.pk}", {"description": "new"}).status_code == 200
    take_along(out)
    wipe()
    here = User.objects.create(issuer=provider.issuer, subject="manager", email="manager@example.org")
    said = take_in(out)
    assert "FAILED" not in said
    assert User.objects.filter(subject="manager").get() == here
    assert Experiment.objects.naming_entity(str(here.pk)).get() == filled
    assert ServiceToken.objects.get().user == here
    assert Event.objects.get(action="experiment_updated").actor.user_id == here.pk
    assert mongodb().database["files_runfile"].find_one()["created_by"] == here.pk.hex
    # The values of events are history.
    documents = [each for name in EXPORTED for each in mongodb().database[name].find({}, {"before": 0, "after": 0})]
    assert [each for each in documents if manager.id in str(each) or uuid.UUID(manager.id).hex in str(each)] == []
    before = without_imports()
    assert "FAILED" not in take_in(out)
    assert without_imports() == before


def test_a_taken_name_of_a_token_is_told(filled: Experiment, out: Path) -> None:
    take_along(out)
    token = ServiceToken.objects.get()
    collection_of(ServiceToken).delete_one({"_id": token.pk.hex})
    collection_of(ServiceToken).insert_one(
        {"_id": uuid.uuid4().hex, "user_id": token.user.pk.hex, "held_name": "nightly"}
    )
    assert "has the same user_id and held_name here. It is left out." in take_in(out)


def test_a_dry_run_tells_the_same_and_changes_nothing(filled: Experiment, out: Path) -> None:
    take_along(out)
    wipe()
    Experiment.objects.create(name="wine quality")
    before = stored()
    said = take_in(out, "--dry-run")
    assert stored() == before
    assert "This is a dry run: nothing is changed." in said
    assert [line for line in take_in(out).splitlines() if "took" not in line] == [
        line for line in said.splitlines() if "took" not in line and "dry run" not in line
    ]


# One experiment.


def test_one_experiment_comes_with_its_people_and_without_what_they_may_do_elsewhere(
    filled: Experiment, drift: Drift, out: Path
) -> None:
    other = Experiment.objects.create(name="rye")
    insert_file(other, Drift.objects.get(pk=insert_run(other)), b"other")
    User.objects.filter(subject="editor").update(is_staff=True, is_superuser=True, password="md5$secret")
    take_along(out, "--experiment", str(filled.pk))
    before = stored()
    wipe()
    take_in(out)
    after = without_imports()
    of_filled = {
        name: {pk: document for pk, document in before[name].items() if filled.pk.hex.encode() in document}
        for name in ("experiments_experiment", "drifts_drift", "files_runfile", "audit_event")
    }
    assert {name: after[name] for name in of_filled} == of_filled
    (file,) = after["files_runfile"]
    assert [*after["run_files.files"]] == [file]
    assert {document["files_id"] for document in mongodb().database["run_files.chunks"].find()} == {file}
    assert after["accounts_servicetoken"] == after["experiments_deletedexperiment"] == {}
    people = User.objects.order_by("subject")
    assert [person.subject for person in people] == ["editor", "manager", "reader"]
    assert not any(person.is_staff or person.is_superuser or person.has_usable_password() for person in people)


def test_one_experiment_of_an_export_of_all_is_the_same(filled: Experiment, out: Path, tmp_path: Path) -> None:
    insert_run(Experiment.objects.create(name="rye"))
    take_along(out, "--experiment", str(filled.pk))
    take_along(tmp_path / "all")
    wipe()
    take_in(out)
    alone = without_imports()
    wipe()
    take_in(tmp_path / "all", "--experiment", str(filled.pk))
    assert without_imports() == alone


def test_one_experiment_comes_back_to_its_own_service(filled: Experiment, out: Path) -> None:
    take_along(out, "--experiment", str(filled.pk))
    before = stored()
    for name, column in {"experiments_experiment": "_id", "drifts_drift": "experiment_id"}.items():
        mongodb().database[name].delete_many({column: filled.pk.hex})
    assert stored() != before
    said = take_in(out)
    assert "FAILED" not in said
    assert counts(said)["accounts_user"] == "3 already there"
    assert without_imports() == before


def test_an_unknown_experiment_is_refused(filled: Experiment, out: Path) -> None:
    unknown = str(uuid.uuid4())
    assert f"No experiment has the id {unknown}." in take_along(out, "--experiment", unknown)
    take_along(out)
    before = stored()
    assert "has no such experiment" in take_in(out, "--experiment", unknown)
    assert stored() == before


# Refusals.


def damage(out: Path) -> None:
    path = sorted(out.glob("*drifts_drift*"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_manifest(**values: Any) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        (out / "manifest.json").write_text(json.dumps(manifest(out) | values))

    return change


def change_part(**values: Any) -> Callable[[Path], None]:
    """Change the entry of the runs in the manifest."""

    def change(out: Path) -> None:
        parts = manifest(out)["parts"]
        change_manifest(parts=[part | values if part["collection"] == "drifts_drift" else part for part in parts])(out)

    return change


def change_runs(content: bytes) -> Callable[[Path], None]:
    """Replace the file of the runs, with a manifest that fits."""

    def change(out: Path) -> None:
        next(out.glob("*drifts_drift*")).write_bytes(content)
        change_part(sha256=hashlib.sha256(content).hexdigest())(out)

    return change


def change_lines(*lines: bytes) -> Callable[[Path], None]:
    return change_runs(gzip.compress(b"\n".join(lines)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (change_part(file="../00003-drifts_drift.ndjson.gz"), "manifest.json is damaged"),
        (change_part(file="/00003-drifts_drift.ndjson.gz"), "manifest.json is damaged"),
        (change_part(file=None), "manifest.json is damaged"),
        (change_part(documents="5"), "manifest.json is damaged"),
        (change_part(collection=["drifts_drift"]), "manifest.json is damaged"),
        (change_manifest(migrations=None), "manifest.json is damaged"),
        (change_manifest(migrations=[[]]), "manifest.json is damaged"),
        (change_manifest(experiment="all"), "manifest.json is damaged"),
        (lambda out: (out / "manifest.json").write_text("[" * 100_000), "manifest.json is damaged"),
        (damage, "drifts_drift.ndjson.gz is damaged: its SHA-256 is not that of the manifest."),
        (lambda out: next(out.glob("*audit_event*")).unlink(), "audit_event.ndjson.gz is missing."),
        (lambda out: (out / "manifest.json").unlink(), "has no manifest.json."),
        (lambda out: (out / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (change_manifest(finished_at=None), "is unfinished. Finish it with the same `manage.py export` command."),
        (change_manifest(format=2, release="9.9.9"), "of a later release, 9.9.9. Upgrade this service first."),
        (change_manifest(migrations=["drifts.0099_later"], release="9.9.9"), "of a later release, 9.9.9."),
    ],
)
def test_an_export_that_cannot_be_trusted_is_refused(
    filled: Experiment, out: Path, change: Callable[[Path], None], sentence: str
) -> None:
    take_along(out)
    change(out)
    wipe()
    said = take_in(out)
    assert said.startswith("FAILED: ")
    assert sentence in said
    assert not any(stored().values())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (change_lines(b'{"_id": "a"}', b"hello"), "Line 2 of "),
        (change_lines(b"", b""), "Line 1 of "),
        (change_lines(b"\xff"), "Line 1 of "),
        (change_lines(b"[1]"), "Line 1 of "),
        (change_lines(b'{"experiment_id": "a"}'), "Line 1 of "),
        (change_lines(b'{"_id": ["a"]}'), "Line 1 of "),
        (change_lines(b'{"_id": {"$numberLong": "9999999999999999999999"}}'), "Line 1 of "),
        (change_lines(b'{"a":' * 100_000), "Line 1 of "),
        (change_runs(b"hello"), "The export cannot be read: "),
        (change_runs(gzip.compress(b"hello")[:-9]), "The export cannot be read: "),
        (change_runs(gzip.compress(b"hello" * 99)[:10] + b"\xff" * 30), "The export cannot be read: "),
    ],
)
def test_a_file_that_is_no_part_of_an_export_is_told(
    filled: Experiment, out: Path, change: Callable[[Path], None], sentence: str
) -> None:
    take_along(out)
    change(out)
    said = take_in(out, "--dry-run")
    assert "FAILED: " in said
    assert sentence in said


def test_an_export_overwrites_nothing(filled: Experiment, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert "is not empty, and has no manifest.json." in take_along(out)
    (out / "notes.txt").unlink()
    take_along(out)
    assert "has a finished export" in take_along(out)
    change_manifest(finished_at=None)(out)
    assert "began with another experiment." in take_along(out, "--experiment", str(filled.pk))


def test_a_directory_that_cannot_be_written_is_told(filled: Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "The export cannot be written: " in take_along(tmp_path / "file" / "out")


# Interruptions.


def process(name: str, out: Path, **patches: int) -> subprocess.Popen[str]:
    """Start the real command with small parts and batches, so that it can be killed in the middle."""
    module = {"export": "exporting", "import": "importing"}[name]
    patch = "".join(f"transfer.{module}.{key} = {value};" for key, value in patches.items())
    code = (
        f"import django, manage, sys; django.setup(); import transfer.{module}; {patch}"
        f"sys.argv = ['manage.py', '{name}', '{out}']; manage.main()"
    )
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "driftwatch.settings",
        "MONGODB_NAME": mongodb().database.name,
    }
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True)


def kill_once(process: subprocess.Popen[str], is_time: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not is_time():
        assert process.poll() is None, "the command ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture
def many(filled: Experiment) -> int:
    Drift.objects.bulk_create([Drift(experiment=filled, **RUN) for _ in range(1_500)])
    return 1_502


def test_an_export_that_was_killed_continues(filled: Experiment, many: int, out: Path) -> None:
    kill_once(process("export", out, PART_DOCUMENTS=50), lambda: len([*out.glob("*drifts_drift*.gz")]) > 3)
    kept = {part["file"]: part["sha256"] for part in manifest(out)["parts"]}
    assert not manifest(out)["finished_at"]
    assert len(kept) < many / 50
    (out / "00099-drifts_drift.ndjson.gz.unfinished").write_text("")
    take_along(out)
    parts = {part["file"]: part["sha256"] for part in manifest(out)["parts"]}
    assert kept.items() <= parts.items()
    assert {path.name for path in out.iterdir()} == {"manifest.json", *parts}
    before = stored()
    wipe()
    take_in(out)
    assert without_imports() == before


def test_an_import_that_was_killed_is_completed_and_nothing_is_doubled(
    filled: Experiment, many: int, out: Path
) -> None:
    take_along(out)
    before = stored()
    wipe()
    runs = collection_of(Drift)
    kill_once(process("import", out, BATCH_DOCUMENTS=25), lambda: runs.estimated_document_count() > 100)
    assert 0 < runs.count_documents({}) < many
    assert not Experiment.objects.exists()
    said = take_in(out)
    assert "FAILED" not in said
    assert without_imports() == before
    assert re.fullmatch(r"[\d,]+ inserted, [\d,]+ already there", counts(said)["drifts_drift"])
    assert Event.objects.filter(action="imported").count() == 2


def test_two_processes_do_not_export_to_one_directory(filled: Experiment, out: Path) -> None:
    with exporting.opened(out, None):
        assert "Another process exports to" in take_along(out)


# After an import.


def test_imported_runs_are_upgraded_though_later_ones_are_already(
    experiment: Experiment, drift: Drift, out: Path
) -> None:
    as_older_record(str(drift.pk))
    take_along(out)
    wipe()
    make_pass(lambda: False, print)
    assert Place.stored() != Place()
    take_in(out)
    assert collection_of(Drift).find_one({"schema_version": "1.0.0"})
    make_pass(lambda: False, print)
    assert not collection_of(Drift).find_one({"schema_version": "1.0.0"})


def test_the_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in (
        (Terminal(), "\r[###...........................] 100 of 1,000 documents"),
        (StringIO(), "100 of 1,000 documents, "),
    ):
        progress = Progress(stream, 1_000)
        progress.shown_at -= 60
        for _ in range(150):
            progress.advance("drifts_drift")
        assert stream.getvalue().startswith(shown)
