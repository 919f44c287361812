"""`manage.py doctor`: what it finds, what it keeps secret, and its status."""

import datetime
import json
import os
import re
import subprocess
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from django.core.management import call_command
from pymongo import MongoClient
from pymongo.errors import NotPrimaryError
from pytest_django import Settings

from core import timestamps
from core.background import Worker
from core.models import BackgroundTask
from core.mongodb.documents import collection_of, mongodb
from core.mongodb.embedded import mongod_path
from core.mongodb.schema import declared_indexes
from drifts.models import Drift
from driftwatch.doctor import examine
from driftwatch.doctor.configuration import shown
from driftwatch.doctor.database import space
from driftwatch.doctor.finding import State, size
from driftwatch.tasks import TASKS
from files.contents import CHUNKS, INDEXES, chunks
from tests.ports import free_port
from tests.replica_set import ReplicaSet
from tests.test_database_login import NAME, PASSWORD, connected
from tests.test_database_unavailable import eventually

Finding = dict[str, Any]


@pytest.fixture
def worked() -> None:
    """The background tasks have run."""
    Worker(TASKS).run_once()


def doctor() -> tuple[int, dict[str, Finding]]:
    """Return the status of the command, and its findings by section and name."""
    output = StringIO()
    try:
        call_command("doctor", "--json", stdout=output)
    except SystemExit as end:
        status = int(str(end.code))
    else:
        status = 0
    report = json.loads(output.getvalue())
    assert report["status"] == ("problem" if status else "ok")
    return status, {f"{each['section']}: {each['name']}": each for each in report["findings"]}


def states(findings: dict[str, Finding], state: str) -> set[str]:
    """The names of the findings in a state. The disk of this machine may be fuller than others."""
    return {name for name, finding in findings.items() if finding["state"] == state and "disk" not in name}


@pytest.mark.usefixtures("worked")
def test_a_service_in_order_has_no_problem() -> None:
    _, findings = doctor()
    assert states(findings, "problem") == states(findings, "warning") == states(findings, "unknown") == set()
    assert findings["MongoDB: version"]["text"].startswith(("6.", "7.", "8."))
    assert findings["Replica set: majority"]["text"] == "members that respond: 1 of 1; writes need 1"
    assert findings["Migrations: migrations"]["text"].startswith("all ")
    assert "documents" in findings["Collections: drifts_drift"]["text"]
    assert {f"Background tasks: {task.name}" for task in TASKS} <= findings.keys()


@pytest.mark.usefixtures("worked")
def test_the_report_has_aligned_lines_and_ends_with_the_numbers() -> None:
    output = StringIO()
    call_command("doctor", stdout=output)
    lines = output.getvalue().splitlines()
    start = lines.index("Background tasks")
    columns = {line.index(" ok  ") for line in lines[start + 1 : start + 1 + len(TASKS)]}
    assert columns == {len("  ") + max(len(task.name) for task in TASKS) + len(" ")}
    assert re.fullmatch(r"Problems: 0\. Warnings: \d\.", lines[-1])


@pytest.mark.usefixtures("worked")
def test_a_missing_index_is_a_problem_with_the_command_that_creates_it() -> None:
    runs = collection_of(Drift)
    before = runs.index_information()
    runs.drop_index("drift_running")
    try:
        status, findings = doctor()
        assert (status, states(findings, "problem")) == (1, {"Collections: drifts_drift"})
        finding = findings["Collections: drifts_drift"]
        assert finding["text"].endswith("; missing: drift_running")
        command = re.fullmatch(r"Create them in mongosh: db\.drifts_drift\.createIndex\((.*)\);", finding["advice"])
        assert command
        keys, options = json_util.loads(f"[{command[1]}]")
        runs.create_index(list(keys.items()), **options)
    finally:
        runs.create_indexes(declared_indexes(mongodb(), Drift))
    assert runs.index_information() == before


@pytest.mark.usefixtures("worked")
def test_a_missing_index_of_gridfs_is_a_problem_too() -> None:
    chunks().drop_index("files_id_1_n_1")
    try:
        status, findings = doctor()
    finally:
        chunks().create_indexes(INDEXES[CHUNKS])
    assert (status, states(findings, "problem")) == (1, {"Collections: run_files.chunks"})
    assert findings["Collections: run_files.chunks"]["text"].endswith("; missing: files_id_1_n_1")
    assert "Collections: run_files.files" in findings


@pytest.mark.usefixtures("worked")
def test_an_index_of_nobody_is_a_warning() -> None:
    name = collection_of(Drift).create_index("anything")
    try:
        status, findings = doctor()
    finally:
        collection_of(Drift).drop_index(name)
    assert (status, states(findings, "warning")) == (0, {"Collections: drifts_drift"})
    assert "not of this release: anything_1" in findings["Collections: drifts_drift"]["text"]


