"""The page of an experiment's audit trail: its rows, filters, pages and the CSV file. Roles: test_page_access.py."""

import csv
import datetime
import re
import uuid
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from pytest_django import Settings

from audit.models import Action, Actor, Event, Target
from audit.personal_data import erase_from_events
from audit.trail import record
from core.identity import Level
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller, Client
from tests.conftest import GROUP
from tests.profiler import reads_of
from tests.session import through_session
from tests.uploads import upload

PAGE = 50
DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def browser(manager: Caller, settings: Settings) -> Client:
    return through_session(manager, settings).client


def address(experiment: Experiment, query: str = "", page: str = "audit") -> str:
    return f"/experiments/{experiment.pk}/{page}{query}"


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def rows_of(response: Any) -> list[list[str]]:
    """The texts of the cells of each row."""
    body = response.content.decode().partition("<tbody>")[2].partition("</tbody>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [[text_of(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows]


def table_of(response: Any) -> list[dict[str, str]]:
    assert response.headers["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(b"".join(response.streaming_content).decode().splitlines()))


def events(experiment: Experiment, number: int, **fields: Any) -> list[Event]:
    """Store one event for each minute of a day, by two people in turn."""
    return Event.objects.bulk_create(
        Event(
            **{
                "action": Action.EXPERIMENT_UPDATED,
                "actor": Actor(
                    kind="user",
                    user_id=uuid.UUID(int=index % 2),
                    issuer="",
                    subject="",
                    email=f"{index % 2}@example.org",
                ),
                "target": Target(type="experiment", object_id=str(experiment.pk), name=experiment.name),
                "experiment_id": experiment.pk,
                "way": "bearer",
                "after": {"description": f"text {index}"},
                "created_at": DAY + datetime.timedelta(minutes=index),
                **fields,
            }
        )
        for index in range(number)
    )


# Rows.


def test_a_row_tells_who_did_what_to_which_object_how_and_when(
    browser: Client, manager: Caller, experiment: Experiment
) -> None:
    manager.get("/user/self")
    response = manager.patch(f"/experiment/{experiment.pk}", {"name": "barley", "public": True, "tags": ["a", "b"]})
    visibility, changed = rows_of(browser.get(address(experiment)))[:2]
    time, *others = changed
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", time)
    changes = "Name: wine quality → barley Tags: (empty) → a, b"
    request_id = response.headers["X-Request-ID"]
    assert {tuple(others), tuple(visibility[1:])} == {
        ("manager@example.org", "Experiment updated", "Experiment barley", changes, "Token", request_id),
        ("manager@example.org", "Visibility changed", "Experiment barley", "Public: No → Yes", "Token", request_id),
    }


def test_members_are_named_with_their_levels_before_and_after(
    browser: Client, manager: Caller, editor: Caller, reader: Caller, experiment: Experiment
) -> None:
    entries = [(manager.id, "Manage"), (reader.id, "Edit"), (GROUP, "Read"), ("urn:example:group:new", "Edit")]
    permissions = [{"entity": entity, "level": level} for entity, level in entries]
    assert manager.patch(f"/experiment/{experiment.pk}", {"permissions": permissions}).status_code == 200
    page = browser.get(address(experiment)).content.decode()
    lines = {text_of(line) for line in re.findall(r"<li>(.*?)</li>", page)}
    assert {
        "reader@example.org: Read → Edit",
        "editor@example.org: Edit → No access",
        "urn:example:group:new: No access → Edit",
    } <= lines
    assert not any("manager@example.org:" in line or f"{GROUP}:" in line for line in lines)


def test_the_creation_and_the_deletion_of_an_experiment_name_its_members_without_a_change(
    browser: Client, manager: Caller
) -> None:
    created = manager.post("/experiment", {"name": "barley"}).json()
    experiment = Experiment.objects.get(pk=created["id"])
    manager.delete(f"/experiment/{experiment.pk}")
    manager.post(f"/experiment/{experiment.pk}/restore")
    deletion, creation = (row[4] for row in rows_of(browser.get(address(experiment)))[1:])
    for changes in (deletion, creation):
        assert "manager@example.org: Manage Public: No Name: barley" in changes
    assert "Kept until: " in deletion
    assert "(empty)" not in deletion


def test_a_run_is_linked_while_it_exists(browser: Client, manager: Caller, drift: Drift) -> None:
    record(Action.RUN_OVERDUE, None, drift, before={"job_status": "Running"}, after={"job_status": "Failed"})
    path = f"/experiments/{drift.experiment_id}/runs/{drift.pk}"
    page = browser.get(address(drift.experiment))
    assert f'href="{path}"' in page.content.decode()
    assert rows_of(page)[0][1:6] == [
        *("Drift Watch", "Drift run overdue", f"Drift run {drift}", "Status: Running → Failed", "")
    ]
    manager.delete(f"/experiment/{drift.experiment_id}/drift/{drift.pk}")
    page = browser.get(address(drift.experiment))
    deletion = rows_of(page)[0]
    assert (deletion[2], deletion[3]) == ("Drift run deleted", f"Drift run {drift}")
    assert 'Model: forest Drift detected: Yes Parameters: {"p_value": 0.003,' in deletion[4]
    assert "Note" not in deletion[4], "an empty field"
    assert f'href="{path}"' not in page.content.decode()


def test_a_deletion_shows_the_fields_that_had_a_value_and_when_it_goes_for_good(
    browser: Client, manager: Caller, experiment: Experiment
) -> None:
    manager.patch(f"/experiment/{experiment.pk}", {"permissions": [{"entity": manager.id, "level": "Manage"}]})
    manager.delete(f"/experiment/{experiment.pk}")
    manager.post(f"/experiment/{experiment.pk}/restore")
    restored, deleted = rows_of(browser.get(address(experiment)))[:2]
    assert restored[4].endswith("UTC → (empty)")
    assert "Name: wine quality" in deleted[4]
    assert "Kept until: 20" in deleted[4]
    assert "(empty)" not in deleted[4]


def test_a_file_is_linked_to_its_run(browser: Client, editor: Caller, drift: Drift) -> None:
    path = f"/experiment/{drift.experiment_id}/drift/{drift.pk}"
    file = upload(editor, f"{path}/file").json()
    page = browser.get(address(drift.experiment))
    assert f'<a href="/experiments/{drift.experiment_id}/runs/{drift.pk}">report.html</a>' in page.content.decode()
    assert rows_of(page)[0][2:4] == ["File added", "File report.html"]
    assert f"Run: {drift.pk}" in rows_of(page)[0][4]
    assert editor.delete(f"{path}/file/{file['id']}").status_code == 204
    assert editor.delete(path).status_code == 204
    assert f"runs/{drift.pk}" not in browser.get(address(drift.experiment)).content.decode()


def test_many_changes_and_long_values_are_cut(browser: Client, experiment: Experiment) -> None:
    many = [Permission(entity=f"urn:example:group:{number:03}", level=Level.READ) for number in range(300)]
    record(Action.PERMISSIONS_CHANGED, None, experiment, before={"permissions": []}, after={"permissions": many})
    record(Action.EXPERIMENT_UPDATED, None, experiment, before={"description": ""}, after={"description": "x" * 3_000})
    described, shared = (row[4] for row in rows_of(browser.get(address(experiment))))
    assert described == f"Description: (empty) → {'x' * 200}…"
    assert shared.count("No access → Read") == 10
    assert shared.endswith("290 more, in the CSV file")


def test_recorded_markup_is_escaped(browser: Client, experiment: Experiment) -> None:
    record(Action.EXPERIMENT_UPDATED, None, experiment, before={"name": "a"}, after={"name": "<script>x</script>"})
    page = browser.get(address(experiment)).content.decode()
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page


def test_the_events_of_other_experiments_are_never_shown(browser: Client, experiment: Experiment) -> None:
    hidden = Experiment.objects.create(name="secret hops")
    events(hidden, 2)
    for query in ("?until=2026-01-02", f"?until=2026-01-02&experiment_id={hidden.pk}", "?actor=1@example.org"):
        page = browser.get(address(experiment, query))
        assert rows_of(page) == []
        assert "hops" not in page.content.decode()
        assert table_of(browser.get(address(experiment, query, "audit.csv"))) == []


# Filters.


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 7),
        ("since=2026-01-01 00:02", 5),
        ("since=2026-01-01T00:02:00Z&until=2026-01-01 00:04", 2),
        ("until=2026-01-01", 0),
        ("action=experiment_updated", 6),
        ("action=experiment_archived", 1),
        ("actor=1@example.org", 3),
        (f"actor={uuid.UUID(int=0)}&action=experiment_updated", 3),
        ("actor=nobody@example.org", 0),
        ("actor=command line", 1),
        ("actor=Drift Watch", 0),
        ("since=&until=&action=&actor=", 7),
    ],
)
def test_a_filter_in_the_address_narrows_the_page_and_the_file(
    browser: Client, experiment: Experiment, query: str, found: int
) -> None:
    events(experiment, 6)
    record(Action.EXPERIMENT_ARCHIVED, None, experiment, after={"archived_at": DAY})
    query = f"?{quote(query, safe='=&')}"
    page = browser.get(address(experiment, query))
    assert page.status_code == 200
    assert len(rows_of(page)) == found
    assert f"{found} event" in page.content.decode()
    assert len(table_of(browser.get(address(experiment, query, "audit.csv")))) == found


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("since=yesterday", "Write a time in UTC, such as 2026-01-31"),
        ("until=2026-13-01", "Write a time in UTC, such as 2026-01-31"),
        ("since=0001-01-01T00:00:00%2B23:00", "Write a time in UTC, such as 2026-01-31"),
        ("action=sleep", "Choose an action from the list."),
        ("actor=%00", "Null characters are not allowed."),
        (f"actor={'x' * 255}", "at most 254 characters"),
    ],
)
def test_a_wrong_value_is_explained_beside_its_control(
    browser: Client, experiment: Experiment, query: str, message: str
) -> None:
    events(experiment, 1)
    page = browser.get(address(experiment, f"?{query}"))
    name = query.partition("=")[0]
    assert page.status_code == 422
    error = re.search(rf'id="filter-{name}-error">([^<]*)<', page.content.decode())
    assert error
    assert message in error[1]
    assert rows_of(page) == []
    file = browser.get(address(experiment, f"?{query}", "audit.csv"))
    assert file.status_code == 422
    assert not Event.objects.filter(action="exported").exists()


