"""A database written before the packages were moved: migration, indexes and requests.

`databases/2026-11-27.json` is a dump in MongoDB's canonical Extended JSON: the indexes and the documents of each
collection, one on a line, and the service tokens, which a database does not store. The code of commit e4022e6, the last
one before the move, wrote the database: its commands `migrate` and `token`, its gunicorn by HTTP requests, and its
models for the rest. Its SECRET_KEY was the one below. In the dump, sessions and active tokens last until 2100, and so
do the documents that MongoDB removes when they expire.

The deletion of the experiment `weld inspection` was interrupted.
"""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from bson import json_util
from django.apps import apps
from pymongo import MongoClient
from pymongo.database import Database

from core.models import RequestCount
from core.mongodb.documents import mongodb
from tests.crowd import RemoteUser
from tests.live import LiveServer

DUMP = Path(__file__).parent / "databases" / "2026-11-27.json"
SECRET_KEY = "the secret of the service that wrote tests/databases/2026-11-27.json"
PASSWORD = "correct horse battery"
TIMEOUT = 30

Document = dict[str, Any]


class OlderDatabase:
    """The dump, for restoring into a database and for comparison."""

    def __init__(self, path: Path) -> None:
        dump = json_util.loads(path.read_text())
        self.tokens: dict[str, str] = dump["tokens"]
        self.collections: dict[str, dict[str, list[Document]]] = dump["collections"]

    def restore(self, database: Database[Document]) -> None:
        for name, collection in self.collections.items():
            database.create_collection(name)
            database.command("createIndexes", name, indexes=collection["indexes"])
            if collection["documents"]:
                database[name].insert_many(collection["documents"])

    def documents(self, collection: str) -> list[Document]:
        return self.collections[collection]["documents"]

    def experiment(self, name: str) -> Document:
        (found,) = (each for each in self.documents("experiments_experiment") if each["name"] == name)
        return found

    def runs(self, experiment: str) -> list[Document]:
        """The runs of an experiment, the newest first."""
        owner = self.experiment(experiment)["_id"]
        found = (run for run in self.documents("drifts_drift") if run["experiment_id"] == owner)
        return sorted(found, key=lambda run: run["_id"], reverse=True)

    def id(self, experiment: str) -> uuid.UUID:
        return uuid.UUID(self.experiment(experiment)["_id"])

    def path(self, experiment: str) -> str:
        """The path of an experiment in the API."""
        return f"/experiment/{self.id(experiment)}"


@pytest.fixture(scope="module")
def older() -> OlderDatabase:
    return OlderDatabase(DUMP)


@pytest.fixture(scope="module")
def server(older: OlderDatabase, testrun_uid: str, worker_id: str) -> Iterator[LiveServer]:
    """The current service over the older database. `start` migrates it first."""
    server = LiveServer(
        MONGODB_NAME=f"older_{testrun_uid[:8]}_{worker_id}",
        SECRET_KEY=SECRET_KEY,
        OIDC_USER_ENTITLEMENTS="[]",
        OIDC_ADMIN_ENTITLEMENTS='["admins"]',
        # Below 200, a limit is exact: each login updates the counters.
        RATE_LIMIT_LOGIN="100/minute",
    )
    with MongoClient[Document](server.environment["MONGODB_URI"]) as client:
        older.restore(client[server.environment["MONGODB_NAME"]])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stored(server: LiveServer) -> Iterator[Database[Document]]:
    """The older database in its present state."""
    with MongoClient[Document](server.environment["MONGODB_URI"]) as client:
        yield client[server.environment["MONGODB_NAME"]]


@pytest.fixture
def anonymous(server: LiveServer) -> RemoteUser:
    """A caller without a token."""
    caller = RemoteUser(server.api, "")
    caller.authorization.clear()
    return caller


@pytest.fixture
def ada(server: LiveServer, older: OlderDatabase) -> RemoteUser:
    """A user of an OpenID issuer, by a service token. Manages every experiment but `weld inspection`."""
    return RemoteUser(server.api, older.tokens["ada"])


@pytest.fixture
def pipeline(server: LiveServer, older: OlderDatabase) -> RemoteUser:
    """A local user, by a service token that carries the group that reads `credit scoring`."""
    return RemoteUser(server.api, older.tokens["pipeline"])


