"""Safe retries: a request repeated with its `Idempotency-Key` gets the stored response, and creates nothing more."""

import itertools
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from django.db.models import Model
from pymongo import MongoClient
from pymongo.database import Database
from pytest_django import Settings
from requests import Response

from accounts.models import ServiceToken, User
from audit.models import Event
from core import timestamps
from core.identity import Identity, Level
from core.models import StoredResponse
from core.mongodb.documents import collection_of, mongodb
from core.mongodb.embedded import EmbeddedServer
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller
from tests.conftest import RUN
from tests.crowd import RemoteUser, at_once, statuses, unique
from tests.live import LiveServer
from tests.profiler import commands
from tests.provider import Provider

KEY = {"Idempotency-Key": "7f3d5c1e nightly #42"}


@dataclass(frozen=True)
class Creation:
    path: str
    body: Any
    other_body: Any
    model: type[Model]
    creates: int = 1

    def __str__(self) -> str:
        return self.path


EXPERIMENT = Creation("/experiment", {"name": "beer", "tags": ["a"]}, {"name": "cider"}, Experiment)
RUN_OF_ONE = Creation("/experiment/{experiment}/drift", RUN, {**RUN, "model": "another"}, Drift)
BULK = Creation("/experiment/{experiment}/drift/bulk", [RUN, RUN], [RUN], Drift, creates=2)
TOKEN = Creation("/token", {"name": "nightly", "refresh": True}, {"name": "weekly"}, ServiceToken)
REGISTRATION = Creation("/user", None, {"a": "body"}, User)
CREATIONS = [EXPERIMENT, RUN_OF_ONE, BULK, TOKEN, REGISTRATION]


class Sender:
    """Sends each creation as a caller who may create."""

    def __init__(self, manager: Caller, newcomer: Caller, experiment: Experiment) -> None:
        self.manager, self.newcomer, self.experiment = manager, newcomer, experiment

    def send(self, creation: Creation, body: Any, **options: Any) -> Any:
        caller = self.newcomer if creation is REGISTRATION else self.manager
        return caller.post(creation.path.format(experiment=self.experiment.id), body, **options)


@pytest.fixture
def sender(manager: Caller, newcomer: Caller, experiment: Experiment) -> Sender:
    return Sender(manager, newcomer, experiment)


each_creation = pytest.mark.parametrize("creation", CREATIONS, ids=str)


@each_creation
def test_a_repeat_gets_the_first_response_and_creates_nothing(creation: Creation, sender: Sender) -> None:
    before = creation.model._default_manager.count()
    first = sender.send(creation, creation.body, headers=KEY)
    assert (first.status_code, "Idempotent-Replayed" in first.headers) == (201, False)
    events = Event.objects.count()
    for _ in range(2):
        again = sender.send(creation, creation.body, headers=KEY)
        assert (again.status_code, again.content) == (201, first.content)
        changed = dict(again.headers.items() - first.headers.items())
        # The repeat is a request of its own.
        assert changed == {"Idempotent-Replayed": "true", "X-Request-ID": again["X-Request-ID"]}
        assert dict(first.headers.items() - again.headers.items()).keys() == {"X-Request-ID"}
    assert creation.model._default_manager.count() == before + creation.creates
    assert Event.objects.count() == events


@each_creation
def test_another_body_under_the_same_key_is_refused(creation: Creation, sender: Sender) -> None:
    assert sender.send(creation, creation.body, headers=KEY).status_code == 201
    count = creation.model._default_manager.count()
    refused = sender.send(creation, creation.other_body, headers=KEY)
    assert refused.status_code == 422
    assert "Idempotency-Key was used for another body" in refused.json()["message"]
    assert creation.model._default_manager.count() == count
    assert sender.send(creation, creation.body, headers=KEY).status_code == 201


def test_the_same_body_may_be_formatted_differently(sender: Sender) -> None:
    first = sender.send(EXPERIMENT, '{"name": "beer", "tags": ["a"]}', headers=KEY)
    again = sender.send(EXPERIMENT, '{"tags":["\\u0061"],\n"name":"beer"}', headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)


