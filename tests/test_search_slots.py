"""Slots: how many searches run at once, and their time limit for callers without a token."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django.test import RequestFactory
from pytest_django import Settings

from core.api import search_slots
from core.api.search_slots import Group, Slots, TooManySearches, groups_of, slots
from core.identity import Identity
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.session import through_session

PATIENCE = 10


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_slots, "WAIT_SECONDS", 0.01)


@pytest.fixture
def all_taken(little_patience: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process has one slot, which is taken."""
    monkeypatch.setattr(search_slots, "MAX_IN_TOTAL", 1)
    with slots().held([Group("all", 1, "")]):
        yield


# Every search needs a slot.


def public(experiment: Experiment) -> str:
    Experiment.objects.update(public=True)
    return str(experiment.id)


@pytest.mark.parametrize(
    "path",
    [
        "/experiment/search",
        "/drift/search",
        "/drift/stats",
        "/experiment/{id}/drift/search",
        "/experiment/{id}/drift/stats",
        "/experiment/{id}/audit/search",
        "/user/search",
        "/audit/search",
    ],
)
def test_a_search_of_the_api_without_a_slot_is_refused_and_says_when_to_retry(
    admin: Caller, experiment: Experiment, all_taken: None, path: str
) -> None:
    refused = admin.post(path.format(id=experiment.id), {})
    assert refused.status_code == 429, refused.content
    assert refused.headers["Retry-After"] == "2"
    assert refused.json()["message"] == (
        "The service runs too many searches at once. Wait for the response to one before you send another. "
        "Try again in 2 seconds."
    )
    assert admin.get(f"/experiment/{experiment.id}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/experiments",
        "/experiments/{id}",
        "/experiments/{id}/chart",
        "/experiments/{id}/chart.csv",
        "/experiments/{id}/timeline",
        "/experiments/{id}/timeline.svg",
        "/admin/",
        "/admin/drifts/drift/",
        "/admin/audit/event/?q=text",
    ],
)
def test_a_page_that_searches_without_a_slot_is_refused_and_says_when_to_retry(
    admin: Caller, drift: Drift, settings: Settings, all_taken: None, path: str
) -> None:
    browser = through_session(admin, settings).client
    page = browser.get(path.format(id=drift.experiment_id), headers={"Accept": "text/html"})
    assert page.status_code == 429
    assert page.headers["Retry-After"] == "2"
    assert "The service runs too many searches at once." in page.content.decode()


def test_a_slot_is_free_again_after_a_search_that_fails(
    reader: Caller, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_slots, "MAX_IN_TOTAL", 1)
    monkeypatch.setattr(search_slots, "WAIT_SECONDS", 0)
    path = f"/experiment/{experiment.id}/drift/search"
    assert [reader.post(path, {"model": {"$regex": "("}}).status_code for _ in range(2)] == [422, 422]
    assert reader.post(path, {}).status_code == 200


# Groups.


def groups(identity: Identity, address: str = "192.0.2.1") -> list[Group]:
    request = RequestFactory().post("/", REMOTE_ADDR=address)
    request.auth = identity  # type: ignore[attr-defined]
    return groups_of(request)


def limits(*arguments: Any) -> dict[str, int]:
    return {group.name: group.limit for group in groups(*arguments)}


def test_a_user_shares_slots_with_their_other_connections_their_address_and_everybody() -> None:
    assert limits(Identity("issuer", "ada")) == {"identity issuer ada": 8, "address 192.0.2.1": 12, "all": 16}


def test_a_caller_without_a_token_shares_slots_with_all_others_without_one() -> None:
    anonymous = {"anonymous at 192.0.2.1": 4, "anonymous": 6, "address 192.0.2.1": 12, "all": 16}
    assert limits(Identity()) == anonymous


@pytest.mark.parametrize(
    ("threads", "expected"), [(16, [1, 1, 3, 2, 4]), (32, [2, 3, 6, 4, 8]), (256, [4, 6, 12, 8, 16])]
)
def test_the_slots_follow_the_threads_of_a_worker_up_to_64(
    settings: Settings, threads: int, expected: list[int]
) -> None:
    settings.THREADS = threads
    user, anonymous = limits(Identity("issuer", "ada")), limits(Identity())
    found = {**anonymous, **user}
    names = ["anonymous at 192.0.2.1", "anonymous", "address 192.0.2.1", "identity issuer ada", "all"]
    assert [found[name] for name in names] == expected


