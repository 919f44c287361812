"""Cursors: each page continues after the last record of the previous one, whatever is stored in between."""

import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from accounts.models import User
from core.api import pagination as pages
from core.mongodb.documents import mongodb
from core.mongodb.order import Order
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def add_runs(experiment: Experiment, *minutes: int, **fields: Any) -> list[str]:
    """Add a run at each of the minutes, and return their ids."""
    run = {"job_status": "Completed", "model": "forest", **fields}
    times = [START + datetime.timedelta(minutes=minute) for minute in minutes]
    return [str(Drift.objects.create(experiment=experiment, created_at=time, **run).id) for time in times]


def path_of(experiment: Experiment) -> str:
    return f"/experiment/{experiment.id}/drift/search"


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [item["id"] for item in response.json()]


def pagination(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.content
    header: dict[str, Any] = json.loads(response.headers["X-Pagination"])
    return header


def cursor_of(response: Any) -> str:
    return str(pagination(response)["next_cursor"])


def links(response: Any) -> dict[str, str]:
    return {link["rel"]: link["url"] for link in requests.utils.parse_header_links(response.headers["Link"])}


def following(caller: Caller, path: str, query: str, response: Any, document: Any = None) -> Iterator[Any]:
    """The responses for the pages after this one."""
    while cursor := pagination(response).get("next_cursor"):
        response = caller.post(f"{path}?{query}&cursor={cursor}", document or {})
        yield response


def ids_after(caller: Caller, path: str, query: str, response: Any) -> list[str]:
    return [run for page in following(caller, path, query, response) for run in ids(page)]


def assert_refused(response: Any, words: str) -> None:
    assert response.status_code == 422, response.content
    assert words in response.json()["errors"]["query"]["cursor"][0]


# Pages stay the same while runs arrive.


def test_newer_runs_do_not_change_the_pages_after_a_cursor(reader: Caller, experiment: Experiment) -> None:
    oldest_first = add_runs(experiment, *range(10))
    first = reader.post(f"{path_of(experiment)}?page_size=3", {})
    seen = ids(first)
    for number, page in enumerate(following(reader, path_of(experiment), "page_size=3", first)):
        seen += ids(page)
        add_runs(experiment, 100 + number)
    assert seen == oldest_first[::-1]


def test_newer_runs_come_at_the_end_when_sorted_oldest_first(reader: Caller, experiment: Experiment) -> None:
    runs = add_runs(experiment, *range(5))
    query = "page_size=3&order_by=asc"
    first = reader.post(f"{path_of(experiment)}?{query}", {})
    runs += add_runs(experiment, 100, 101)
    assert ids(first) + ids_after(reader, path_of(experiment), query, first) == runs


def test_a_cursor_stays_valid_after_its_run_is_deleted(reader: Caller, experiment: Experiment) -> None:
    runs = add_runs(experiment, *range(6))
    first = reader.post(f"{path_of(experiment)}?page_size=3&order_by=asc", {})
    Drift.objects.filter(pk=ids(first)[-1]).delete()
    assert ids_after(reader, path_of(experiment), "page_size=3&order_by=asc", first) == runs[3:]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", ["created_at", "model"])
def test_runs_with_equal_times_are_neither_repeated_nor_skipped(
    reader: Caller, experiment: Experiment, sort_by: str, order: str
) -> None:
    runs = sorted(add_runs(experiment, *[0] * 11), reverse=order == "desc")
    query = f"page_size=2&sort_by={sort_by}&order_by={order}"
    first = reader.post(f"{path_of(experiment)}?{query}", {})
    assert ids(first) + ids_after(reader, path_of(experiment), query, first) == runs


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_runs_without_a_value_are_sorted_before_all_others(reader: Caller, experiment: Experiment, order: str) -> None:
    runs = add_runs(experiment, *range(9))
    collection = mongodb().database[Drift._meta.db_table]
    for number, run in enumerate(runs[:6]):
        change = {"$set": {"schema_version": None}} if number % 2 else {"$unset": {"schema_version": ""}}
        collection.update_one({"_id": run.replace("-", "")}, change)
    query = f"page_size=2&sort_by=schema_version&order_by={order}"
    first = reader.post(f"{path_of(experiment)}?{query}", {})
    walked = ids(first) + ids_after(reader, path_of(experiment), query, first)
    assert walked == (runs if order == "asc" else runs[::-1])


@pytest.mark.parametrize(
    ("following", "position"),
    [
        ({"model": "tree", "created_at": 1, "_id": "a"}, ["forest"]),
        ({"model": "forest", "created_at": 2, "_id": "c"}, ["forest", 3]),
        ({"model": "forest", "created_at": 3, "_id": "a"}, ["forest", 3, "b"]),
        (None, ["forest", 3, "b"]),
    ],
)
def test_a_position_starts_with_the_values_that_the_next_document_shares(following: Any, position: list[Any]) -> None:
    order = Order.by("model", is_descending=True)
    assert order.position({"model": "forest", "created_at": 3, "_id": "b"}, following) == position
    # One range for each sort key, and one for null where it comes after the values.
    assert len(order.after(position)) == len(position) + 1


def test_the_page_size_may_change_between_pages(reader: Caller, experiment: Experiment) -> None:
    runs = add_runs(experiment, *range(7))
    first = reader.post(f"{path_of(experiment)}?page_size=2&order_by=asc", {})
    assert ids(first) + ids_after(reader, path_of(experiment), "page_size=4&order_by=asc", first) == runs


def test_the_filter_applies_to_every_page(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, *range(0, 20, 2), model="tree")
    wanted = add_runs(experiment, *range(1, 20, 2), parameters={"p": 0.5})
    document = {"parameters.p": {"$lt": 1}}
    first = reader.post(f"{path_of(experiment)}?page_size=3&order_by=asc", document)
    rest = following(reader, path_of(experiment), "page_size=3&order_by=asc", first, document)
    assert ids(first) + [run for page in rest for run in ids(page)] == wanted


# Page headers.


def test_a_page_has_a_cursor_only_if_there_is_a_next_page(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, *range(4))
    first = reader.post(f"{path_of(experiment)}?page_size=2", {})
    (last,) = following(reader, path_of(experiment), "page_size=2", first)
    assert "next_cursor" not in pagination(last)
    assert "next" not in links(last)
    empty = reader.post(path_of(experiment), {"model": "tree"})
    assert "next_cursor" not in pagination(empty)


def test_a_page_after_a_cursor_has_a_total_and_no_page_number(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, *range(5))
    first = reader.post(f"{path_of(experiment)}?page_size=2", {})
    second = next(following(reader, path_of(experiment), "page_size=2", first))
    assert pagination(second) == {
        "total": 5,
        "total_is_exact": True,
        "total_pages": 3,
        "first_page": 1,
        "last_page": 3,
        "next_cursor": cursor_of(second),
    }


def test_links_lead_to_the_neighbouring_pages(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, *range(7))
    second = reader.post(f"{path_of(experiment)}?page=2&page_size=2&order_by=asc", {})
    everything = ids(reader.post(f"{path_of(experiment)}?order_by=asc", {}))
    shown = {}
    for relation, address in links(second).items():
        prefix = "http://testserver/api/v1"
        assert address.startswith(prefix)
        shown[relation] = ids(reader.post(address.removeprefix(prefix), {}))
    assert shown == {"first": everything[:2], "prev": everything[:2], "next": everything[4:6], "last": everything[6:]}


# Refusals.


def test_a_cursor_and_the_number_of_a_page_exclude_each_other(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, *range(3))
    cursor = cursor_of(reader.post(f"{path_of(experiment)}?page_size=2", {}))
    assert_refused(reader.post(f"{path_of(experiment)}?page=2&cursor={cursor}", {}), "cursor or page, not both")
    # Generated clients send the default of each parameter.
    beside = reader.post(f"{path_of(experiment)}?page=1&page_size=2&cursor={cursor}", {})
    assert ids(beside) == ids(reader.post(f"{path_of(experiment)}?page_size=2&cursor={cursor}", {}))


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("", {"model": "forest"}),
        ("order_by=asc", {}),
        ("sort_by=model", {}),
        ("sort_by=model&order_by=asc", {}),
    ],
)
def test_a_cursor_of_another_filter_or_sort_is_refused(
    reader: Caller, experiment: Experiment, query: str, document: Any
) -> None:
    add_runs(experiment, *range(3))
    cursor = cursor_of(reader.post(f"{path_of(experiment)}?page_size=2", {}))
    response = reader.post(f"{path_of(experiment)}?{query}&cursor={cursor}", document)
    assert_refused(response, "another search")