def test_the_alias_of_the_newest_version_shares_the_keys(manager: Caller) -> None:
    first = manager.post("/experiment", {"name": "beer"}, headers=KEY)
    headers = {**KEY, "Authorization": f"Bearer {manager.token}"}
    again = manager.client.post(
        "/api/latest/experiment", {"name": "beer"}, content_type="application/json", headers=headers
    )
    assert (again.status_code, again.content) == (201, first.content)


def test_other_keys_paths_and_users_are_independent(
    sender: Sender, editor: Caller, admin: Caller, experiment: Experiment
) -> None:
    other = Experiment.objects.create(name="beer", permissions=experiment.permissions)
    for caller in (sender.manager, editor, admin):
        for place in (experiment, other):
            for key in ("a", "b", "B", "a b"):
                response = caller.post(f"/experiment/{place.id}/drift", RUN, headers={"Idempotency-Key": key})
                assert (response.status_code, "Idempotent-Replayed" in response.headers) == (201, False)
    assert Drift.objects.count() == 3 * 2 * 4


def test_without_a_key_each_request_creates(sender: Sender) -> None:
    for _ in range(2):
        assert sender.send(RUN_OF_ONE, RUN).status_code == 201
    assert Drift.objects.count() == 2
    assert not StoredResponse.objects.exists()


def test_a_token_with_other_rights_is_another_caller(manager: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.id}/drift"
    reaches: list[dict[str, Any]] = [{}, {"level": Level.EDIT}, {"experiments": [str(experiment.id)]}]
    for number, reach in enumerate(reaches):
        made = (manager.post("/token", {"name": f"{name} {number}", **reach}) for name in ("nightly", "renewed"))
        first, again = (Caller(each.json()["token"]).post(path, RUN, headers=KEY) for each in made)
        assert (first.status_code, "Idempotent-Replayed" in first.headers) == (201, False)
        assert again.content == first.content
    assert Drift.objects.count() == len(reaches)


@pytest.mark.parametrize("creation", [RUN_OF_ONE, BULK], ids=str)
def test_a_caller_who_may_no_longer_create_gets_no_stored_response(
    creation: Creation, sender: Sender, experiment: Experiment, provider: Provider
) -> None:
    assert sender.send(creation, creation.body, headers=KEY).status_code == 201
    experiment.permissions = [Permission(entity=sender.manager.id, level=Level.READ)]
    experiment.save()
    assert sender.send(creation, creation.body, headers=KEY).status_code == 403
    experiment.permissions = [Permission(entity=sender.manager.id, level=Level.EDIT)]
    experiment.save()
    assert sender.send(creation, creation.body, headers=KEY).status_code == 201
    experiment.delete_by(Identity())
    assert sender.send(creation, creation.body, headers=KEY).status_code == 404


@each_creation
def test_a_caller_who_is_no_longer_admitted_gets_no_stored_response(
    creation: Creation, sender: Sender, provider: Provider
) -> None:
    assert sender.send(creation, creation.body, headers=KEY).status_code == 201
    sender.manager.token, sender.newcomer.token = (provider.token(name, "guests") for name in ("manager", "newcomer"))
    assert sender.send(creation, creation.body, headers=KEY).status_code == 403
    sender.manager.token = sender.newcomer.token = None
    assert sender.send(creation, creation.body, headers=KEY).status_code == 401


def test_a_creator_without_manage_access_gets_no_stored_response(sender: Sender) -> None:
    created = sender.send(EXPERIMENT, EXPERIMENT.body, headers=KEY).json()
    experiment = Experiment.objects.get(pk=created["id"])
    for entries, public in (([], False), ([], True), ([Permission(entity=sender.manager.id, level="Edit")], False)):
        experiment.permissions, experiment.public = entries, public
        experiment.save()
        refused = sender.send(EXPERIMENT, EXPERIMENT.body, headers=KEY)
        assert refused.status_code == 403
        assert "beer" not in refused.content.decode()
    experiment.permissions = [Permission(entity=sender.manager.id, level="Manage")]
    experiment.save()
    assert sender.send(EXPERIMENT, EXPERIMENT.body, headers=KEY).json() == created


