"""Many requests at once, on the real server: nothing is doubled, lost or left behind, and nothing fails."""

import itertools
import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from pymongo import MongoClient
from pymongo.database import Database
from requests import Response

from accounts.models import User
from drifts.models import Drift
from experiments.models import Experiment
from tests.conftest import RUN
from tests.live import LiveServer
from tests.provider import Provider

DATABASE = "concurrency"
ROUNDS = range(4)
Call = Callable[[], Response]


@pytest.fixture(scope="module")
def service(provider_server: Provider) -> Iterator[LiveServer]:
    """gunicorn that trusts the provider: whoever registers at once needs a token before a registration."""
    issuers = [{"issuer": provider_server.issuer, "audience": ["driftwatch"]}]
    server = LiveServer(MONGODB_NAME=DATABASE, OIDC_USER_ENTITLEMENTS="[]", OIDC_ISSUERS=json.dumps(issuers))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stored() -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](os.environ["MONGODB_URI"]) as client:
        yield client[DATABASE]


class Someone:
    """A person with a token and as many connections as it takes."""

    def __init__(self, service: LiveServer, provider: Provider) -> None:
        self.subject = unique("someone")
        self.api = service.api
        self.headers = {"Authorization": f"Bearer {provider.token(self.subject)}"}

    def call(self, method: str, path: str, body: Any = None) -> Response:
        return requests.request(method, self.api + path, json=body, headers=self.headers, timeout=30)

    def calls(self, method: str, path: str, *bodies: Any) -> list[Call]:
        return [lambda body=body: self.call(method, path, body) for body in bodies]  # type: ignore[misc]


@pytest.fixture
def newcomer(service: LiveServer, provider: Provider) -> Someone:
    return Someone(service, provider)


@pytest.fixture
def someone(newcomer: Someone) -> Someone:
    """Registered."""
    assert newcomer.call("POST", "/user").status_code == 201
    return newcomer


def unique(name: str) -> str:
    return f"{name} {uuid.uuid4().hex}"


def new(someone: Someone) -> str:
    """The path of a new experiment."""
    created = someone.call("POST", "/experiment", {"name": unique("wine")})
    return f"/experiment/{created.json()['id']}"


def at_once(calls: list[Call]) -> list[Response]:
    """The answers to all of these calls, none of which waits for another."""
    together = threading.Barrier(len(calls), timeout=30)

    def go(call: Call) -> Response:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(go, calls))


def statuses(answers: list[Response]) -> dict[int, int]:
    return Counter(answer.status_code for answer in answers)


def test_one_name_is_given_once_however_many_ask_for_it(someone: Someone, stored: Database[dict[str, Any]]) -> None:
    body = {"name": unique("wine")}
    answers = at_once(someone.calls("POST", "/experiment", *[body] * 20))
    assert statuses(answers) == {201: 1, 409: 19}
    assert stored[Experiment._meta.db_table].count_documents(body) == 1


def test_one_name_is_taken_by_one_of_those_renamed_to_it(someone: Someone) -> None:
    body = {"name": unique("wine")}
    paths = [new(someone) for _ in range(6)]
    answers = at_once([lambda path=path: someone.call("PATCH", path, body) for path in paths])  # type: ignore[misc]
    assert statuses(answers) == {200: 1, 409: 5}


def test_one_identity_registers_once(newcomer: Someone, stored: Database[dict[str, Any]]) -> None:
    answers = at_once(newcomer.calls("POST", "/user", *[None] * 10))
    assert statuses(answers) == {201: 1, 409: 9}
    assert stored[User._meta.db_table].count_documents({"subject": newcomer.subject}) == 1


def changes_of_experiment(value: str) -> list[dict[str, Any]]:
    entry = {"entity": value, "level": "Read"}
    texts = {"name": unique(value), "description": value}
    return split(texts | {"public": True, "tags": [value], "config": {"a": value}, "permissions": [entry]})


def changes_of_run(value: str) -> list[dict[str, Any]]:
    texts = dict.fromkeys(("model", "detector", "environment", "model_version"), value)
    return split(texts | {"job_status": "Failed", "tags": [value], "parameters": {"a": value}, "drift_detected": False})


def split(changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value} for name, value in changes.items()]


@pytest.mark.parametrize("changes", [changes_of_experiment, changes_of_run], ids=["experiment", "run"])
def test_changes_of_different_fields_are_all_kept(
    changes: Callable[[str], list[dict[str, Any]]], someone: Someone
) -> None:
    path = new(someone)
    if changes is changes_of_run:
        path += f"/drift/{someone.call('POST', f'{path}/drift', RUN).json()['id']}"
    for number in ROUNDS:
        wanted = changes(f"value {number}")
        assert statuses(at_once(someone.calls("PATCH", path, *wanted))) == {200: len(wanted)}
        kept = someone.call("GET", path).json()
        kept["permissions"] = kept.get("permissions", [])[:1]  # The second is the owner's.
        assert all(kept[name] == value for change in wanted for name, value in change.items()), kept


@pytest.mark.parametrize("round_", ROUNDS)
def test_no_run_outlives_its_experiment(round_: int, someone: Someone, stored: Database[dict[str, Any]]) -> None:
    path = new(someone)
    first_posts = threading.Barrier(7, timeout=30)

    def post_until_it_is_gone() -> list[Response]:
        answers = [someone.call("POST", f"{path}/drift", RUN)]
        first_posts.wait()
        while answers[-1].status_code == 201 and len(answers) < 100:
            answers.append(someone.call("POST", f"{path}/drift", RUN))
        return answers

    with ThreadPoolExecutor(6) as pool:
        posts = [pool.submit(post_until_it_is_gone) for _ in range(6)]
        first_posts.wait()
        deleted = someone.call("DELETE", path)
    answers = list(itertools.chain(*(post.result() for post in posts)))
    assert deleted.status_code == 204
    assert statuses(answers) == {201: len(answers) - 6, 404: 6}
    identifier = uuid.UUID(path.rpartition("/")[2]).hex
    assert stored[Experiment._meta.db_table].count_documents({"_id": identifier}) == 0
    assert stored[Drift._meta.db_table].count_documents({"experiment_id": identifier}) == 0


@pytest.mark.parametrize("round_", ROUNDS)
def test_an_experiment_is_deleted_by_two_at_once(round_: int, someone: Someone) -> None:
    path = new(someone)
    for _ in range(5):
        someone.call("POST", f"{path}/drift", RUN)
    first, second = sorted(answer.status_code for answer in at_once(someone.calls("DELETE", path, None, None)))
    assert first == 204
    assert second in (204, 404)
    assert someone.call("GET", path).status_code == 404


@pytest.mark.parametrize("round_", ROUNDS)
def test_what_is_changed_while_it_is_deleted_does_not_come_back(round_: int, someone: Someone) -> None:
    path = new(someone)
    run = f"{path}/drift/{someone.call('POST', f'{path}/drift', RUN).json()['id']}"
    writes = [
        *someone.calls("PATCH", path, {"description": "a"}, {"tags": ["a"]}),
        *someone.calls("PUT", path, {"name": unique("wine")}),
        *someone.calls("PATCH", run, {"tags": ["a"]}, {"model": "b"}),
        *someone.calls("PUT", run, RUN),
    ]
    deletion, *answers = at_once([*someone.calls("DELETE", path, None), *writes])
    assert deletion.status_code == 204
    assert {answer.status_code for answer in answers} <= {200, 404}
    assert [someone.call("GET", gone).status_code for gone in (path, run)] == [404, 404]