def test_a_cursor_of_another_experiment_or_resource_is_refused(admin: Caller, experiment: Experiment) -> None:
    add_runs(experiment, *range(3))
    other = Experiment.objects.create(name="other")
    User.objects.create(issuer="https://example.org", subject="other", email="other@example.org")
    cursors = [
        cursor_of(admin.post(f"{path}?page_size=1", {}))
        for path in (path_of(experiment), "/experiment/search", "/user/search")
    ]
    assert_refused(admin.post(f"{path_of(other)}?cursor={cursors[0]}", {}), "another search")
    assert_refused(admin.post(f"/user/search?cursor={cursors[1]}", {}), "another search")
    assert_refused(admin.post(f"/experiment/search?cursor={cursors[2]}", {}), "another search")


@pytest.mark.parametrize("cursor", ["x", "a.b", "null", "%00", "ä", "5", "e30.1", "{}", "."])
def test_an_invalid_cursor_is_refused(reader: Caller, experiment: Experiment, cursor: str) -> None:
    response = reader.post(f"{path_of(experiment)}?cursor={cursor}", {})
    assert response.status_code == 422, response.content
    assert response.json()["errors"]["query"].keys() == {"cursor"}


def test_a_modified_cursor_is_refused(reader: Caller, experiment: Experiment) -> None:
    add_runs(experiment, *range(3))
    cursor = cursor_of(reader.post(f"{path_of(experiment)}?page_size=2", {}))
    for changed in ("", cursor[:-1], cursor[1:], cursor.swapcase(), f"{cursor}A"):
        assert_refused(reader.post(f"{path_of(experiment)}?cursor={changed}", {}), "not a cursor of this service")


def test_a_cursor_signed_with_another_secret_is_refused(
    reader: Caller, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_runs(experiment, *range(3))
    monkeypatch.setattr(pages, "SALT", "something else")
    cursor = cursor_of(reader.post(f"{path_of(experiment)}?page_size=2", {}))
    monkeypatch.undo()
    assert_refused(reader.post(f"{path_of(experiment)}?cursor={cursor}", {}), "not a cursor of this service")


# Access.


def test_a_cursor_gives_no_access(reader: Caller, stranger: Caller, admin: Caller, experiment: Experiment) -> None:
    add_runs(experiment, *range(3))
    cursor = cursor_of(reader.post(f"{path_of(experiment)}?page_size=1", {}))
    assert stranger.post(f"{path_of(experiment)}?cursor={cursor}", {}).status_code == 403
    Experiment.objects.create(name="hidden", created_at=START)
    shown = Experiment.objects.create(name="shown", public=True, created_at=START - datetime.timedelta(days=1))
    cursor = cursor_of(admin.post("/experiment/search?page_size=1", {}))
    assert ids(stranger.post(f"/experiment/search?cursor={cursor}", {})) == [str(shown.id)]