def test_an_empty_page_says_why(browser: Client, experiment: Experiment) -> None:
    assert "No events yet." in browser.get(address(experiment)).content.decode()
    assert "No events match." in browser.get(address(experiment, "?action=exported")).content.decode()


# Pages.


def test_cursors_lead_through_all_events_and_back(browser: Client, experiment: Experiment) -> None:
    events(experiment, 2 * PAGE + 10)
    query, shown = "?action=experiment_updated", []
    pages = []
    while query:
        page = browser.get(address(experiment, query)).content.decode()
        pages.append(page)
        shown += re.findall(r"text (\d+)", page)
        older = re.search(r'rel="next" href="([^"]*)"', page)
        query = older[1].replace("&amp;", "&") if older else ""
        assert not query or "action=experiment_updated" in query
    assert shown == [str(number) for number in reversed(range(2 * PAGE + 10))]
    newer = re.search(r'rel="prev" href="([^"]*)"', pages[2])
    assert newer
    back = browser.get(address(experiment, newer[1].replace("&amp;", "&"))).content.decode()
    assert re.findall(r"text (\d+)", back) == re.findall(r"text (\d+)", pages[1])


@pytest.mark.parametrize("query", ["?cursor=nonsense", "?before=nonsense", "?cursor={other}"])
def test_a_cursor_of_another_search_leads_to_the_newest_events(
    browser: Client, experiment: Experiment, query: str
) -> None:
    events(experiment, PAGE + 1)
    other = re.search(r"cursor=([^&\"]*)", browser.get(address(experiment)).content.decode())
    assert other
    page = browser.get(address(experiment, f"{query.format(other=other[1])}&action=experiment_updated"))
    assert page.status_code == 422
    assert "no longer available" in page.content.decode()
    assert 'href="?action=experiment_updated"' in page.content.decode()