def test_callers_without_a_token_leave_slots_to_users_however_many_addresses_they_have(little_patience: None) -> None:
    slots = Slots()
    with ExitStack() as searches:
        for number in range(6):
            searches.enter_context(slots.held(groups(Identity(), f"192.0.2.{number}")))
        with pytest.raises(TooManySearches, match="Callers without a token"):
            searches.enter_context(slots.held(groups(Identity(), "192.0.2.99")))
        searches.enter_context(slots.held(groups(Identity("issuer", "ada"))))


# Slots.


def group(limit: int, name: str = "one caller") -> list[Group]:
    return [Group(name, limit, "You run")]


def test_a_search_that_finds_no_slot_waits_for_one_that_ends() -> None:
    slots, ended = Slots(), threading.Event()

    def search() -> None:
        with slots.held(group(1)):
            assert ended.wait(PATIENCE)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(search), pool.submit(search)
        time.sleep(0.05)
        ended.set()
        first.result()
        second.result()


def test_a_search_waits_a_moment_only() -> None:
    slots = Slots()
    with slots.held(group(1)):
        started = time.monotonic()
        with pytest.raises(TooManySearches, match="You run too many searches at once"), slots.held(group(1)):
            pass
        assert search_slots.WAIT_SECONDS <= time.monotonic() - started < PATIENCE
    with slots.held(group(1)):
        pass


def test_no_more_searches_wait_than_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five searches come at once: two run, two wait, and the fifth is refused without a wait, however long that is."""
    monkeypatch.setattr(search_slots, "WAIT_SECONDS", PATIENCE)
    slots, ended, refused = Slots(), threading.Event(), threading.Event()

    def search(_: int) -> bool:
        try:
            with slots.held(group(2)):
                assert ended.wait(PATIENCE)
        except TooManySearches:
            refused.set()
            return False
        return True

    with ThreadPoolExecutor(5) as pool:
        results = pool.map(search, range(5))
        assert refused.wait(PATIENCE / 2)
        ended.set()
        assert sorted(results) == [False, True, True, True, True]


def test_waiting_searches_get_slots_in_the_order_in_which_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_slots, "WAIT_SECONDS", PATIENCE)
    slots, order = Slots(), []

    def search(number: int) -> None:
        with slots.held(group(3)):
            order.append(number)

    with ThreadPoolExecutor(3) as pool, slots.held(group(3)), slots.held(group(3)):
        with slots.held(group(3)):
            waiting = []
            for number in range(3):
                waiting.append(pool.submit(search, number))
                time.sleep(0.03)
        for each in waiting:
            each.result()
    assert order == [0, 1, 2]


def test_many_fast_searches_of_one_caller_are_never_refused(reader: Caller, experiment: Experiment) -> None:
    """Sixteen connections, twice as many as slots."""

    def search(_: int) -> int:
        caller = Caller(reader.token)
        status: int = caller.post(f"/experiment/{experiment.id}/drift/search", {}).status_code
        return status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(search, range(64))) == {200}


# The time limit.


def test_a_caller_without_a_token_has_less_time(
    anonymous: Caller, reader: Caller, drift: Drift, settings: Settings
) -> None:
    path = f"/experiment/{public(drift.experiment)}/drift/search"
    Drift.objects.bulk_create(
        Drift(experiment=drift.experiment, model="tree", job_status="Failed", parameters={"note": "a" * 900 + "b"})
        for _ in range(1_000)
    )
    slow = {"parameters.note": {"$regex": "(a+)+$"}}
    settings.SEARCH_TIME_LIMIT_ANONYMOUS = 0.05
    settings.SEARCH_TIME_LIMIT = 0.06
    assert "longer than 0.05 s" in anonymous.post(path, slow).json()["message"]
    assert "longer than 0.06 s" in reader.post(path, slow).json()["message"]
    settings.SEARCH_TIME_LIMIT = 0.04
    assert "longer than 0.04 s" in anonymous.post(path, slow).json()["message"]


def test_a_page_names_the_time_that_a_visitor_without_a_login_has(anonymous: Caller, experiment: Experiment) -> None:
    page = anonymous.client.get(f"/experiments/{public(experiment)}?patient=1", headers={"Accept": "text/html"})
    assert "Search longer (up to 2 s)" in page.content.decode()