DELETIONS: list[tuple[Creation, Callable[[], Any]]] = [
    (EXPERIMENT, lambda: Experiment.objects.get(name="beer").delete()),
    (RUN_OF_ONE, lambda: Drift.objects.all().delete()),
    (TOKEN, lambda: ServiceToken.objects.all().revoke()),
    (REGISTRATION, lambda: User.objects.filter(subject="newcomer").delete()),
    (REGISTRATION, lambda: User.objects.filter(subject="newcomer").update(is_active=False)),
]


@pytest.mark.parametrize(("creation", "delete"), DELETIONS)
def test_a_repeat_neither_shows_nor_recreates_a_deleted_object(
    creation: Creation, delete: Callable[[], Any], sender: Sender
) -> None:
    assert sender.send(creation, creation.body, headers=KEY).status_code == 201
    delete()
    count = creation.model._default_manager.count()
    refused = sender.send(creation, creation.body, headers=KEY)
    assert refused.status_code == 404
    assert refused.json().keys() == {"code", "status", "message", "request_id"}
    assert creation.model._default_manager.count() == count


def test_a_repeated_bulk_request_gets_its_ids_also_if_runs_are_deleted(sender: Sender) -> None:
    first = sender.send(BULK, BULK.body, headers=KEY)
    Drift.objects.all().delete()
    assert sender.send(BULK, BULK.body, headers=KEY).content == first.content
    assert not Drift.objects.exists()


REFUSED = [
    (EXPERIMENT, {"name": "wine quality"}, 409),
    (EXPERIMENT, {"name": ""}, 422),
    (EXPERIMENT, "{", 400),
    (RUN_OF_ONE, {"model": "forest"}, 422),
    (BULK, [RUN, {}], 422),
    (BULK, "[", 400),
    (TOKEN, {"name": "nightly", "days": 0}, 422),
]


@pytest.mark.parametrize(("creation", "body", "status"), REFUSED)
def test_a_refusal_is_not_stored(creation: Creation, body: Any, status: int, sender: Sender) -> None:
    for _ in range(2):
        refused = sender.send(creation, body, headers=KEY)
        assert (refused.status_code, "Idempotent-Replayed" in refused.headers) == (status, False)
    assert not StoredResponse.objects.exists()
    assert sender.send(creation, creation.body, headers=KEY).status_code == 201


@each_creation
@pytest.mark.parametrize("key", ["", "a" * 256, "schlüssel", "a\tb", "\x7f"])
def test_a_malformed_key_is_refused(key: str, creation: Creation, sender: Sender) -> None:
    count = creation.model._default_manager.count()
    refused = sender.send(creation, creation.body, headers={"Idempotency-Key": key})
    assert refused.status_code == 400
    assert "1 to 255 printable ASCII characters" in refused.json()["message"]
    assert creation.model._default_manager.count() == count


@pytest.mark.parametrize("key", ["a", "a" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "!~ {}"])
def test_any_printable_key_is_accepted(key: str, sender: Sender) -> None:
    responses = [sender.send(RUN_OF_ONE, RUN, headers={"Idempotency-Key": key}) for _ in range(2)]
    assert ["Idempotent-Replayed" in response.headers for response in responses] == [False, True]


def test_a_repeat_of_a_body_that_is_nested_too_deeply_is_refused(sender: Sender) -> None:
    assert sender.send(BULK, [RUN], headers=KEY).status_code == 201
    for depth in range(50, 1_000, 50):
        deep = "[" * depth + "]" * depth
        assert sender.send(BULK, deep, headers=KEY).status_code == 422