def test_few_of_many_events_are_read_by_an_index(browser: Client, experiment: Experiment) -> None:
    """The events of another experiment, of the same people and actions, lie between those of this one."""
    other = Experiment.objects.create(name="other")
    events(experiment, 1_500)
    events(other, 1_500)
    queries = {
        "": PAGE + 1,
        "since=2026-01-01T12:00:00Z&until=2026-01-01T18:00:00Z": PAGE + 1,
        "action=experiment_updated": PAGE + 1,
        "action=experiment_archived": 0,
        # Every second event is by this person, and no index has both the experiment and the person.
        "actor=1@example.org": 2 * PAGE + 2,
    }
    for query, at_most in queries.items():
        with reads_of(Event) as reads:
            assert browser.get(address(experiment, f"?{query}")).status_code == 200
        (page,) = (read for read in reads if "$sort" in read.stages)
        assert page.plan.startswith("IXSCAN"), query
        assert not page.sorts_in_memory, query
        assert page.documents <= at_most, query
    with reads_of(Event) as reads:
        assert len(table_of(browser.get(address(experiment, "?since=2026-01-02", "audit.csv")))) == 60
    assert [read.plan.startswith("IXSCAN { experiment_id: 1, created_at: -1") for read in reads] == [True] * len(reads)
    assert not any(read.sorts_in_memory for read in reads)


