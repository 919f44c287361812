"""Entity tags: unchanged resources are not sent again, and no change overwrites a version unknown to the client."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import requests

from accounts.models import ServiceToken
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN, purge_in_background
from tests.crowd import RemoteUser, at_once, statuses
from tests.live import LiveServer

STALE = '"0123456789abcdef"'


@dataclass(frozen=True)
class Change:
    """A method and a body that change the resource at a path."""

    path: str
    method: str
    body: Any = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


EXPERIMENT, RUN_PATH, SELF, TOKEN = (
    "/experiment/{experiment}",
    "/experiment/{experiment}/drift/{drift}",
    "/user/self",
    "/token/{token}",
)
RESOURCES = [EXPERIMENT, RUN_PATH, SELF, TOKEN]
CHANGES = [
    Change(EXPERIMENT, "PUT", {"name": "beer"}),
    Change(EXPERIMENT, "PATCH", {"description": "changed"}),
    Change(EXPERIMENT, "DELETE"),
    Change(RUN_PATH, "PUT", {**RUN, "model": "another"}),
    Change(RUN_PATH, "PATCH", {"tags": ["changed"]}),
    Change(RUN_PATH, "DELETE"),
    Change(SELF, "PUT"),
    Change(TOKEN, "DELETE"),
]


@pytest.fixture
def place(drift: Drift, manager: Caller) -> Callable[[str], str]:
    """The path of one of the manager's resources."""
    assert manager.user
    token = ServiceToken.objects.issue(manager.user, "nightly", timedelta(days=1))
    ids = {"experiment": drift.experiment_id, "drift": drift.id, "token": token.id}
    return lambda path: path.format(**ids)


@pytest.mark.parametrize("resource", RESOURCES)
def test_an_unchanged_resource_is_not_sent_again(resource: str, place: Callable[[str], str], manager: Caller) -> None:
    path = place(resource)
    first = manager.get(path)
    assert first.headers["Cache-Control"] == "no-store"
    assert {"Authorization", "Cookie"} <= set(first.headers["Vary"].split(", "))
    tag = first.headers["ETag"]
    for known in (tag, f"W/{tag}", f"{STALE}, {tag}", "*"):
        for method in ("GET", "HEAD"):
            again = manager.request(method, path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert {name: again.headers[name] for name in ("ETag", "Cache-Control", "Vary")} == {
                name: first.headers[name] for name in ("ETag", "Cache-Control", "Vary")
            }
            assert again.headers["Content-Length"] == str(len(first.content))
    other = manager.get(path, headers={"If-None-Match": STALE})
    assert (other.status_code, other.content, other.headers["ETag"]) == (200, first.content, tag)


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_reader_may_require_an_unchanged_resource(
    resource: str, place: Callable[[str], str], manager: Caller
) -> None:
    path = place(resource)
    tag = manager.get(path).headers["ETag"]
    assert manager.get(path, headers={"If-Match": tag}).status_code == 200
    assert manager.get(path, headers={"If-Match": STALE}).status_code == 412


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_change_of_an_older_version_is_refused(change: Change, place: Callable[[str], str], manager: Caller) -> None:
    path = place(change.path)
    before = manager.get(path)
    tag = before.headers["ETag"]
    for conditions in ({"If-Match": STALE}, {"If-Match": f"W/{tag}"}, {"If-None-Match": tag}, {"If-None-Match": "*"}):
        refused = manager.request(change.method, path, change.body, headers=conditions)
        assert refused.status_code == 412
        assert refused.json()["status"] == "Precondition Failed"
        assert tag in refused.json()["message"]
        assert manager.get(path).content == before.content


@pytest.mark.parametrize("condition", ["the tag", "one of several", "any"])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_change_of_the_current_version_succeeds(
    change: Change, condition: str, place: Callable[[str], str], manager: Caller
) -> None:
    path = place(change.path)
    tag = manager.get(path).headers["ETag"]
    wanted = {"the tag": tag, "one of several": f"{STALE} ,,\t{tag},", "any": "*"}[condition]
    changed = manager.request(change.method, path, change.body, headers={"If-Match": wanted})
    assert changed.status_code == (204 if change.method == "DELETE" else 200)


@pytest.mark.parametrize("change", [change for change in CHANGES if change.body], ids=str)
def test_the_response_to_a_change_has_the_new_tag(change: Change, place: Callable[[str], str], manager: Caller) -> None:
    path = place(change.path)
    before = manager.get(path).headers["ETag"]
    changed = manager.request(change.method, path, change.body)
    now = manager.get(path)
    assert changed.content == now.content
    assert changed.headers["ETag"] == now.headers["ETag"] != before


def test_the_response_to_a_creation_has_the_tag(manager: Caller, newcomer: Caller) -> None:
    created = manager.post("/experiment", {"name": "beer"})
    path = f"/experiment/{created.json()['id']}"
    assert created.headers["ETag"] == manager.get(path).headers["ETag"]
    run = manager.post(f"{path}/drift", RUN)
    assert run.headers["ETag"] == manager.get(f"{path}/drift/{run.json()['id']}").headers["ETag"]
    assert newcomer.post("/user").headers["ETag"] == newcomer.get("/user/self").headers["ETag"]


def test_a_new_token_has_no_tag(manager: Caller) -> None:
    assert "ETag" not in manager.post("/token", {"name": "nightly"}).headers


def test_a_tag_does_not_reveal_hidden_permissions(experiment: Experiment, manager: Caller, stranger: Caller) -> None:
    path = f"/experiment/{experiment.id}"
    Experiment.objects.update(public=True)
    tags = {caller.get(path).headers["ETag"] for caller in (manager, stranger)}
    assert len(tags) == 2
    experiment.refresh_from_db()
    experiment.permissions.pop()
    Experiment.objects.update(permissions=experiment.permissions)
    assert manager.get(path).headers["ETag"] not in tags
    assert stranger.get(path).headers["ETag"] in tags


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["", ",", "0123456789abcdef", '"0123', "'a'", '"a" "b"', "*, *", 'w/"a"', "W/*"])
def test_a_malformed_condition_is_refused(value: str, header: str, experiment: Experiment, manager: Caller) -> None:
    path = f"/experiment/{experiment.id}"
    before = manager.get(path)
    for method in ("GET", "PATCH", "DELETE"):
        refused = manager.request(method, path, {"tags": ["changed"]}, headers={header: value})
        assert refused.status_code == 400
        assert header in refused.json()["message"]
    assert manager.get(path).content == before.content