def test_a_database_without_migrations_is_a_problem() -> None:
    with connected(os.environ["MONGODB_URI"]):
        status, findings = doctor()
    assert status == 1
    assert findings["Migrations: migrations"]["advice"] == "Run manage.py migrate."
    assert "are not applied" in findings["Migrations: migrations"]["text"]
    assert findings["Collections: drifts_drift"]["text"] == "the collection is missing"


@pytest.mark.usefixtures("worked")
def test_tasks_that_no_process_runs_or_that_fail_are_problems() -> None:
    names = ("purge", "recompute_runs", "upgrade_runs")
    purge, recompute_runs, upgrade_runs = (BackgroundTask.objects.get(name=name) for name in names)
    minute = datetime.timedelta(minutes=1)
    purge.due_at = timestamps.now() - 2 * minute
    recompute_runs.failures_in_a_row, recompute_runs.error = 3, "OSError: no space"
    upgrade_runs.due_at = timestamps.now() - 2 * minute
    upgrade_runs.lease_ends_at = timestamps.now() + minute
    for task in (purge, recompute_runs, upgrade_runs):
        task.save()
    status, findings = doctor()
    assert status == 1
    assert states(findings, "problem") == {"Background tasks: purge", "Background tasks: recompute_runs"}
    assert findings["Background tasks: purge"]["advice"] == "Start manage.py work."
    assert "last error: OSError: no space" in findings["Background tasks: recompute_runs"]["text"]
    assert findings["Background tasks: upgrade_runs"]["text"].startswith("running; ")


def test_a_clock_that_is_wrong_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    right = timestamps.now
    monkeypatch.setattr(timestamps, "now", lambda: right() + datetime.timedelta(seconds=60))
    _, findings = doctor()
    assert "ahead of the database's" in findings["Clock: clock"]["text"]
    assert findings["Clock: clock"]["state"] == "problem"


def test_without_a_database_the_rest_is_shown() -> None:
    member = f"127.0.0.1:{free_port()}"
    with connected(f"mongodb://ada:secret@{member}/?replicaSet=rs0"):
        status, findings = doctor()
    assert status == 1
    assert states(findings, "problem") == {"MongoDB: database"}
    assert "MongoDB does not respond" in findings["MongoDB: database"]["text"]
    assert "Connection refused" in findings[f"Replica set: {member}"]["text"]
    assert "secret" not in json.dumps(findings)
    assert findings["Versions: Drift Watch"]["state"] == "ok"


def test_the_embedded_database_is_not_started(tmp_path: Path, settings: Settings) -> None:
    settings.MONGODB_URI, settings.VAR_DIR = "", tmp_path
    status, findings = doctor()
    assert status == 1
    assert findings["MongoDB: database"]["text"].startswith("The embedded MongoDB does not respond (")
    assert not any(tmp_path.iterdir())


def test_an_address_that_is_none_is_not_repeated(settings: Settings) -> None:
    settings.MONGODB_URI = "mongodb://ada:hun:ter2@a/"
    status, findings = doctor()
    assert status == 1
    assert findings["MongoDB: database"]["text"] == "MONGODB_URI is not an address of MongoDB."
    assert "ter2" not in json.dumps(findings)


# Settings.


def test_each_setting_of_the_readme_is_shown() -> None:
    table = Path("README.md").read_text().partition("## Settings")[2].partition("\n\nIn production")[0]
    first_column = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    documented = set(re.findall(r"`([A-Z_]+)`", "".join(first_column)))
    sections = dict(examine())
    assert documented
    assert documented <= {finding.name for finding in sections["Settings"]}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("OIDC_RP_CLIENT_SECRET", "hunter2", "set"),
        ("OIDC_RP_CLIENT_SECRET", "", "not set"),
        ("METRICS_TOKEN", "hunter2", "set"),
        ("SECRET_KEY_FALLBACKS", ["hunter2"], "set"),
        ("SECRET_KEY", "", "set"),
        ("MONGODB_URI", "mongodb://ada:hunter2@a,b/?replicaSet=rs0", "mongodb://ada:***@a,b/?replicaSet=rs0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://hunter2@collector:4318", "https://***@collector:4318"),
        ("MONGODB_URI", "mongodb://ada:h@unter2@a/", "mongodb://ada:***@a/"),
        ("MONGODB_URI", "mongodb:/ada:hunter2@a:27017/", "mongodb:/ada:***@a:27017/"),
        ("MONGODB_URI", "mongodb:ada:hunter2@a:27017/", "mongodb:ada:***@a:27017/"),
        ("MONGODB_URI", "ada:hun:ter2@a:27017/", "ada:***@a:27017/"),
        ("MONGODB_URI", "mongodb://a:27017,b:27017/", "mongodb://a:27017,b:27017/"),
        (
            "MONGODB_URI",
            "mongodb://a/?tlsCertificateKeyFilePassword=hunter2&tls=true",
            "mongodb://a/?tlsCertificateKeyFilePassword=***&tls=true",
        ),
        (
            "MONGODB_URI",
            "mongodb://a/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
            "mongodb://a/?authMechanismProperties=***",
        ),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a:4318/?api_key=hunter2", "https://a:4318/?api_key=***"),
        ("CACHE_URL", "redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ("EMAIL_URL", "smtp://mail.example.org:25", "smtp://mail.example.org:25"),
        ("TOKEN_OWNER_DAYS", 90, "90"),
        ("OIDC_ISSUERS", [{"issuer": "https://login.example.org"}], '[{"issuer": "https://login.example.org"}]'),
        ("OIDC_ISSUERS", [], "not set"),
    ],
)
def test_settings_are_shown_without_secrets(name: str, value: object, text: str) -> None:
    assert shown(name, value) == text


