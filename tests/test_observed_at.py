"""The time of a run, `observed_at`: defaults, bounds, filters and sorts, also for runs of schema 1.0.0 without it."""

import datetime
import json
import operator
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.mongodb.documents import collection_of, mongodb
from drifts import schema
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.profiler import reads_of
from tests.times import time_of

RUN = {"job_status": "Completed", "model": "forest", "drift_detected": False}
FIRST = datetime.datetime(2026, 1, 1, 6, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}/drift"


def in_days(number: float) -> str:
    return (FIRST + number * DAY).isoformat().replace("+00:00", "Z")


def as_older_record(pk: str, created_at: datetime.datetime | None = None) -> None:
    """Store the run again as schema 1.0.0 does: without the fields that later versions have added."""
    runs = mongodb().database[Drift._meta.db_table]
    times = {} if created_at is None else {"created_at": created_at.replace(tzinfo=None)}
    found = runs.find_one_and_update(
        {"_id": pk.replace("-", "")},
        {"$unset": dict.fromkeys(schema.added_fields(), ""), "$set": {"schema_version": "1.0.0", **times}},
    )
    assert found


def test_a_run_was_observed_when_it_was_reported_unless_it_says_otherwise(editor: Caller, path: str) -> None:
    default = editor.post(path, RUN).json()
    assert default["observed_at"] == default["created_at"]
    sent = editor.post(path, RUN | {"observed_at": "2026-01-01t07:00:00.123456+01:00"}).json()
    assert sent["observed_at"] == "2026-01-01T06:00:00.123000Z"
    cleared = editor.patch(f"{path}/{sent['id']}", {"observed_at": None}).json()
    assert cleared["observed_at"] == cleared["created_at"]


@pytest.mark.parametrize(
    ("time", "problem"),
    [
        ("1969-12-31T23:59:59Z", "1970-01-01"),
        ("2026-13-01", "Must be a time such as"),
        ("tomorrow", "Must be a time such as"),
        (1, "Must be a time such as"),
        (True, "Must be a time such as"),
        ([], "Must be a time such as"),
        ("0001-01-01T00:00:00+14:00", "Must be a time such as"),
    ],
)
def test_a_time_out_of_bounds_is_refused(editor: Caller, path: str, time: Any, problem: str) -> None:
    response = editor.post(path, RUN | {"observed_at": time})
    assert response.status_code == 422
    assert problem in response.json()["errors"]["json"]["observed_at"][0]


def test_a_time_may_be_a_day_ahead_of_the_server(editor: Caller, path: str) -> None:
    now = timezone.now()
    assert editor.post(path, RUN | {"observed_at": (now + 0.99 * DAY).isoformat()}).status_code == 201
    refused = editor.post(path, RUN | {"observed_at": (now + 1.01 * DAY).isoformat()})
    assert refused.status_code == 422
    assert "24 hours ahead of the server" in refused.json()["errors"]["json"]["observed_at"][0]


@pytest.mark.parametrize("time", [FIRST - 60 * 365 * DAY, timezone.now() + 365 * DAY])
def test_a_stored_time_out_of_bounds_can_be_written_back(editor: Caller, path: str, time: datetime.datetime) -> None:
    """A clock that was wrong has stored it."""
    run = editor.post(path, RUN).json()
    as_older_record(run["id"], time)
    read = editor.get(f"{path}/{run['id']}").json()
    written = editor.put(f"{path}/{run['id']}", read)
    assert (written.status_code, written.json()["observed_at"]) == (200, read["created_at"])
    other = editor.patch(f"{path}/{run['id']}", {"observed_at": (time + 2 * (time - FIRST)).isoformat()})
    assert other.status_code == 422


def test_a_put_keeps_the_time_that_the_client_sent(editor: Caller, path: str) -> None:
    run = editor.post(path, RUN | {"observed_at": in_days(0)}).json()
    assert editor.put(f"{path}/{run['id']}", RUN).json()["observed_at"] == run["observed_at"]


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [
        ("2026-01-01", "2026-01-02", 201),
        (None, "2026-01-02", 201),
        ("2026-01-01", None, 201),
        ("2026-01-01", "2026-01-01", 422),
        ("2026-01-01T00:00:00.0009Z", "2026-01-01T00:00:00.0001Z", 422),
        ("2026-01-02", "2026-01-01", 422),
    ],
)
def test_a_window_starts_before_its_end(
    editor: Caller, path: str, start: str | None, end: str | None, status: int
) -> None:
    response = editor.post(path, RUN | {"window_start": start, "window_end": end})
    assert response.status_code == status
    if status == 422:
        assert response.json()["errors"]["json"] == {"window_end": ["Must be after window_start."]}