@pytest.fixture
def browser(server: LiveServer) -> Iterator[requests.Session]:
    with requests.Session() as browser:
        browser.headers["Accept"] = "text/html"
        yield browser


def log_in(browser: requests.Session, url: str, password: str) -> requests.Response:
    """Send the form of the login page for the local administrator."""
    page = browser.get(f"{url}/login", timeout=TIMEOUT)
    (token,) = re.findall('name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    form = {"username": "root", "password": password, "csrfmiddlewaretoken": token}
    return browser.post(page.url, form, timeout=TIMEOUT)


# Migration


def test_nothing_is_left_to_migrate(server: LiveServer) -> None:
    server.manage("migrate", "--check")
    assert "[ ]" not in server.manage("showmigrations")


def test_migrations_that_were_applied_keep_their_labels(older: OlderDatabase, stored: Database[Document]) -> None:
    before, after = older.documents("django_migrations"), list(stored["django_migrations"].find().sort("_id"))
    assert [row for row in after if row["_id"] in {row["_id"] for row in before}] == before
    names = [(row["app"], row["name"]) for row in after]
    assert len(set(names)) == len(names)
    assert {("driftwatch", "0001_request_count"), ("driftwatch", "0002_kept_answer")} <= set(names)
    assert "core" not in {app for app, _ in names}


def test_the_days_of_absence_of_an_older_account_begin_with_the_migration(
    older: OlderDatabase, stored: Database[Document]
) -> None:
    newest = max(event["created_at"] for event in older.documents("audit_event"))
    assert all(user["last_seen_at"] > newest.replace(tzinfo=None) for user in stored["accounts_user"].find())


def test_content_types_and_permissions_keep_their_ids(older: OlderDatabase, stored: Database[Document]) -> None:
    for name in ("django_content_type", "auth_permission"):
        before = older.documents(name)
        assert list(stored[name].find({"_id": {"$in": [each["_id"] for each in before]}}).sort("_id")) == before
    assert stored["django_content_type"].count_documents({"app_label": "core"}) == 0


def test_every_model_has_its_indexes_as_in_a_new_database(stored: Database[Document]) -> None:
    for model in apps.get_models(include_auto_created=True):
        meta = model._meta
        indexes = stored[meta.db_table].index_information()
        assert {item.name for item in (*meta.indexes, *meta.constraints)} <= indexes.keys()
        assert indexes == mongodb().database[meta.db_table].index_information(), meta.label


# The API


def test_a_visitor_reads_the_public_experiment(anonymous: RemoteUser, older: OlderDatabase) -> None:
    response = anonymous.call("GET", older.path("wine quality"))
    assert response.status_code == 200, response.text
    shown, before = response.json(), older.experiment("wine quality")
    assert uuid.UUID(shown["id"]).hex == before["_id"]
    assert shown["permissions"] == []
    names = ("name", "description", "public", "tags", "config")
    assert {name: shown[name] for name in names} == {name: before[name] for name in names}


def test_a_visitor_reads_the_runs_of_the_public_experiment(anonymous: RemoteUser, older: OlderDatabase) -> None:
    response = anonymous.call("POST", f"{older.path('wine quality')}/drift/search", {})
    assert response.status_code == 200, response.text
    names = ("job_status", "model", "parameters", "tags", "detector", "environment", "model_version", "schema_version")
    shown = [{"_id": uuid.UUID(run["id"]).hex, **{name: run[name] for name in names}} for run in response.json()]
    before = older.runs("wine quality")
    assert shown == [{name: run[name] for name in ("_id", *names)} for run in before]
    verdicts = [(run["model"], run["verdict"]) for run in response.json()]
    assert verdicts == [
        ("ridge", "no_drift"),
        ("forest", "no_drift"),
        ("boost", "unknown"),
        ("boost", "unknown"),
        ("boost", "drift"),
        ("forest", "drift"),
        ("forest", "no_drift"),
    ]
    for run in response.json():
        one = anonymous.call("GET", f"{older.path('wine quality')}/drift/{run['id']}")
        assert one.json() == run


@pytest.mark.parametrize(
    ("document", "numbers"),
    [
        ({"verdict": "drift"}, [4, 5]),
        ({"job_status": {"$in": ["Running", "Failed"]}}, [2, 3]),
        ({"tags": "nightly"}, [5, 6]),
        ({"detector": "Kolmogorov-Smirnov", "drift_detected": False}, [6]),
        ({"parameters.p_value": {"$lt": 0.05}}, [4, 5]),
        ({"parameters.features.alcohol.statistic": {"$gte": 0.4}}, [5]),
        ({"parameters.rows": 9_007_199_254_740_993}, [4]),
        ({"$or": [{"model": "ridge"}, {"environment": "production"}]}, [0, 5, 6]),
    ],
    ids=json.dumps,
)
def test_filters_find_the_runs(
    anonymous: RemoteUser, older: OlderDatabase, document: Document, numbers: list[int]
) -> None:
    """`numbers` are positions in the list of runs, the newest first."""
    response = anonymous.call("POST", f"{older.path('wine quality')}/drift/search", document)
    assert response.status_code == 200, response.text
    runs = older.runs("wine quality")
    assert [uuid.UUID(run["id"]).hex for run in response.json()] == [runs[number]["_id"] for number in numbers]


def test_only_users_with_a_permission_read_the_private_experiment(
    anonymous: RemoteUser, ada: RemoteUser, pipeline: RemoteUser, older: OlderDatabase
) -> None:
    path = older.path("credit scoring")
    levels = [caller.call("GET", f"{path}/access").json().get("level") for caller in (ada, pipeline)]
    assert levels == ["Manage", "Read"]
    for caller in (ada, pipeline):
        assert caller.call("GET", path).json()["permissions"] == older.experiment("credit scoring")["permissions"]
        runs = caller.call("POST", f"{path}/drift/search", {}).json()
        assert [uuid.UUID(run["id"]).hex for run in runs] == [run["_id"] for run in older.runs("credit scoring")]
    assert anonymous.call("GET", path).status_code == 403


def test_experiments_are_searched(anonymous: RemoteUser, ada: RemoteUser) -> None:
    def names(caller: RemoteUser, document: Document) -> list[str]:
        response = caller.call("POST", "/experiment/search", document)
        assert response.status_code == 200, response.text
        return [experiment["name"] for experiment in response.json()]

    assert names(ada, {}) == ["delivery times", "credit scoring", "wine quality"]
    assert names(ada, {"tags": "finance"}) == ["credit scoring"]
    assert names(anonymous, {}) == ["delivery times", "wine quality"]


def test_a_run_is_created(ada: RemoteUser, pipeline: RemoteUser, older: OlderDatabase) -> None:
    path = f"{older.path('delivery times')}/drift"
    run = {"job_status": "Completed", "model": "eta-south", "drift_detected": True, "parameters": {"p_value": 0.01}}
    created = ada.call("POST", path, run)
    assert created.status_code == 201, created.text
    assert pipeline.call("GET", f"{path}/{created.json()['id']}").json() == created.json()
    assert pipeline.call("POST", path, run).status_code == 403


def test_a_stored_response_from_before_the_move_is_repeated(ada: RemoteUser, older: OlderDatabase) -> None:
    path = f"{older.path('wine quality')}/drift"
    run = {"job_status": "Completed", "model": "ridge", "drift_detected": False, "parameters": {"p_value": 0.9}}
    repeated = ada.call("POST", path, run, {"Idempotency-Key": "2026-11-27 ridge"})
    assert repeated.status_code == 201, repeated.text
    assert repeated.headers["Idempotent-Replayed"] == "true"
    assert uuid.UUID(repeated.json()["id"]).hex == older.runs("wine quality")[0]["_id"]


def test_a_revoked_token_stays_revoked(server: LiveServer, older: OlderDatabase) -> None:
    assert RemoteUser(server.api, older.tokens["revoked"]).call("GET", "/user/self").status_code == 401


# The administrator. The test of the session must be the first: if Django changes its password hashing, a login stores a
# new hash, which ends older sessions.


def test_a_session_from_before_the_move_is_logged_in(
    browser: requests.Session, server: LiveServer, older: OlderDatabase
) -> None:
    (session,) = older.documents("django_session")
    browser.cookies["sessionid"] = session["session_key"]
    portal = browser.get(f"{server.url}/admin/", allow_redirects=False, timeout=TIMEOUT)
    assert portal.status_code == 200
    assert "root@example.org" in portal.text


def test_the_administrator_logs_in_with_the_password(
    browser: requests.Session, server: LiveServer, older: OlderDatabase
) -> None:
    assert log_in(browser, server.url, "a guess").url == f"{server.url}/login"
    assert log_in(browser, server.url, PASSWORD).url == f"{server.url}/"
    portal = browser.get(f"{server.url}/admin/", allow_redirects=False, timeout=TIMEOUT)
    assert portal.status_code == 200
    (entry,) = older.documents("django_admin_log")
    address = f"{server.url}/admin/experiments/experiment/{entry['object_id']}/history/"
    assert "Changed Description" in browser.get(address, timeout=TIMEOUT).text


def test_logins_are_counted_in_the_same_documents(
    browser: requests.Session, server: LiveServer, older: OlderDatabase, stored: Database[Document]
) -> None:
    log_in(browser, server.url, PASSWORD)
    counts = RequestCount._meta.db_table
    before, after = older.documents(counts), list(stored[counts].find())
    assert {count["_id"] for count in after} == {count["_id"] for count in before}
    assert min(count["at"] for count in after) > max(count["at"] for count in before)


def test_the_audit_trail_is_there(browser: requests.Session, server: LiveServer, older: OlderDatabase) -> None:
    log_in(browser, server.url, PASSWORD)
    response = browser.get(f"{server.api}/audit/export", timeout=TIMEOUT)
    assert response.status_code == 200, response.text
    events = {uuid.UUID(event["id"]).hex: event for event in map(json.loads, response.text.splitlines())}
    before = older.documents("audit_event")
    names = ("action", "address", "user_agent", "way", "before", "after")
    for event in before:
        shown = events[event["_id"]]
        assert {name: shown[name] for name in names} == {name: event[name] for name in names}
        assert (shown["actor"]["email"], shown["target"]["name"]) == (event["actor"]["email"], event["target"]["name"])
    assert {"login_failed", "experiment_archived", "token_revoked", "drift_deleted"} <= {
        event["action"] for event in before
    }


# Pages


def test_pages_show_the_public_experiment_and_its_runs(
    browser: requests.Session, server: LiveServer, older: OlderDatabase
) -> None:
    listing = browser.get(f"{server.url}/experiments", timeout=TIMEOUT)
    assert listing.status_code == 200
    assert "wine quality" in listing.text
    assert "credit scoring" not in listing.text, "it is private"
    assert "delivery times" not in listing.text, "it is archived"
    runs = browser.get(f"{server.url}/experiments/{older.id('wine quality')}", timeout=TIMEOUT)
    assert runs.status_code == 200
    assert all(model in runs.text for model in ("ridge", "forest", "boost"))


def test_an_interrupted_deletion_holds_and_can_be_purged(
    browser: requests.Session, server: LiveServer, older: OlderDatabase, stored: Database[Document]
) -> None:
    gone, runs = older.id("weld inspection"), older.runs("weld inspection")
    of_it = {"experiment_id": gone.hex}
    assert stored["drifts_drift"].count_documents(of_it) == len(runs) > 0
    log_in(browser, server.url, PASSWORD)
    for address in (f"/experiments/{gone}", f"/experiments/{gone}/runs/{uuid.UUID(runs[0]['_id'])}"):
        assert browser.get(f"{server.url}{address}", timeout=TIMEOUT).status_code == 404
    assert "weld inspection" in server.manage("purge")
    assert stored["drifts_drift"].count_documents(of_it) == 0


def test_runs_are_upgraded_while_the_service_serves(
    server: LiveServer, anonymous: RemoteUser, older: OlderDatabase, stored: Database[Document]
) -> None:
    def shown() -> list[Document]:
        response = anonymous.call("POST", f"{older.path('wine quality')}/drift/search?sort_by=observed_at", {})
        assert response.status_code == 200, response.text
        return [{**run, "schema_version": None, "series": None} for run in response.json()]

    before = shown()
    server.manage("upgrade_runs")
    assert stored["drifts_drift"].distinct("schema_version") == ["1.1.0"]
    assert stored["drifts_drift"].count_documents({"series": None}) == 0
    assert shown() == before