def test_stored_responses_are_encrypted(sender: Sender) -> None:
    secret = sender.send(TOKEN, TOKEN.body, headers=KEY).json()["token"]
    (stored,) = mongodb().database[StoredResponse._meta.db_table].find({})
    for telling in (secret, secret.split(".")[2], "nightly", KEY["Idempotency-Key"], "manager"):
        assert telling not in str(stored)
    assert re.fullmatch("[0-9a-f]{64}", stored["_id"])


def test_a_new_secret_key_makes_stored_responses_unknown(sender: Sender, settings: Settings) -> None:
    first = sender.send(RUN_OF_ONE, RUN, headers=KEY)
    settings.SECRET_KEY = "another " * 10
    second = sender.send(RUN_OF_ONE, RUN, headers=KEY)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]


def test_mongodb_removes_stored_responses_after_a_day(sender: Sender) -> None:
    start = timestamps.now()
    sender.send(RUN_OF_ONE, RUN, headers=KEY)
    kept = StoredResponse.objects.get()
    assert start + timedelta(hours=24) <= kept.expires_at <= timestamps.now() + timedelta(hours=24)
    indexes = mongodb().database[StoredResponse._meta.db_table].index_information()
    assert indexes["kept_answer_expiry"]["expireAfterSeconds"] == 0
    kept.delete()
    assert "Idempotent-Replayed" not in sender.send(RUN_OF_ONE, RUN, headers=KEY).headers


def test_a_request_without_a_key_makes_no_extra_query(sender: Sender) -> None:
    sender.send(RUN_OF_ONE, RUN)
    with commands() as entries:
        sender.send(RUN_OF_ONE, RUN)
    assert StoredResponse._meta.db_table not in str(entries)


# On the real server.


@pytest.mark.parametrize("round_", range(3))
def test_one_of_many_concurrent_requests_creates_and_all_get_its_response(
    round_: int, remote_user: RemoteUser, stored: Database[dict[str, Any]]
) -> None:
    key, body = unique("key"), {"name": unique("wine")}
    responses = at_once(remote_user.calls_until_answered("/experiment", key, *[body] * 12))
    assert statuses(responses) == {201: 12}
    assert len({response.text for response in responses}) == 1
    assert sum("Idempotent-Replayed" in response.headers for response in responses) >= 11
    path = f"/experiment/{responses[0].json()['id']}"
    for place, sent, number in ((f"{path}/drift", RUN, 1), (f"{path}/drift/bulk", [RUN] * 20, 21)):
        responses = at_once(remote_user.calls_until_answered(place, key, *[sent] * 12))
        assert statuses(responses) == {201: 12}
        assert len({response.text for response in responses}) == 1
        identifier = uuid.UUID(path.rpartition("/")[2]).hex
        assert stored[Drift._meta.db_table].count_documents({"experiment_id": identifier}) == number


def test_one_of_many_concurrent_requests_with_different_bodies_creates(
    remote_user: RemoteUser, stored: Database[dict[str, Any]]
) -> None:
    path = remote_user.new_experiment()
    runs = [{**RUN, "model": f"model {number}"} for number in range(8)]
    responses = at_once(remote_user.calls_until_answered(f"{path}/drift", unique("key"), *runs))
    assert statuses(responses) == {201: 1, 422: 7}
    identifier = uuid.UUID(path.rpartition("/")[2]).hex
    assert stored[Drift._meta.db_table].count_documents({"experiment_id": identifier}) == 1


def test_concurrent_registrations_and_tokens_are_created_once(
    live: LiveServer, provider: Provider, stored: Database[dict[str, Any]]
) -> None:
    newcomer = RemoteUser(live.api, provider.token(unique("newcomer")))
    registered = at_once(newcomer.calls_until_answered("/user", "once", *[None] * 8))
    assert statuses(registered) == {201: 8}
    tokens = at_once(newcomer.calls_until_answered("/token", "once", *[{"name": "nightly"}] * 8))
    assert statuses(tokens) == {201: 8}
    assert len({response.json()["token"] for response in tokens}) == 1
    assert (
        stored[ServiceToken._meta.db_table].count_documents({"user_id": registered[0].json()["id"].replace("-", "")})
        == 1
    )


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[LiveServer]:
    """The service over its own MongoDB, which soon aborts the transactions of killed workers."""
    database = EmbeddedServer(tmp_path)
    database.start()
    with MongoClient[Any](database.uri) as client:
        client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=2)
    server = LiveServer(MONGODB_URI=database.uri, MONGODB_NAME="killable", OIDC_USER_ENTITLEMENTS="[]")
    server.start()
    yield server
    server.stop()
    database.stop()


