"""Searches return the same records as PyMongo with the same filter and order, limited to those that the caller may
read.
"""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.identity import Level
from core.mongodb.documents import mongodb
from core.mongodb.match import Mql
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller
from tests.filter_pairs import Pair, pairs, random_runs, reproducible

SORTS = ("created_at", "job_status", "model", "drift_detected", "schema_version")
ORDERS = {"asc": 1, "desc": -1}
READABLE = {
    "anonymous": {"open"},
    "stranger": {"open"},
    "reader": {"open", "shared"},
    "admin": {"open", "shared", "closed"},
}


@pytest.fixture
def experiments(reader: Caller) -> dict[str, uuid.UUID]:
    lists = {
        "open": [],
        "shared": [Permission(entity=reader.id, level=Level.READ)],
        "closed": [],
    }
    return {
        name: Experiment.objects.create(name=name, public=name == "open", permissions=permissions).pk
        for name, permissions in lists.items()
    }


@pytest.fixture
def callers(request: pytest.FixtureRequest) -> dict[str, Caller]:
    return {name: request.getfixturevalue(name) for name in READABLE}


def replace_runs(runs: list[Drift]) -> None:
    mongodb().database[Drift._meta.db_table].delete_many({})
    Drift.objects.bulk_create(runs)


def found_by_pymongo(plain: Mql, experiments: list[uuid.UUID], sort_by: str, order_by: str) -> list[str]:
    """The ids in their stored form."""
    query = {"$and": [{"experiment_id": {"$in": [experiment.hex for experiment in experiments]}}, plain]}
    order = dict.fromkeys((sort_by, "created_at", "_id"), ORDERS[order_by])
    return [
        document["_id"] for document in mongodb().database[Drift._meta.db_table].find(query, {"_id": 1}).sort(order)
    ]


def assert_found(response: Any, expected: list[str]) -> None:
    assert response.status_code == 200, response.content
    assert [uuid.UUID(run["id"]).hex for run in response.json()] == expected
    assert json.loads(response.headers["X-Pagination"])["total"] == len(expected)


@settings(reproducible, max_examples=120)
@given(
    pair=pairs(),
    chance=st.randoms(use_true_random=False),
    count=st.integers(15, 40),
    place=st.sampled_from(["everywhere", *sorted(READABLE["admin"])]),
    sort_by=st.sampled_from(SORTS),
    order_by=st.sampled_from([*ORDERS]),
)
def test_a_search_finds_the_readable_records_that_pymongo_finds(
    callers: dict[str, Caller],
    experiments: dict[str, uuid.UUID],
    pair: Pair,
    chance: Any,
    count: int,
    place: str,
    sort_by: str,
    order_by: str,
) -> None:
    document, plain = pair
    replace_runs(random_runs(chance, count, [*experiments.values()]))
    path = "/drift/search" if place == "everywhere" else f"/experiment/{experiments[place]}/drift/search"
    for name, caller in callers.items():
        response = caller.post(f"{path}?page_size=100&sort_by={sort_by}&order_by={order_by}", document)
        wanted = READABLE[name] if place == "everywhere" else {place}
        if wanted <= READABLE[name]:
            assert_found(response, found_by_pymongo(plain, [experiments[one] for one in wanted], sort_by, order_by))
        else:
            assert response.status_code == 403, response.content