@pytest.mark.parametrize("method", ["patch", "put"])
def test_a_change_of_one_end_of_a_window_is_compared_with_the_other(editor: Caller, path: str, method: str) -> None:
    run = editor.post(path, RUN | {"window_start": "2026-01-01", "window_end": "2026-01-02"}).json()
    change = getattr(editor, method)
    refused = change(f"{path}/{run['id']}", RUN | {"window_start": "2026-01-02"})
    assert refused.status_code == 422
    assert refused.json()["errors"]["json"] == {"window_end": ["Must be after window_start."]}
    assert editor.get(f"{path}/{run['id']}").json() == run
    assert change(f"{path}/{run['id']}", RUN | {"window_start": "2026-01-02", "window_end": None}).status_code == 200


# Runs of schema 1.0.0 among others


@pytest.fixture
def mixed(editor: Caller, path: str) -> list[dict[str, Any]]:
    """Runs of days 0 to 9, as the API shows them, each third as schema 1.0.0 has it; stored in another order."""
    for day in (3, 0, 9, 6, 1, 8, 2, 7, 5, 4):
        run = editor.post(path, RUN | {"model": f"day {day}", "observed_at": in_days(day)}).json()
        if day % 3 == 0:
            as_older_record(run["id"], FIRST + day * DAY)
    found = editor.post(f"{path}/search?page_size=100").json()
    return sorted(found, key=lambda run: run["model"])


def test_an_older_run_was_observed_when_it_was_reported(mixed: list[dict[str, Any]], editor: Caller, path: str) -> None:
    older = [run for run in mixed if run["schema_version"] == "1.0.0"]
    assert len(older) == 4
    for run in older:
        assert run["observed_at"] == run["created_at"]
        assert run["series"] is None
        assert editor.get(f"{path}/{run['id']}").json() == run


def pages(editor: Caller, path: str, query: str, body: Any = None) -> Iterator[list[dict[str, Any]]]:
    cursor = ""
    while True:
        response = editor.post(f"{path}/search?{query}{cursor}", body or {})
        assert response.status_code == 200, response.content
        yield response.json()
        pagination = json.loads(response["X-Pagination"])
        if "next_cursor" not in pagination:
            return
        cursor = f"&cursor={pagination['next_cursor']}"


