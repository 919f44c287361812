"""An experiment that was just read is gone by for a moment, and what is taken away is gone once that is said."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_django import Settings

from core.mongodb.transaction import in_transaction
from drifts.models import Drift
from experiments import leases
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN
from tests.crowd import Someone, unique
from tests.live import LiveServer
from tests.provider import Provider
from tests.session import through_session

CONNECTIONS = 6
EVERYBODYS = {"entity": "urn:example:group:everybody", "level": "Read"}


@pytest.fixture
def colleague(live: LiveServer, provider: Provider) -> Someone:
    colleague = Someone(live.api, provider.token(unique("colleague")))
    assert colleague.call("POST", "/user").status_code == 201
    return colleague


class Insistent:
    """Asks the real workers for the same over and over, on several connections, from before a change until after it."""

    def __init__(self, who: Someone, method: str, path: str, body: Any) -> None:
        self.ask: Callable[[], int] = lambda: who.call(method, path, body).status_code
        self.before: Counter[int] = Counter()
        self.after: Counter[int] = Counter()
        self.is_changed, self.is_over = threading.Event(), threading.Event()

    def __enter__(self) -> "Insistent":
        self.pool = ThreadPoolExecutor(CONNECTIONS)
        self.asking = [self.pool.submit(self._go_on) for _ in range(CONNECTIONS)]
        while sum(self.before.values()) < 10 * CONNECTIONS:
            assert not any(each.done() for each in self.asking)
        return self

    def __exit__(self, *exception: object) -> None:
        while not exception[0] and sum(self.after.values()) < 10 * CONNECTIONS:
            assert not any(each.done() for each in self.asking)
        self.is_over.set()
        self.pool.shutdown()

    def _go_on(self) -> None:
        while not self.is_over.is_set():
            # What was sent before the change was acknowledged may be answered by either.
            told = self.after if self.is_changed.is_set() else self.before
            told[self.ask()] += 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/drift", RUN, 201),
        ("POST", "/drift/search", {}, 200),
        ("POST", "/drift/stats", {}, 200),
        ("GET", "/drift/{drift}", None, 200),
        ("POST", "/drift/bulk", [RUN], 201),
    ],
)
def test_who_lost_a_permission_is_let_in_nowhere_once_that_is_acknowledged(
    someone: Someone, colleague: Someone, method: str, path: str, body: Any, status: int
) -> None:
    experiment = someone.new_experiment()
    drift = someone.call("POST", f"{experiment}/drift", RUN).json()["id"]
    [own] = someone.call("GET", experiment).json()["permissions"]
    shared = {"entity": colleague.call("GET", "/user/self").json()["id"], "level": "Edit"}
    assert someone.call("PATCH", experiment, {"permissions": [own, shared]}).status_code == 200
    with Insistent(colleague, method, experiment + path.format(drift=drift), body) as asked:
        assert someone.call("PATCH", experiment, {"permissions": [own]}).status_code == 200
        asked.is_changed.set()
    assert asked.before[status]
    assert set(asked.after) == {403}


def test_what_is_made_private_is_read_by_nobody_else_once_that_is_acknowledged(
    someone: Someone, colleague: Someone
) -> None:
    experiment = someone.new_experiment()
    assert someone.call("PATCH", experiment, {"public": True}).status_code == 200
    with Insistent(colleague, "POST", f"{experiment}/drift/search", {}) as asked:
        assert someone.call("PATCH", experiment, {"public": False}).status_code == 200
        asked.is_changed.set()
    assert asked.before[200]
    assert set(asked.after) == {403}


def test_what_is_deleted_is_there_for_nobody_once_that_is_acknowledged(someone: Someone) -> None:
    experiment = someone.new_experiment()
    with Insistent(someone, "POST", f"{experiment}/drift/search", {}) as asked:
        assert someone.call("DELETE", experiment).status_code == 204
        asked.is_changed.set()
    assert asked.before[200]
    assert set(asked.after) == {404}


def test_what_is_given_counts_at_once(
    experiment: Experiment, manager: Caller, stranger: Caller, editor: Caller, long_lease: None
) -> None:
    """Nobody is refused by what was read before."""
    path = f"/experiment/{experiment.id}/drift"
    assert editor.post(path, RUN).status_code == 201
    assert leases.held(experiment.pk)
    assert stranger.post(f"{path}/search", {}).status_code == 403
    # Written by another process, as far as this one knows.
    Experiment.objects.filter(pk=experiment.pk).update(public=True)
    assert stranger.post(f"{path}/search", {}).status_code == 200


def test_nobody_is_let_in_by_the_level_of_somebody_else(
    experiment: Experiment, drift: Drift, editor: Caller, reader: Caller, stranger: Caller, anonymous: Caller
) -> None:
    path = f"/experiment/{experiment.id}/drift"
    run = f"{path}/{drift.id}"
    assert editor.patch(run, {"tags": ["seen"]}).status_code == 200
    assert leases.held(experiment.pk)
    assert reader.get(run).status_code == 200
    assert [reader.post(path, RUN).status_code, reader.delete(run).status_code] == [403, 403]
    assert [stranger.get(run).status_code, anonymous.get(run).status_code] == [403, 403]


def test_a_run_of_another_experiment_is_not_found_through_one_that_is_held(
    experiment: Experiment, drift: Drift, manager: Caller
) -> None:
    other = Experiment.objects.create(name="beer", permissions=experiment.permissions)
    assert manager.post(f"/experiment/{other.id}/drift/search", {}).status_code == 200
    assert leases.held(other.pk)
    assert manager.get(f"/experiment/{other.id}/drift/{drift.id}").status_code == 404


def test_what_a_transaction_shows_is_not_held(experiment: Experiment, editor: Caller) -> None:
    path = f"/experiment/{experiment.id}/drift"
    in_transaction(lambda: editor.post(path, RUN))
    assert leases.held(experiment.pk) is None


def test_what_is_being_deleted_is_not_held(experiment: Experiment, editor: Caller, long_lease: None) -> None:
    Experiment.objects.all().begin_deletion()
    assert editor.post(f"/experiment/{experiment.id}/drift/search", {}).status_code == 200
    assert leases.held(experiment.pk) is None


def test_it_is_held_for_its_lease_and_no_longer(
    experiment: Experiment, editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/experiment/{experiment.id}/drift/search"
    monkeypatch.setattr(leases, "LEASE", 0.0)
    assert editor.post(path, {}).status_code == 200
    assert leases.held(experiment.pk) is None
    monkeypatch.setattr(leases, "LEASE", 60.0)
    assert editor.post(path, {}).status_code == 200
    assert leases.held(experiment.pk)


# Which changes are waited with.


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    waited: list[None] = []
    monkeypatch.setattr(leases, "outwait", lambda since=None: waited.append(None))
    return waited


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"public": True}, 1),
        ({"public": False}, 0),
        ({"permissions": [EVERYBODYS]}, 1),
        ({"permissions": [EVERYBODYS], "public": True}, 1),
        ({"description": "red and white", "tags": ["wine"], "name": "wines"}, 0),
    ],
    ids=str,
)
def test_a_change_of_who_may_what_waits_for_the_leases_and_no_other(
    experiment: Experiment, manager: Caller, waits: list[None], change: dict[str, Any], number: int
) -> None:
    assert manager.patch(f"/experiment/{experiment.id}", change).status_code == 200
    assert len(waits) == number


def test_a_handover_waits_for_the_leases(
    experiment: Experiment, manager: Caller, stranger: Caller, waits: list[None]
) -> None:
    handed_over = manager.post(f"/experiment/{experiment.id}/access/handover", {"entity": stranger.id})
    assert handed_over.status_code == 200
    assert len(waits) == 1


def test_what_the_portal_saves_waits_for_the_leases(experiment: Experiment, waits: list[None]) -> None:
    experiment.save()
    assert len(waits) == 1


def test_several_changes_are_waited_for_once(
    experiment: Experiment, admin: Caller, waits: list[None], settings: Settings
) -> None:
    others = [Experiment.objects.create(name=name) for name in ("beer", "cider")]
    session = through_session(admin, settings).client
    for action, number in (("publish", 1), ("archive", 1), ("make_private", 2)):
        chosen = {"_selected_action": [str(each.pk) for each in (experiment, *others)], "action": action}
        assert session.post("/admin/experiments/experiment/", chosen).status_code == 302
        assert len(waits) == number


def test_what_is_undone_is_not_waited_for(experiment: Experiment, waits: list[None]) -> None:
    def save_and_fail() -> None:
        experiment.save()
        raise LookupError

    with pytest.raises(LookupError):
        in_transaction(save_and_fail)
    assert not waits