@pytest.mark.parametrize("change", CHANGES[:6], ids=str)
def test_callers_without_edit_access_cannot_test_tags(
    change: Change, place: Callable[[str], str], reader: Caller, stranger: Caller, anonymous: Caller
) -> None:
    path = place(change.path)
    for caller, status in ((reader, 403), (stranger, 403), (anonymous, 401)):
        for tag in (STALE, "*"):
            refused = caller.request(change.method, path, change.body, headers={"If-Match": tag})
            assert refused.status_code == status
            assert "ETag" not in refused.content.decode()


@pytest.mark.parametrize("change", [change for change in CHANGES if change.path != SELF], ids=str)
def test_a_missing_resource_is_not_found_under_any_condition(change: Change, admin: Caller) -> None:
    path = change.path.format_map(
        dict.fromkeys(("experiment", "drift", "token"), "00000000-0000-4000-8000-000000000000")
    )
    for condition in ("If-Match", "If-None-Match"):
        assert admin.request(change.method, path, change.body, headers={condition: "*"}).status_code == 404


def test_a_request_refused_for_another_reason_may_be_repeated(experiment: Experiment, manager: Caller) -> None:
    path = f"/experiment/{experiment.id}"
    tag = manager.get(path).headers["ETag"]
    manager.post("/experiment", {"name": "taken"})
    assert manager.patch(path, {"name": "taken"}, headers={"If-Match": tag}).status_code == 409
    assert manager.patch(path, {"name": ""}, headers={"If-Match": tag}).status_code == 422
    assert manager.patch(path, {"name": "free"}, headers={"If-Match": tag}).status_code == 200


def test_a_conditional_deletion_of_an_experiment_deletes_its_runs(drift: Drift, manager: Caller) -> None:
    path = f"/experiment/{drift.experiment_id}"
    tag = manager.get(path).headers["ETag"]
    assert manager.delete(path, headers={"If-Match": tag}).status_code == 204
    purge_in_background()
    assert not Drift.objects.exists()