@pytest.mark.parametrize("order_by", ["asc", "desc"])
@pytest.mark.parametrize("page_size", [1, 3, 10, 100])
def test_pages_by_time_neither_repeat_nor_skip_a_run(
    editor: Caller, path: str, mixed: list[dict[str, Any]], order_by: str, page_size: int
) -> None:
    expected = mixed if order_by == "asc" else mixed[::-1]
    query = f"sort_by=observed_at&order_by={order_by}&page_size={page_size}"
    by_cursor = [run for page in pages(editor, path, query) for run in page]
    assert by_cursor == expected
    numbers = range(1, -(-len(mixed) // page_size) + 1)
    by_number = [run for number in numbers for run in editor.post(f"{path}/search?{query}&page={number}").json()]
    assert by_number == expected


@pytest.mark.parametrize("order_by", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", ["observed_at", "created_at", "model", "drift_detected", "schema_version"])
def test_pages_of_a_filter_by_time_neither_repeat_nor_skip_a_run(
    editor: Caller, path: str, mixed: list[dict[str, Any]], sort_by: str, order_by: str
) -> None:
    query = f"sort_by={sort_by}&order_by={order_by}&page_size=3"
    found = [run for page in pages(editor, path, query, {"observed_at": {"$gte": in_days(2)}}) for run in page]

    def place(run: dict[str, Any]) -> tuple[Any, datetime.datetime, str]:
        key = run[sort_by]
        return time_of(key) if sort_by.endswith("_at") else key, time_of(run["created_at"]), run["id"]

    expected = sorted(mixed[2:], key=place)
    assert found == (expected if order_by == "asc" else expected[::-1])


@pytest.mark.parametrize("order_by", ["asc", "desc"])
@pytest.mark.parametrize(
    ("sort_by", "body"), [("observed_at", {}), ("created_at", {"observed_at": {"$gte": "2026-01-01"}})]
)
def test_a_page_reads_few_runs_while_others_are_upgraded(
    editor: Caller, path: str, experiment: Experiment, order_by: str, sort_by: str, body: Any
) -> None:
    """The runs that are not upgraded yet are the last of this order, behind all others."""
    days = range(120) if order_by == "asc" else range(119, -1, -1)
    pks = Drift.objects.create_all_in(experiment, [RUN] * len(days))
    for position, (pk, day) in enumerate(zip(pks, days, strict=True)):
        time = FIRST + day * DAY
        change = {"created_at": time, "observed_at": time, "model": f"day {day}"}
        mongodb().database[Drift._meta.db_table].update_one({"_id": pk.hex}, {"$set": change})
        if position >= 60:
            as_older_record(str(pk))
    # Plans that suited the few runs of other tests.
    mongodb().database.command("planCacheClear", Drift._meta.db_table)
    with reads_of(Drift) as reads:
        found = editor.post(f"{path}/search?sort_by={sort_by}&order_by={order_by}&page_size=5", body).json()
    assert [run["model"] for run in found] == [f"day {day}" for day in days[:5]]
    assert all(read.documents <= 30 for read in reads if "$count" not in read.stages), reads


def test_runs_of_equal_times_are_ordered_by_id(editor: Caller, path: str) -> None:
    for number in range(6):
        run = editor.post(path, RUN | {"observed_at": in_days(0)}).json()
        if number % 2:
            as_older_record(run["id"], FIRST)
    found = [run for page in pages(editor, path, "sort_by=observed_at&order_by=asc&page_size=1") for run in page]
    assert all(before["id"] < after["id"] for before, after in pairwise(found))
    assert len(found) == 6


ORDERED = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
TIMES = st.sampled_from([in_days(number / 2) for number in range(-1, 20)])
COMPARISONS = st.one_of(
    st.builds(lambda name, time: {name: time}, st.sampled_from(sorted(ORDERED)), TIMES),
    st.builds(lambda name, times: {name: times}, st.sampled_from(["$in", "$nin"]), st.lists(TIMES, max_size=3)),
    st.builds(lambda exists: {"$exists": exists}, st.booleans()),
    st.just({"$eq": None}),
    st.just({"$ne": None}),
    st.builds(lambda time: {"$not": {"$gt": time}}, TIMES),
)
LEAVES = st.builds(lambda condition: {"observed_at": condition}, COMPARISONS) | st.builds(
    lambda day: {"model": f"day {day}"}, st.integers(0, 9)
)
FILTERS = st.recursive(
    LEAVES,
    lambda parts: st.builds(
        lambda name, some: {name: some},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(parts, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(FILTERS)
def test_a_filter_treats_older_runs_as_if_they_had_the_time(
    editor: Caller, path: str, mixed: list[dict[str, Any]], document: dict[str, Any]
) -> None:
    expected = [run["id"] for run in mixed if matches(run, document)]
    for sort in ("created_at", "observed_at"):
        found = editor.post(f"{path}/search?page_size=100&sort_by={sort}", document).json()
        assert sorted(run["model"] for run in found) == sorted(run["model"] for run in mixed if run["id"] in expected)
    counted = editor.post(f"{path}/stats", {"filter": document}).json()
    assert sum(row["count"] for row in counted) == len(expected)


def matches(run: dict[str, Any], document: Any) -> bool:
    ((name, operand),) = document.items()
    match name:
        case "$and":
            return all(matches(run, part) for part in operand)
        case "$or":
            return any(matches(run, part) for part in operand)
        case "$nor":
            return not any(matches(run, part) for part in operand)
        case "model":
            return bool(run["model"] == operand)
    ((comparison, value),) = operand.items()
    return compare(time_of(run["observed_at"]), comparison, value)


def compare(time: datetime.datetime, name: str, value: Any) -> bool:
    match name:
        case "$in" | "$nin":
            return (time in map(time_of, value)) is (name == "$in")
        case "$exists":
            return bool(value)
        case "$not":
            ((inner, operand),) = value.items()
            return not compare(time, inner, operand)
    if value is None:
        return name == "$ne"
    return bool(ORDERED[name](time, time_of(value)))


@pytest.mark.parametrize(
    ("query", "filter_"),
    [
        ("sort_by=observed_at&order_by=asc", {}),
        ("sort_by=observed_at", {"observed_at": {"$gte": "2020-01-01"}}),
        ("sort_by=created_at", {"observed_at": {"$gte": "2020-01-01"}}),
    ],
)
def test_no_search_misses_a_run_that_is_upgraded_meanwhile(
    editor: Caller, path: str, query: str, filter_: dict[str, Any]
) -> None:
    """A thread upgrades all runs but one, and makes them older records again, until all searches are done."""
    body = [RUN | {"model": f"model {number}"} for number in range(20)]
    ids = set(editor.post(f"{path}/bulk", body).json()["ids"])
    as_older_record(min(ids))
    runs = collection_of(Drift)
    upgraded = list(runs.find({"observed_at": {"$exists": True}}))
    is_done = threading.Event()

    def upgrade_again_and_again() -> None:
        while not is_done.is_set():
            for run in upgraded:
                runs.update_one({"_id": run["_id"]}, {"$unset": {"observed_at": ""}})
            for run in upgraded:
                runs.update_one({"_id": run["_id"]}, {"$set": {"observed_at": run["observed_at"]}})

    with ThreadPoolExecutor(1) as pool:
        upgrade = pool.submit(upgrade_again_and_again)
        try:
            found = [editor.post(f"{path}/search?page_size=100&{query}", filter_).json() for _ in range(100)]
        finally:
            is_done.set()
        upgrade.result()
    assert [len(page) for page in found] == [len(ids)] * 100
    assert all({run["id"] for run in page} == ids for page in found)