def test_requests_retried_while_workers_are_killed_create_once(killable: LiveServer) -> None:
    remote_user = RemoteUser(killable.api, killable.manage("token", "keeper@example.org"))
    path = f"{remote_user.new_experiment()}/drift"
    responses: list[Response] = []
    over = threading.Event()

    def report_runs(pipeline: int) -> None:
        for number in itertools.count():
            if over.is_set():
                return
            name = f"run {number} of pipeline {pipeline}"
            responses.append(remote_user.post_until_answered(path, {**RUN, "model": name}, name))

    def kill_workers(reporting: list[Future[None]]) -> None:
        """Kill one worker after another, each during the pipelines' requests; gunicorn starts the next."""
        for deaths in range(1, 5):
            while len(responses) < 20 * deaths and not any(each.done() for each in reporting):
                time.sleep(0.01)
            psutil.Process(killable.process.pid).children()[0].kill()

    with ThreadPoolExecutor(8) as pool:
        reporting = [pool.submit(report_runs, pipeline) for pipeline in range(8)]
        try:
            kill_workers(reporting)
        finally:
            over.set()
    assert [each.result() for each in reporting] == [None] * 8
    assert {response.status_code for response in responses} == {201}
    with MongoClient[Any](killable.environment["MONGODB_URI"]) as client:
        stored = {run["_id"]: run["model"] for run in client["killable"][Drift._meta.db_table].find({})}
    assert stored == {uuid.UUID(response.json()["id"]).hex: response.json()["model"] for response in responses}


def test_a_key_of_an_unfinished_request_is_refused_after_a_short_time(manager: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.pk}/drift"
    manager.post(path, RUN, headers=KEY)
    claim = StoredResponse.objects.get().pk
    StoredResponse.objects.all().delete()
    with mongodb().database.client.start_session() as session, session.start_transaction():
        # An unfinished request does the same, perhaps in a worker that was killed.
        collection_of(StoredResponse).insert_one({"_id": claim}, session=session)
        started = time.monotonic()
        refused = manager.post(path, RUN, headers=KEY)
        assert time.monotonic() - started < 3
        assert refused.status_code == 503
        assert "not finished" in refused.json()["message"]
        assert int(refused.headers["Retry-After"]) > 0
        session.abort_transaction()
    assert manager.post(path, RUN, headers=KEY).status_code == 201


def test_the_openapi_document_describes_the_key(live: LiveServer) -> None:
    paths = requests.get(f"{live.api}/openapi.json", timeout=10).json()["paths"]
    taking = {
        (path, method)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
    }
    assert taking == {
        (f"/api/v1{creation.path}".replace("{experiment}", "{experiment_id}"), "post") for creation in CREATIONS
    }
    for path, method in taking:
        responses = paths[path][method]["responses"]
        assert {"400", "422"} <= responses.keys()
        assert "Idempotent-Replayed" in responses["201"]["headers"]


def test_cors_lets_a_browser_send_a_key_and_recognize_a_repeat(manager: Caller, settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://board.example.org"]
    headers = {"Origin": "https://board.example.org", "Access-Control-Request-Method": "POST"}
    allowed = manager.request("OPTIONS", "/experiment", headers=headers).headers
    assert "idempotency-key" in allowed["Access-Control-Allow-Headers"].split(", ")
    exposed = manager.post("/experiment", {"name": "beer"}, headers=headers | KEY).headers
    assert "Idempotent-Replayed" in exposed["Access-Control-Expose-Headers"].split(", ")