# The file.


def test_the_file_has_all_events_with_their_whole_values(
    browser: Client, manager: Caller, experiment: Experiment
) -> None:
    events(experiment, 2 * PAGE)
    long = f"=1+1 {'x' * 1_000}"
    events(experiment, 1, before={"name": "a"}, after={"name": long}, created_at=DAY + datetime.timedelta(days=1))
    rows = table_of(browser.get(address(experiment, page="audit.csv")))
    assert len(rows) == 2 * PAGE + 1
    assert rows[0] == {
        "id": rows[0]["id"],
        "created_at": "2026-01-02T00:00:00Z",
        "action": "experiment_updated",
        "actor": "0@example.org",
        "actor_id": str(uuid.UUID(int=0)),
        "way": "bearer",
        "address": "",
        "target_type": "experiment",
        "target_id": str(experiment.pk),
        "target": "wine quality",
        "before": '{"name": "a"}',
        "after": f'{{"name": "{long}"}}',
        "request_id": "",
    }


def test_a_download_is_recorded_with_its_filter(browser: Client, editor: Caller, experiment: Experiment) -> None:
    assert editor.user
    email = editor.user.email
    response = browser.get(address(experiment, f"?actor={email}&since=2026-01-01&action=", "audit.csv"))
    assert response.headers["Content-Disposition"] == 'attachment; filename="wine-quality-audit-trail.csv"'
    assert table_of(response) == []
    event = Event.objects.get(action="exported")
    assert event.experiment_id == experiment.pk
    recorded = {"file": "wine-quality-audit-trail.csv", "actor": email, "since": "2026-01-01T00:00:00Z"}
    assert event.after == recorded
    erase_from_events(editor.user.pk, email=email)
    event.refresh_from_db()
    assert event.after == {**recorded, "actor": "(erased)"}


@pytest.mark.parametrize(("role", "is_linked"), [("reader", False), ("editor", False), ("manager", True)])
def test_only_managers_find_a_link_to_the_trail(
    request: pytest.FixtureRequest, settings: Settings, experiment: Experiment, role: str, is_linked: bool
) -> None:
    visitor = through_session(request.getfixturevalue(role), settings).client
    page = visitor.get(f"/experiments/{experiment.pk}").content.decode()
    assert (f'href="{address(experiment)}"' in page) == is_linked
