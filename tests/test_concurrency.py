"""Concurrent requests to the real server: no record is doubled, lost or left behind, and no request fails."""

import itertools
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo.database import Database
from requests import Response

from accounts.models import User
from drifts.models import Drift
from experiments.models import Experiment
from tests.conftest import RUN
from tests.crowd import RemoteUser, at_once, statuses, unique
from tests.live import LiveServer
from tests.provider import Provider

ROUNDS = range(4)


@pytest.fixture
def newcomer(live: LiveServer, provider: Provider) -> RemoteUser:
    """A user of the provider who is not registered."""
    return RemoteUser(live.api, provider.token(unique("someone")))


def test_one_of_many_concurrent_creations_gets_the_name(
    remote_user: RemoteUser, stored: Database[dict[str, Any]]
) -> None:
    body = {"name": unique("wine")}
    responses = at_once(remote_user.calls("POST", "/experiment", *[body] * 20))
    assert statuses(responses) == {201: 1, 409: 19}
    assert stored[Experiment._meta.db_table].count_documents(body) == 1


def test_one_of_many_concurrent_renames_gets_the_name(remote_user: RemoteUser) -> None:
    body = {"name": unique("wine")}
    paths = [remote_user.new_experiment() for _ in range(6)]
    responses = at_once([lambda path=path: remote_user.call("PATCH", path, body) for path in paths])  # type: ignore[misc]
    assert statuses(responses) == {200: 1, 409: 5}


def test_one_identity_registers_once(newcomer: RemoteUser, stored: Database[dict[str, Any]]) -> None:
    responses = at_once(newcomer.calls("POST", "/user", *[None] * 10))
    assert statuses(responses) == {201: 1, 409: 9}
    subject = newcomer.call("GET", "/user/self").json()["subject"]
    assert stored[User._meta.db_table].count_documents({"subject": subject}) == 1


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
def test_concurrent_changes_of_different_fields_are_all_stored(
    changes: Callable[[str], list[dict[str, Any]]], remote_user: RemoteUser
) -> None:
    path = remote_user.new_experiment()
    if changes is changes_of_run:
        path += f"/drift/{remote_user.call('POST', f'{path}/drift', RUN).json()['id']}"
    for number in ROUNDS:
        wanted = changes(f"value {number}")
        assert statuses(at_once(remote_user.calls("PATCH", path, *wanted))) == {200: len(wanted)}
        kept = remote_user.call("GET", path).json()
        kept["permissions"] = kept.get("permissions", [])[:1]  # The second permission is the owner's.
        assert all(kept[name] == value for change in wanted for name, value in change.items()), kept


@pytest.mark.parametrize(("address", "body"), [("drift", RUN), ("drift/bulk", [RUN] * 20)], ids=["one", "many"])
@pytest.mark.parametrize("round_", ROUNDS)
def test_runs_added_during_the_deletion_of_their_experiment_are_deleted(
    round_: int, address: str, body: Any, remote_user: RemoteUser, live: LiveServer, stored: Database[dict[str, Any]]
) -> None:
    path = remote_user.new_experiment()
    first_posts = threading.Barrier(7, timeout=30)

    def post(with_key: bool) -> Response:
        headers = {"Idempotency-Key": unique("key")} if with_key else None
        return remote_user.call("POST", f"{path}/{address}", body, headers)

    def post_until_it_is_gone(with_key: bool) -> list[Response]:
        responses = [post(with_key)]
        first_posts.wait()
        while responses[-1].status_code == 201 and len(responses) < 100:
            responses.append(post(with_key))
        return responses

    with ThreadPoolExecutor(6) as pool:
        posts = [pool.submit(post_until_it_is_gone, number % 2 == 0) for number in range(6)]
        first_posts.wait()
        deleted = remote_user.call("DELETE", path)
    responses = list(itertools.chain(*(post.result() for post in posts)))
    assert deleted.status_code == 204
    assert statuses(responses) == {201: len(responses) - 6, 404: 6}
    identifier = uuid.UUID(path.rpartition("/")[2]).hex
    assert stored[Experiment._meta.db_table].count_documents({"_id": identifier}) == 0
    # Runs of concurrent requests are hidden with the earlier ones, and the purge deletes them.
    live.manage("purge", TRASH_DAYS="0")
    assert stored[Drift._meta.db_table].count_documents({"experiment_id": identifier}) == 0


@pytest.mark.parametrize("round_", ROUNDS)
def test_two_concurrent_deletions_of_an_experiment_do_not_fail(round_: int, remote_user: RemoteUser) -> None:
    path = remote_user.new_experiment()
    for _ in range(5):
        remote_user.call("POST", f"{path}/drift", RUN)
    first, second = sorted(response.status_code for response in at_once(remote_user.calls("DELETE", path, None, None)))
    assert first == 204
    assert second in (204, 404)
    assert remote_user.call("GET", path).status_code == 404


@pytest.mark.parametrize("round_", ROUNDS)
def test_a_change_during_a_deletion_does_not_restore_the_object(round_: int, remote_user: RemoteUser) -> None:
    path = remote_user.new_experiment()
    run = f"{path}/drift/{remote_user.call('POST', f'{path}/drift', RUN).json()['id']}"
    writes = [
        *remote_user.calls("PATCH", path, {"description": "a"}, {"tags": ["a"]}),
        *remote_user.calls("PUT", path, {"name": unique("wine")}),
        *remote_user.calls("PATCH", run, {"tags": ["a"]}, {"model": "b"}),
        *remote_user.calls("PUT", run, RUN),
    ]
    deletion, *responses = at_once([*remote_user.calls("DELETE", path, None), *writes])
    assert deletion.status_code == 204
    assert {response.status_code for response in responses} <= {200, 404}
    assert [remote_user.call("GET", gone).status_code for gone in (path, run)] == [404, 404]
