"""Totals: exact while counting is cheap, otherwise a lower bound marked as such."""

import datetime
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from core import timestamps, totals
from core.models import StoredTotal
from core.totals import Total
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN
from tests.crowd import RemoteUser
from tests.profiler import commands


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the bounds 200, 1,000 and 100,000 by 10, 10 and 30, each cached for one second."""
    monkeypatch.setattr(totals, "MAX_UNCACHED", 10)
    monkeypatch.setattr(totals, "FIRST_LIMIT", 10)
    monkeypatch.setattr(totals, "CACHE_TIME_PER_DOCUMENT", 1.0)
    monkeypatch.setattr(totals, "SECOND_LIMIT", 30)


def add_runs(experiment: Experiment, number: int, **fields: Any) -> None:
    run = {"job_status": "Completed", "model": "forest", **fields}
    Drift.objects.bulk_create(Drift(experiment=experiment, **run) for _ in range(number))


def pagination_of(
    caller: Caller, experiment: Experiment, query: str = "page_size=5", document: Any = None
) -> dict[str, Any]:
    response = caller.post(f"/experiment/{experiment.id}/drift/search?{query}", document or {})
    assert response.status_code == 200, response.content
    header: dict[str, Any] = json.loads(response.headers["X-Pagination"])
    return header


def reported_total(*arguments: Any, **how: Any) -> tuple[int, bool]:
    header = pagination_of(*arguments, **how)
    return header["total"], header["total_is_exact"]


def expire_all() -> None:
    StoredTotal.objects.all().delete()
    totals.clear_totals()


def test_a_small_total_is_never_cached(reader: Caller, experiment: Experiment) -> None:
    for number in range(1, 11):
        add_runs(experiment, 1)
        assert reported_total(reader, experiment, "page_size=1") == (number, True)


@pytest.mark.parametrize(("runs", "total"), [(11, (11, True)), (30, (30, True)), (31, (30, False)), (47, (30, False))])
def test_a_total_is_exact_up_to_a_bound_and_a_lower_bound_beyond_it(
    reader: Caller, experiment: Experiment, runs: int, total: tuple[int, bool]
) -> None:
    add_runs(experiment, runs)
    assert reported_total(reader, experiment) == total


def test_pages_beyond_a_lower_bound_can_be_read(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 47)
    first = pagination_of(reader, experiment)
    assert (first["total"], first["total_pages"], first["last_page"]) == (30, 6, 6)
    beyond = pagination_of(reader, experiment, "page_size=5&page=8")
    assert (beyond["total"], beyond["total_is_exact"], beyond["last_page"], beyond["next_page"]) == (41, False, 9, 9)
    last = pagination_of(reader, experiment, "page_size=5&page=10")
    assert (last["total"], last["total_is_exact"], last["last_page"]) == (47, True, 10)
    assert "next_page" not in last


def test_a_lower_bound_links_to_no_last_page(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 47)
    links = reader.post(f"/experiment/{experiment.id}/drift/search", {}).headers["Link"]
    assert 'rel="next"' in links
    assert 'rel="last"' not in links


def test_a_large_total_is_cached(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 20)
    assert reported_total(reader, experiment) == (20, True)
    add_runs(experiment, 5)
    assert reported_total(reader, experiment) == (20, True)
    expire_all()
    assert reported_total(reader, experiment) == (25, True)


def test_a_larger_total_is_cached_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    exact = {number: totals.lifetime(totals.Total(number)) for number in (201, 1_000, 90_000)}
    assert exact == {201: 0.201, 1_000: 1, 90_000: 30}
    assert totals.lifetime(totals.Total(201, is_exact=False)) == 30


# Several processes. One that has cached nothing stands for another worker.


def in_a_new_process(caller: Caller, experiment: Experiment) -> tuple[int, bool]:
    totals.clear_totals()
    return reported_total(caller, experiment)


def test_every_process_shows_one_total_until_it_expires(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 20)
    assert reported_total(reader, experiment) == (20, True)
    add_runs(experiment, 5)
    assert [in_a_new_process(reader, experiment) for _ in range(3)] == [(20, True)] * 3
    Drift.objects.all()[5].delete()
    StoredTotal.objects.update(expires_at=timestamps.now())
    assert [in_a_new_process(reader, experiment) for _ in range(3)] == [(24, True)] * 3


def test_a_total_that_falls_below_the_bound_of_cached_ones_is_shown_by_no_process_early(
    reader: Caller, experiment: Experiment
) -> None:
    add_runs(experiment, 11)
    assert reported_total(reader, experiment) == (11, True)
    Drift.objects.all()[0].delete()
    assert in_a_new_process(reader, experiment) == (11, True)


def test_a_process_caches_a_total_no_longer_than_the_others(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 20)
    reported_total(reader, experiment)
    add_runs(experiment, 5)
    StoredTotal.objects.update(expires_at=timestamps.now() + datetime.timedelta(minutes=1))
    assert in_a_new_process(reader, experiment) == (20, True)
    (cached,) = totals.cache.values()
    assert cached.expires_at <= time.monotonic() + 60
    StoredTotal.objects.update(expires_at=timestamps.now())
    assert reported_total(reader, experiment) == (20, True)
    totals.cache.expire(cached.expires_at)
    assert reported_total(reader, experiment) == (25, True)


def test_the_first_process_to_count_decides_the_total() -> None:
    """Each thread stands for a process that has counted; they counted at slightly different times."""
    with ThreadPoolExecutor(8) as pool:
        shown = set(pool.map(lambda number: totals.store("a search", Total(number)), range(1_000, 1_016)))
    assert len(shown) == 1


def test_a_lower_bound_is_one_for_all_processes(
    reader: Caller, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_runs(experiment, 20)
    with monkeypatch.context() as patch:
        patch.setattr(totals, "SECOND_TIME_LIMIT", 1e-9)
        assert reported_total(reader, experiment) == (11, False)
    assert in_a_new_process(reader, experiment) == (11, False)


def test_a_total_that_cannot_be_stored_is_shown(
    reader: Caller, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_runs(experiment, 20)
    monkeypatch.setattr(totals, "STORE_TIME_LIMIT", 1e-9)
    assert reported_total(reader, experiment) == (20, True)
    with commands() as entries:
        assert reported_total(reader, experiment) == (20, True)
    assert "$count" not in json.dumps([entry["command"] for entry in entries], default=str), "it is cached here"


def test_stored_totals_expire_and_do_not_reveal_the_search(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 20)
    reported_total(reader, experiment)
    (stored,) = totals.totals().find()
    assert str(experiment.id) not in str(stored)
    assert experiment.id.hex not in str(stored)
    indexes = totals.totals().index_information().values()
    assert [index["expireAfterSeconds"] for index in indexes if "expireAfterSeconds" in index] == [0]


def test_the_workers_show_the_same_total(remote_user: RemoteUser) -> None:
    """One worker has counted 8,000 runs, for eight seconds, before more arrive. Then both workers are asked."""
    runs = f"{remote_user.new_experiment()}/drift"
    remote_user.call("POST", f"{runs}/bulk", [RUN] * 8_000)

    def shown(_: int) -> int:
        response = remote_user.call("POST", f"{runs}/search?page_size=1", {})
        total: int = json.loads(response.headers["X-Pagination"])["total"]
        return total

    assert shown(0) == 8_000
    remote_user.call("POST", f"{runs}/bulk", [RUN] * 10)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(shown, range(64))) == {8_000}


def test_a_cached_total_is_not_less_than_the_records_of_a_page(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 20)
    pagination_of(reader, experiment)
    add_runs(experiment, 6)
    assert reported_total(reader, experiment, "page_size=5&page=4") == (21, False)
    assert reported_total(reader, experiment, "page_size=5&page=6") == (26, True)


def test_a_total_is_cached_for_its_filter_only(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, 20)
    add_runs(experiment, 12, model="tree")
    assert reported_total(reader, experiment) == (30, False)
    assert reported_total(reader, experiment, document={"model": "tree"}) == (12, True)


def test_a_cached_total_is_shared_by_callers_with_equal_access(admin: Caller, stranger: Caller) -> None:
    Experiment.objects.bulk_create(Experiment(name=str(number), public=number % 2 == 0) for number in range(24))
    for caller, total in ((admin, 24), (stranger, 12), (admin, 24)):
        response = caller.post("/experiment/search?page_size=5", {})
        assert json.loads(response.headers["X-Pagination"])["total"] == total


@pytest.mark.parametrize("query", ["page_size=100", "page_size=10&page=3"])
def test_no_count_runs_if_the_page_shows_all_records(reader: Caller, experiment: Experiment, query: str) -> None:
    add_runs(experiment, 25)
    with commands() as entries:
        assert reported_total(reader, experiment, query) == (25, True)
    assert entries
    assert "$count" not in json.dumps([entry["command"] for entry in entries], default=str)


@pytest.mark.parametrize(
    ("patience", "least"),
    [
        pytest.param("FIRST_TIME_LIMIT", 6, id="of what the page shows"),
        pytest.param("SECOND_TIME_LIMIT", 11, id="of what was counted before"),
    ],
)
def test_a_count_that_takes_too_long_gives_a_lower_bound(
    reader: Caller, experiment: Experiment, monkeypatch: pytest.MonkeyPatch, patience: str, least: int
) -> None:
    add_runs(experiment, 20)
    monkeypatch.setattr(totals, patience, 1e-9)
    assert reported_total(reader, experiment) == (least, False)
    monkeypatch.undo()
    assert reported_total(reader, experiment) == (least, False)


def test_a_filter_that_is_slow_to_count_still_returns_its_page(
    reader: Caller, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_runs(experiment, 3_000, parameters={"note": "a" * 2_000 + "b"})
    add_runs(experiment, 11, parameters={"note": "a"})
    monkeypatch.setattr(totals, "FIRST_LIMIT", 1_000)
    monkeypatch.setattr(totals, "FIRST_TIME_LIMIT", 0.05)
    slow = {"parameters.note": {"$regex": "(a+)+$"}}
    assert reported_total(reader, experiment, "page_size=10", slow) == (11, False)