# The disk.


@pytest.mark.parametrize(("free", "state"), [(50, State.OK), (10, State.WARNING), (4, State.PROBLEM)])
def test_little_space_on_the_disk_is_reported(free: float, state: State) -> None:
    assert space("disk", free * 2**30, 100 * 2**30).state == state


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 * 2**20, "5.0 MiB"), (2**41, "2,048.0 GiB")],
)
def test_sizes_are_readable(number: float, text: str) -> None:
    assert size(number) == text


# A replica set of several members.


def test_members_that_are_away_are_named(tmp_path: Path) -> None:
    replicas = ReplicaSet(tmp_path).start()
    try:
        with connected(replicas.uri):
            _, findings = doctor()
            addresses = [f"Replica set: {member.address}" for member in replicas.members]
            assert [findings[address]["text"].partition(",")[0] for address in addresses] == [
                "primary",
                "secondary",
                "secondary",
            ]
            assert findings["Replica set: majority"]["state"] == "ok"
            replicas.members[2].kill()
            eventually(lambda: doctor()[1][addresses[2]]["state"] == "warning")
            _, findings = doctor()
            assert findings[addresses[2]]["text"].startswith("not reachable: ")
            assert findings["Replica set: majority"]["text"] == "members that respond: 2 of 3; writes need 2"
        with connected(f"mongodb://{replicas.members[0].address}/?directConnection=true"):
            _, findings = doctor()
        assert findings["Replica set: majority"]["text"] == "connected to one of 3 members only"
        with connected(f"mongodb://{replicas.members[1].address}/?directConnection=true"):
            status, findings = doctor()
        assert status == 1
        assert "not the primary" in findings["Replica set: replica set"]["text"]
    finally:
        replicas.stop()


# A replica set with a login.


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """The address of a replica set with the user `readWrite`, and `monitor`, who has the role clusterMonitor too."""
    address, key = f"127.0.0.1:{free_port()}", tmp_path / "key"
    key.write_text("akeyofthemembers")
    key.chmod(0o600)
    options = ("--replSet", "rs0", "--keyFile", str(key), "--bind_ip", "127.0.0.1", "--nounixsocket")
    files = ("--dbpath", str(tmp_path), "--logpath", str(tmp_path / "mongod.log"), "--wiredTigerCacheSizeGB", "0.25")
    server = subprocess.Popen(
        [mongod_path(), "--port", address.partition(":")[2], *options, *files], stdout=subprocess.DEVNULL
    )
    try:
        with MongoClient[Any](address, directConnection=True) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": address}]})
            eventually(lambda: created(client, "admin", "root", "root"))
        with MongoClient[Any](f"mongodb://root:{PASSWORD}@{address}/?directConnection=true") as client:
            assert created(client, NAME, "readWrite", "readWrite")
            assert created(client, NAME, "monitor", "readWrite", {"role": "clusterMonitor", "db": "admin"})
        yield f"{address}/{NAME}?replicaSet=rs0"
    finally:
        server.kill()
        server.wait()


def created(client: MongoClient[Any], database: str, user: str, *roles: Any) -> bool:
    try:
        client[database].command("createUser", user, pwd=PASSWORD, roles=roles)
    except NotPrimaryError:
        # An election takes a moment.
        return False
    return True


def test_a_user_with_few_rights_learns_what_it_may_not_see(guarded: str) -> None:
    with connected(f"mongodb://readWrite:{PASSWORD}@{guarded}"):
        call_command("migrate", verbosity=0)
        Worker(TASKS).run_once()
        status, findings = doctor()
    assert (status, states(findings, "problem")) == (0, set())
    assert states(findings, "unknown") == {"MongoDB: feature compatibility", "Replica set: oplog"}
    assert {findings[name]["text"] for name in states(findings, "unknown")} == {"not allowed to see"}
    assert findings["Collections: drifts_drift"]["state"] == "ok"
    with connected(f"mongodb://monitor:{PASSWORD}@{guarded}"):
        status, findings = doctor()
    assert (status, states(findings, "unknown")) == (0, set())
    assert findings["Replica set: oplog"]["text"].startswith("spans ")
    with connected(f"mongodb://readWrite:wrong@{guarded}"):
        status, findings = doctor()
    assert status == 1
    assert (
        findings["MongoDB: database"]["text"]
        == "MongoDB refuses the user name or the password in MONGODB_URI. Correct them."
    )