def test_the_progress_of_background_work_conflicts_with_no_change(drift: Drift, manager: Caller) -> None:
    path = f"/experiment/{drift.experiment_id}"
    progress = manager.patch(path, {"series_by": ["model"]}).json()["recomputation"]
    tag = manager.get(path).headers["ETag"]
    stored = Experiment.objects.get()
    Experiment.objects.update(recomputation={**stored.recomputation, "done": 1})  # type: ignore[dict-item]
    # A client that polls the progress sees it.
    polled = manager.get(path, headers={"If-None-Match": tag})
    assert (polled.status_code, polled.json()["recomputation"]) == (200, progress | {"done": 1})
    assert manager.patch(path, {"description": "red"}, headers={"If-Match": tag}).status_code == 200
    Experiment.objects.update(recomputation=None)
    tag = manager.get(path).headers["ETag"]
    assert manager.get(path, headers={"If-None-Match": tag}).status_code == 304


def counted(remote_user: RemoteUser, path: str, field: str) -> Iterator[Callable[[], requests.Response]]:
    """Calls that each read a counter and add one to it."""
    for _ in range(6):

        def add_one() -> requests.Response:
            while True:
                read = remote_user.call("GET", path)
                count = read.json()[field].get("count", 0)
                headers = {"If-Match": read.headers["ETag"]}
                written = remote_user.call("PATCH", path, {field: {"count": count + 1}}, headers)
                if written.status_code != 412:
                    return written

        yield add_one


def test_no_increment_of_concurrent_writers_is_lost(remote_user: RemoteUser) -> None:
    experiment = remote_user.new_experiment()
    run = f"{experiment}/drift/{remote_user.call('POST', f'{experiment}/drift', RUN).json()['id']}"
    for path, field in ((experiment, "config"), (run, "parameters")):
        assert statuses(at_once(list(counted(remote_user, path, field)))) == {200: 6}
        assert remote_user.call("GET", path).json()[field] == {"count": 6}


@pytest.mark.parametrize("round_", range(3))
def test_one_of_many_concurrent_changes_of_the_same_version_succeeds(round_: int, remote_user: RemoteUser) -> None:
    path = remote_user.new_experiment()
    as_read = {"If-Match": remote_user.call("GET", path).headers["ETag"]}
    changes = remote_user.calls("PATCH", path, *({"description": f"change {n}"} for n in range(6)), headers=as_read)
    responses = at_once([*changes, *remote_user.calls("DELETE", path, None, headers=as_read)])
    made = [response for response in responses if response.ok]
    assert len(made) == 1
    assert {response.status_code for response in responses if not response.ok} <= {412, 404}


def test_the_openapi_document_describes_tags_and_conditions(live: LiveServer) -> None:
    paths = requests.get(f"{live.api}/openapi.json", timeout=10).json()["paths"]
    for resource in RESOURCES:
        path = (
            f"/api/v1{resource}".replace("experiment}", "experiment_id}")
            .replace("drift}", "drift_id}")
            .replace("token}", "token_id}")
        )
        operations = {method: each for method, each in paths[path].items() if method != "parameters"}
        assert "get" in operations
        for method, operation in operations.items():
            headers = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
            assert headers == {"If-Match", "If-None-Match"}
            responses = operation["responses"]
            assert {"400", "412"} <= responses.keys()
            assert ("304" in responses) == (method == "get")
            assert all("ETag" in responses[code]["headers"] for code in responses.keys() & {"200", "304"})


def test_cors_lets_a_browser_send_conditions_and_read_tags(drift: Drift, manager: Caller, settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://board.example.org"]
    headers = {"Origin": "https://board.example.org", "Access-Control-Request-Method": "PUT"}
    allowed = manager.request("OPTIONS", f"/experiment/{drift.experiment_id}", headers=headers).headers
    assert {"if-match", "if-none-match"} <= set(allowed["Access-Control-Allow-Headers"].split(", "))
    read = manager.get(f"/experiment/{drift.experiment_id}", headers=headers).headers
    assert "ETag" in read["Access-Control-Expose-Headers"].split(", ")
