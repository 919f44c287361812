"""The index of each search of 100,000 runs: on any page, MongoDB reads about as many documents as it returns."""

import json
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from pymongo import WriteConcern
from pytest_django import DjangoDbBlocker, Settings

from accounts.models import User
from core import totals
from core.models import StoredTotal
from core.mongodb.documents import mongodb
from core.portal.changelists import COUNTED_AT_MOST
from drifts import dashboard, schema
from drifts.admin import NEWEST as NEWEST_IN_LIST
from drifts.admin import SUGGESTED_FROM
from drifts.documents import time_of
from drifts.models import Drift
from drifts.summaries import NEWEST
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.profiler import Read, reads_of

RUNS = 110_000  # ten of eleven of them are in the searched experiment
CHUNK = 5_000
PAGE = 10
EXPERIMENT, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
START = 1_767_225_600_000  # 2026-01-01, in milliseconds since 1970
MINUTE = 60_000


def identifier(milliseconds: int, number: int) -> uuid.UUID:
    return uuid.UUID(int=milliseconds << 80 | number)


def document(number: int, chance: random.Random) -> dict[str, Any]:
    """A stored run. Eleven runs share three minutes, and one of them belongs to another experiment."""
    pk = identifier(START + number * 3 // 11 * MINUTE, number)
    status = chance.choices(["Completed", "Running", "Failed"], [8, 1, 1])[0]
    return {
        "_id": pk.hex,
        "experiment_id": (EXPERIMENT if number % 11 else OTHER).hex,
        "job_status": status,
        "model": f"model {chance.randrange(20)}",
        "drift_detected": chance.random() < 0.5,
        "parameters": {"p_value": chance.random()},
        "tags": chance.sample(["nightly", "canary", "manual", "eu", "us"], 2),
        "detector": chance.choice(["KS", "PSI", "MMD"]) if number % 4 == 1 else None,
        "environment": chance.choice(["staging", "production"]) if number % 5 == 1 else None,
        "model_version": None,
        "schema_version": schema.current(),
        "created_at": time_of(pk),
        "updated_at": time_of(pk),
        # Reported in another order than observed.
        "observed_at": time_of(identifier(START + chance.randrange(RUNS) * MINUTE, 0)),
        "series": {"model": f"model {number % 20}"},
    }


@contextmanager
def using_database(name: str) -> Iterator[None]:
    """Switch this process to another database within the block."""
    connection = mongodb()
    usual = connection.settings_dict["NAME"]
    connection.ensure_connection()
    try:
        connection.settings_dict["NAME"] = name
        connection.init_connection_state()
        yield
    finally:
        connection.settings_dict["NAME"] = usual
        connection.init_connection_state()


@pytest.fixture(scope="module")
def filled(migrated_database: list[str], django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The name of a second database, not emptied after each test, with many runs of a public experiment."""
    name = f"{mongodb().settings_dict['NAME']}_filled"
    chance = random.Random(1)  # noqa: S311 - nothing here is a secret
    with django_db_blocker.unblock(), using_database(name):
        call_command("migrate", verbosity=0)
        Experiment.objects.bulk_create(Experiment(id=pk, name=str(pk), public=True) for pk in (EXPERIMENT, OTHER))
        runs = mongodb().database[Drift._meta.db_table].with_options(write_concern=WriteConcern(w=1))
        for start in range(0, RUNS, CHUNK):
            runs.insert_many([document(number, chance) for number in range(start, start + CHUNK)])
    yield name
    with django_db_blocker.unblock():
        mongodb().connection.drop_database(name)


@pytest.fixture(autouse=True)
def at_scale(database: None, filled: str, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[None]:
    # A machine that is busy with tests counts and searches more slowly.
    monkeypatch.setattr(totals, "SECOND_TIME_LIMIT", 60)
    settings.SEARCH_TIME_LIMIT = settings.SEARCH_TIME_LIMIT_ANONYMOUS = 60
    with using_database(filled):
        StoredTotal.objects.all().delete()
        yield


@pytest.fixture(scope="module")
def root(filled: str, django_db_blocker: DjangoDbBlocker) -> User:
    """An administrator of the filled database."""
    with django_db_blocker.unblock(), using_database(filled):
        return User.objects.create_superuser("root", "root@example.org", "correct horse battery")


def index_of(read: Read) -> str:
    """The name of the index that a plan reads."""
    patterns = {
        f"IXSCAN {{ {', '.join(f'{key}: {direction}' for key, direction in index['key'])} }}": name
        for name, index in mongodb().database[Drift._meta.db_table].index_information().items()
    }
    (name,) = {patterns[plan] for plan in read.plan.replace("}, IXSCAN", "}|IXSCAN").split("|")}
    return name


def search(query: str, filter_: Any) -> tuple[Any, list[Read]]:
    with reads_of(Drift) as reads:
        response = Caller().post(f"/experiment/{EXPERIMENT}/drift/search?{query}", filter_)
    assert response.status_code == 200, response.content
    assert len(response.json()) == PAGE
    return response, reads


def page_of(reads: list[Read]) -> Read:
    (page,) = (read for read in reads if "$sort" in read.stages)
    return page


TIMES = {"created_at": {"$gte": "2026-01-05", "$lt": "2026-01-20"}}
FILTERS = [
    ({}, "drift_newest"),
    (TIMES, "drift_newest"),
    ({"model": "model 7"}, "drift_model"),
    ({"model": "model 7", **TIMES}, "drift_model"),
    ({"job_status": "Failed"}, "drift_status"),
    ({"job_status": "Running", **TIMES}, "drift_status"),
    # Eight of ten runs are completed, so both indexes read about as many keys.
    ({"verdict": "drift"}, "drift_verdict or drift_detected"),
    ({"verdict": "no_drift"}, "drift_verdict or drift_detected"),
    ({"verdict": "unknown"}, "drift_status"),
    ({"drift_detected": True}, "drift_detected"),
    ({"tags": "canary"}, "drift_tags"),
    ({"tags": "canary", **TIMES}, "drift_tags"),
    ({"detector": "PSI"}, "drift_detector"),
    ({"environment": "production"}, "drift_environment"),
    ({"schema_version": schema.current()}, "drift_newest"),
    ({"observed_at": {"$gte": "2026-01-01"}}, "drift_newest"),
]
SORTS = {
    "model": "drift_model",
    "job_status": "drift_status",
    "drift_detected": "drift_detected",
    "observed_at": "drift_observed",
}
SEARCHES = [
    *((filter_, "created_at", index) for filter_, index in FILTERS),
    *(({}, sort_by, index) for sort_by, index in SORTS.items()),
    ({"observed_at": TIMES["created_at"]}, "observed_at", "drift_observed"),
    ({"observed_at": {"$gte": "2026-01-01"}}, "model", "drift_model"),
]


@pytest.mark.parametrize(
    ("filter_", "sort_by", "index"), SEARCHES, ids=[f"{json.dumps(row[0])} by {row[1]}" for row in SEARCHES]
)
def test_a_search_reads_an_index_and_only_the_documents_of_its_page(filter_: Any, sort_by: str, index: str) -> None:
    for order in ("asc", "desc"):
        _, reads = search(f"sort_by={sort_by}&order_by={order}", filter_)
        page = page_of(reads)
        assert index_of(page) in index.split(" or ")
        assert page.documents <= 2 * PAGE
        assert page.keys <= 2 * PAGE
        assert not page.sorts_in_memory


@pytest.mark.parametrize(
    ("filter_", "sort_by"), [row[:2] for row in SEARCHES], ids=[f"{json.dumps(row[0])} by {row[1]}" for row in SEARCHES]
)
def test_a_deep_page_after_a_cursor_reads_no_more_than_the_first(filter_: Any, sort_by: str) -> None:
    # A sort by another field than time also reads the next value of that field.
    pages = 2 if sort_by == "created_at" else 3
    for order in ("asc", "desc"):
        query = f"sort_by={sort_by}&order_by={order}"
        before, _ = search(f"{query}&page={100 if filter_ else 5_000}", filter_)
        cursor = json.loads(before.headers["X-Pagination"])["next_cursor"]
        _, reads = search(f"{query}&cursor={cursor}", filter_)
        page = page_of(reads)
        assert page.documents <= pages * PAGE
        assert page.keys <= pages * PAGE


@pytest.mark.parametrize(
    ("filter_", "sort_by", "index"),
    [
        ({}, "created_at", "drift_newest"),
        (TIMES, "created_at", "drift_newest"),
        *(({}, sort_by, index) for sort_by, index in SORTS.items()),
        ({"model": "model 7"}, "created_at", "drift_model"),
        ({"model": {"$eq": "model 7"}, **TIMES}, "created_at", "drift_model"),
        ({"verdict": "drift"}, "created_at", "drift_verdict"),
        ({"tags": "canary"}, "created_at", "drift_tags"),
    ],
)
def test_a_later_page_by_number_is_read_by_one_index_without_trying_others(
    filter_: Any, sort_by: str, index: str
) -> None:
    """Each index that is tried skips the runs of the earlier pages."""
    mongodb().database.command("planCacheClear", Drift._meta.db_table)
    _, reads = search(f"sort_by={sort_by}&page=300", filter_)
    page = page_of(reads)
    assert (index_of(page), page.compares_plans) == (index, False)


@pytest.mark.parametrize(
    "filter_",
    [
        {"model": {"$in": ["model 7", "model 8"]}},
        {"$or": [{"model": "model 7"}, {"tags": "canary"}]},
        {"model": {"$regex": "^model 7"}},
        {"detector": "PSI"},
        {"parameters.p_value": {"$gt": 0.5}},
    ],
)
def test_a_later_page_of_other_filters_is_found_as_before(filter_: Any) -> None:
    response, _ = search("page=300", filter_)
    cursor = json.loads(search("page=299", filter_)[0].headers["X-Pagination"])["next_cursor"]
    assert search(f"cursor={cursor}", filter_)[0].json() == response.json()


def test_a_sort_by_version_reads_each_run_once_and_continues_by_an_index() -> None:
    response, reads = search("sort_by=schema_version", {})
    page = page_of(reads)
    assert (index_of(page), page.documents, page.keys) == ("drift_newest", 100_000, 100_000)
    cursor = json.loads(response.headers["X-Pagination"])["next_cursor"]
    _, reads = search(f"sort_by=schema_version&cursor={cursor}", {})
    assert sum(read.documents for read in reads if "$sort" in read.stages) <= 2 * PAGE


@pytest.mark.parametrize("document", [{}, {"model": "model 7"}, {"verdict": "drift"}], ids=json.dumps)
def test_a_total_is_counted_without_reading_documents(document: Any) -> None:
    response, reads = search("", document)
    counts = [read for read in reads if "$count" in read.stages]
    assert counts
    assert {read.documents for read in counts} == {0}
    header = json.loads(response.headers["X-Pagination"])
    assert header["total_is_exact"]
    assert document or header["total"] == 100_000


@pytest.mark.parametrize(
    ("path", "documents"),
    [
        ("/admin/drifts/drift/", SUGGESTED_FROM),
        ("/admin/drifts/drift/?p=100", SUGGESTED_FROM),
        ("/admin/drifts/drift/?o=2", SUGGESTED_FROM),
        (f"/admin/drifts/drift/?experiment={EXPERIMENT}", SUGGESTED_FROM),
        ("/admin/drifts/drift/?model=none", NEWEST_IN_LIST),
        ("/admin/drifts/drift/?q=none", NEWEST_IN_LIST),
        (f"/admin/drifts/drift/?tag=none&experiment={EXPERIMENT}", NEWEST_IN_LIST),
        ("/admin/experiments/experiment/", 2 * NEWEST),
        ("/admin/", dashboard.NEWEST),
    ],
)
def test_a_page_of_the_portal_reads_as_many_runs_as_it_says(root: User, path: str, documents: int) -> None:
    browser = Client()
    browser.force_login(root, "accounts.backends.LocalAccountBackend")
    with reads_of(Drift) as reads:
        assert browser.get(path).status_code == 200
    assert reads
    for read in reads:
        assert read.documents <= documents
        # The runs of both experiments are counted in one query.
        assert read.keys <= documents + 2 * (COUNTED_AT_MOST + 1)
        assert "COLLSCAN" not in read.plan


@pytest.mark.parametrize(
    ("query", "documents"),
    [
        ("", 26),
        ("?order_by=asc", 26),
        ("?since=2026-01-10&until=2026-01-12", 26),
        # About the share of the runs that match.
        ("?verdict=drift", 5 * 26),
        ("?model=model 7", 60 * 26),
        # The index of the filter finds few runs, which are sorted.
        ("?model=none", 0),
        ("?tag=none&verdict=drift", 0),
    ],
)
def test_the_table_in_the_order_of_observation_reads_few_runs(query: str, documents: int) -> None:
    with reads_of(Drift) as reads:
        assert Client().get(f"/experiments/{EXPERIMENT}{query}").status_code == 200
    (page,) = (read for read in reads if "$set" in read.stages)
    assert page.documents <= documents
