"""Large objects: searches, pages and the portal read and show a bounded part, and say so."""

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from pytest_django import Settings

from audit.models import EventQuerySet
from core.mongodb import querysets
from core.mongodb.documents import aggregate_within, mongodb
from drifts import models, parameters
from drifts.exports import as_csv, as_json
from drifts.models import Drift, DriftQuerySet
from experiments.models import Experiment
from pages import comparison
from tests.caller import Caller
from tests.profiler import commands
from tests.session import through_session
from tests.test_cursors import following, ids, links, pagination
from tests.test_experiment_pages import filled
from tests.test_observed_at import as_older_record

# The runs of these tests are small, and so are the bounds.
ROOM = 5_000
LARGE = {"histogram": [0.5] * 150}
SMALL = {"p_value": 0.5}


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (querysets, models):
        monkeypatch.setattr(module, "MAX_PAGE_BYTES", ROOM)


def add(experiment: Experiment, *runs: dict[str, Any]) -> list[Drift]:
    run = {"job_status": "Completed", "model": "forest", "drift_detected": True}
    return [Drift.objects.create_in(experiment, **run, parameters=each) for each in runs]


def newest_first(runs: list[Drift]) -> list[str]:
    return [str(run.pk) for run in runs[::-1]]


def path_of(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}/drift/search"


# Pages of searches.


@pytest.mark.parametrize(
    "query",
    ["page_size=10", "page_size=10&sort_by=model", "page_size=10&sort_by=observed_at", "page_size=10&order_by=asc"],
)
@pytest.mark.parametrize("sizes", [[LARGE] * 12, [LARGE, SMALL] * 6, [SMALL] * 6 + [LARGE] * 6])
def test_cursors_reach_every_run_once_where_pages_end_early(
    room: None, anonymous: Caller, public: Experiment, query: str, sizes: list[Any]
) -> None:
    runs = newest_first(add(public, *sizes))
    first = anonymous.post(f"{path_of(public)}?{query}", {})
    pages = [first, *following(anonymous, path_of(public), query, first)]
    seen = [run for page in pages for run in ids(page)]
    assert seen == (runs[::-1] if "asc" in query else runs)
    assert len(pages) > 2
    for page in pages:
        assert pagination(page)["total"] == 12
        assert len(page.content) < 2 * ROOM


@pytest.mark.parametrize("sort_by", ["observed_at", "schema_version"])
def test_a_page_of_runs_of_two_versions_has_no_more_room(
    room: None, anonymous: Caller, public: Experiment, sort_by: str
) -> None:
    """Two large runs fit on a page. The third one has a run of each version."""
    runs = add(public, *[LARGE] * 12)
    for run in runs[:7]:
        as_older_record(str(run.pk))
    query = f"page_size=10&sort_by={sort_by}"
    first = anonymous.post(f"{path_of(public)}?{query}", {})
    pages = [first, *following(anonymous, path_of(public), query, first)]
    assert [run for page in pages for run in ids(page)] == newest_first(runs)
    assert [len(ids(page)) for page in pages] == [2] * 6


def test_a_page_that_ends_early_says_so_and_continues_by_cursor_only(
    room: None, anonymous: Caller, public: Experiment
) -> None:
    add(public, *[LARGE] * 12)
    page = anonymous.post(f"{path_of(public)}?page_size=10", {})
    header = pagination(page)
    assert 1 < len(ids(page)) < 10
    assert header["truncated"] is True
    assert "next_page" not in header
    assert f"cursor={header['next_cursor']}" in links(page)["next"]


def test_a_whole_page_does_not_say_that_it_ended_early(room: None, anonymous: Caller, public: Experiment) -> None:
    """The run after the page, which tells that there is a next page, needs no room on it."""
    add(public, LARGE, LARGE, SMALL, LARGE, SMALL)
    header = pagination(anonymous.post(f"{path_of(public)}?page_size=3", {}))
    assert "truncated" not in header
    assert header["next_page"] == 2
    assert "truncated" not in pagination(anonymous.post(f"{path_of(public)}?page_size=2&page=2", {}))


def test_the_page_of_a_number_begins_at_its_place(room: None, anonymous: Caller, public: Experiment) -> None:
    runs = newest_first(add(public, *[SMALL] * 4, *[LARGE] * 8))
    assert ids(anonymous.post(f"{path_of(public)}?page_size=8&page=2", {})) == runs[8:]


def test_a_run_larger_than_a_page_is_shown_alone(room: None, anonymous: Caller, public: Experiment) -> None:
    runs = newest_first(add(public, SMALL, {"histogram": [0.5] * 1_000}, SMALL))
    first = anonymous.post(path_of(public), {})
    pages = [first, *following(anonymous, path_of(public), "", first)]
    assert [ids(page) for page in pages] == [[runs[0]], [runs[1]], [runs[2]]]


@pytest.mark.parametrize("path", ["/drift/search", "/experiment/search", "/experiment/{}/audit/search"])
def test_every_search_has_the_bound(room: None, manager: Caller, experiment: Experiment, path: str) -> None:
    long = "x" * 3_000
    add(experiment, *[LARGE] * 12)
    for number in range(3):
        manager.post("/experiment", {"name": f"a{number}", "config": {"a": long}})
        manager.patch(f"/experiment/{experiment.pk}", {"description": f"{number}{long}"})
    page = manager.post(path.format(experiment.pk), {})
    assert pagination(page)["truncated"] is True
    assert len(page.content) < 2 * ROOM


def test_the_room_of_a_page_keeps_ten_runs_of_half_a_megabyte_together(anonymous: Caller, public: Experiment) -> None:
    histograms = {f"f{number}": [round(0.1 + number / 7_000, 6)] * 500 for number in range(105)}
    assert 500_000 < len(json.dumps(histograms)) < 600_000
    add(public, *[histograms] * 11)
    page = anonymous.post(path_of(public), {})
    assert len(ids(page)) == 10
    assert pagination(page)["next_page"] == 2


def test_only_the_runs_on_the_page_are_decoded(anonymous: Caller, public: Experiment) -> None:
    """Runs of 600,000 empty objects, from before the bound of values."""
    for run in add(public, SMALL, SMALL):
        of_run = {"_id": run.pk.hex}
        mongodb().database[Drift._meta.db_table].update_one(of_run, {"$set": {"parameters.a": [{}] * 600_000}})
    page = anonymous.post(path_of(public), {})
    assert len(ids(page)) == 1
    assert pagination(page)["truncated"] is True


# Pages for people.


SHAPES: dict[str, Callable[[], Any]] = {
    "pairs": lambda: [[0.1, 0.2]] * 130_000,
    "objects": lambda: [{"x": 1, "y": 2, "z": 3}] * 60_000,
    "empty": lambda: [[]] * 490_000,
    "text": lambda: "<" * 600_000,
    "names": lambda: {f"{'<' * 1_000}{number}": number for number in range(600)},
    "deep": lambda: {f"k{number}": nested(46) for number in range(700)},
}


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_page_of_a_large_run_is_small(client: Client, public: Experiment, shape: str) -> None:
    """The runs of the API's largest requests, beside each other, with their columns and comparison."""
    runs = add(public, {shape: SHAPES[shape]()}, SMALL)
    base = f"/experiments/{public.pk}"
    for page in (f"{base}/runs/{runs[0].pk}", f"{base}/runs/{runs[0].pk}/state"):
        shown = client.get(page)
        assert "Too large to show." in shown.content.decode()
        assert len(shown.content) < 20_000
    beside = client.get(f"{base}/runs/{runs[1].pk}").content.decode()
    assert "<dt>p_value</dt><dd>0.5</dd>" in beside
    selected = "&".join(f"selected={run.pk}" for run in runs)
    for page in (f"{base}?column=parameters.{shape}", f"{base}/compare?{selected}", f"{base}/running?id={runs[0].pk}"):
        assert len(client.get(page).content) < 1_000_000


def test_parameters_that_are_too_large_to_show_are_not_read(public: Experiment) -> None:
    large, small = add(public, {"text": "x" * parameters.MAX_BYTES}, SMALL)
    shown = [Drift.objects.one_to_show(public, run.pk) for run in (large, small)]
    assert [run and run.parameters for run in shown] == [None, SMALL]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The documents that pages decode."""
    found: list[dict[str, Any]] = []

    def recorded(*args: Any, **options: Any) -> Any:
        documents, is_cut = aggregate_within(*args, **options)
        found.extend(documents)
        return documents, is_cut

    monkeypatch.setattr(querysets, "aggregate_within", recorded)
    return found


@pytest.mark.parametrize("query", ["", "?column=parameters.p_value", "?sort_by=model", "?order_by=asc&page_size=50"])
def test_the_table_reads_the_columns_that_it_shows(
    client: Client, public: Experiment, query: str, decoded: list[dict[str, Any]]
) -> None:
    add(public, *[LARGE | SMALL] * 3)
    page = client.get(f"/experiments/{public.pk}{query}").content.decode()
    assert page.count("<tr id=") == 3
    assert page.count('<td class="number">0.5</td>') == (3 if "column" in query else 0)
    shown = [run for run in decoded if "cells" in run]
    assert len(shown) == 3
    assert all("parameters" not in run for run in shown)


def test_the_links_to_other_runs_read_their_names(
    client: Client, public: Experiment, decoded: list[dict[str, Any]]
) -> None:
    run = add(public, LARGE, SMALL, LARGE)[1]
    assert client.get(f"/experiments/{public.pk}/runs/{run.pk}").content.decode().count(": forest, ") == 2
    assert [document.keys() for document in decoded] == [{"_id", "observed_at", "model"}] * 2


def cells(client: Client, experiment: Experiment, *paths: str) -> list[str]:
    columns = "&".join(f"column=parameters.{path}" for path in paths)
    page = client.get(f"/experiments/{experiment.pk}?{columns}").content.decode()
    row = page[page.index("<tbody>") : page.index("</tbody>")]
    return re.findall(r'<td class="(?:number|text)"[^>]*>(.*?)</td>', row)[1 : 1 + len(paths)]


def test_a_cell_shows_a_value_or_the_reason_why_not(client: Client, public: Experiment) -> None:
    add(
        public,
        {
            "number": 0.25,
            "null": None,
            "truth": False,
            "list": [1, {"a": [2]}],
            "reference": {"$ref": "a", "$id": 1},
            "long": "x" * 5_000,
            "large": [[]] * 2_000,
            "object": {"0": "zero"},
        },
    )
    paths = ("number", "null", "truth", "list.1.a.0", "reference", "long", "large", "object.0", "missing", "list.7")
    assert cells(client, public, *paths[:5]) == [
        "0.25",
        "null",
        "false",
        "2",
        "{&quot;$ref&quot;: &quot;a&quot;, &quot;$id&quot;: 1}",
    ]
    long, *others = cells(client, public, *paths[5:])
    assert long == "x" * 79 + "…"
    assert others == ["Too large to show", "zero", "", ""]


def compared(client: Client, experiment: Experiment, runs: list[Drift], query: str = "") -> Any:
    selected = "&".join(f"selected={run.pk}" for run in runs)
    return client.get(f"/experiments/{experiment.pk}/compare?{selected}{query}")


def test_the_comparison_leaves_out_parameters_of_more_bytes_than_a_page(
    room: None, client: Client, public: Experiment
) -> None:
    runs = add(public, LARGE, LARGE, {**LARGE, "a": 1})
    page = compared(client, public, runs, "&all=1").content.decode()
    assert comparison.TOO_MANY in page
    assert "<h1>Compare 3 runs</h1>" in page
    assert "parameters." not in page
    assert "forest" in page
    refused = compared(client, public, runs, "&format=csv")
    assert refused.status_code == 422
    assert comparison.TOO_MANY in refused.content.decode()


def test_the_comparison_leaves_out_too_many_parameters(
    client: Client, public: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "MAX_VALUES", 20)
    few = add(public, {f"a{number}": 1 for number in range(5)}, {f"a{number}": 2 for number in range(10)})
    assert comparison.TOO_MANY not in compared(client, public, few).content.decode()
    many = add(public, {f"b{number}": 1 for number in range(5)}, {f"c{number}": 2 for number in range(6)})
    page = compared(client, public, many).content.decode()
    assert comparison.TOO_MANY in page
    assert page.count(">Remove</a>") == 2, "also without a difference to show"
    assert compared(client, public, few, "&format=csv").status_code == 200


def test_the_comparison_shows_lines_up_to_a_number_of_characters(
    client: Client, public: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "MAX_TEXT", 3_000)
    runs = add(public, *({f"a{number}": f"{run}{'x' * 500}" for number in range(10)} for run in "pq"))
    page = compared(client, public, runs).content.decode()
    assert page.count('<th scope="row">parameters.') == 2
    assert "8 more values are in the CSV." in page


def test_a_tree_counts_the_characters_of_names_and_texts() -> None:
    assert parameters.tree({"a": "x" * (parameters.MAX_TEXT - 100)}) is not None
    assert parameters.tree({"a": "x" * parameters.MAX_TEXT}) is None
    assert parameters.tree({"x" * parameters.MAX_TEXT: 1}) is None
    assert parameters.tree({"a": "<" * (parameters.MAX_TEXT // 4)}) is None


def test_the_list_of_experiments_reads_no_configuration(
    client: Client, public: Experiment, decoded: list[dict[str, Any]]
) -> None:
    Experiment.objects.filter(pk=public.pk).update(config={"a": [1]}, description="d" * 200)
    page = client.get("/experiments").content.decode()
    assert "d" * 159 + "…" in page
    assert [document.keys() & {"config", "permissions"} for document in decoded] == [set()]
    assert len(decoded[0]["description"]) == 161


# The admin portal.


@pytest.fixture
def browser(admin: Caller, settings: Settings) -> Client:
    return through_session(admin, settings).client


def deferred(changelist: Any) -> list[set[str]]:
    return [instance.get_deferred_fields() for instance in changelist.context["cl"].result_list]


def test_the_lists_of_the_portal_leave_out_large_fields(browser: Client, manager: Caller, drift: Drift) -> None:
    manager.patch(f"/experiment/{drift.experiment_id}", {"description": "new"})
    runs = browser.get("/admin/drifts/drift/")
    assert deferred(runs) == [{"parameters"}]
    assert [run.experiment.get_deferred_fields() for run in runs.context["cl"].result_list] == [
        {"config", "description"}
    ]
    assert deferred(browser.get("/admin/experiments/experiment/")) == [{"config", "description"}]
    events = browser.get("/admin/audit/event/")
    assert deferred(events)[0] == {"before", "after"}
    assert '<td class="field-changed_fields">description</td>' in events.content.decode()


def test_the_list_of_events_shows_an_event_that_expires_while_it_is_read(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventQuerySet, "changed_fields", lambda self, ids: {})
    assert browser.get("/admin/audit/event/").status_code == 200


def test_the_form_of_a_large_run_in_the_portal_is_small(browser: Client, experiment: Experiment) -> None:
    (run,) = add(experiment, {"objects": SHAPES["objects"]()})
    page = browser.get(f"/admin/drifts/drift/{run.pk}/change/")
    assert "Too large to show. Export the run instead." in page.content.decode()
    assert len(page.content) < 100_000


def test_an_export_has_the_parameters(browser: Client, drift: Drift) -> None:
    chosen = {"action": "export_as_csv", "_selected_action": [str(drift.pk)]}
    rows = csv.DictReader(io.StringIO(browser.post("/admin/drifts/drift/", chosen).getvalue().decode()))
    assert [row["parameters.p_value"] for row in rows] == ["0.003"]


@pytest.mark.parametrize("export", [as_json, as_csv])
def test_an_export_has_few_runs_in_memory(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, export: Callable[[DriftQuerySet], Any]
) -> None:
    sizes: list[int] = []
    iterator = DriftQuerySet.iterator

    def recorded(runs: Any, chunk_size: int) -> Any:
        sizes.append(chunk_size)
        return iterator(runs, chunk_size)

    monkeypatch.setattr(DriftQuerySet, "iterator", recorded)
    add(experiment, *[SMALL] * 25)
    assert export(Drift.objects.all()).getvalue().count(b"Completed") == 25
    assert max(sizes) <= 10


def test_an_event_shows_the_beginning_of_a_long_value(browser: Client, manager: Caller, experiment: Experiment) -> None:
    entries = [{"entity": f"urn:group:{number}", "level": "Read"} for number in range(900)]
    manager.patch(f"/experiment/{experiment.pk}", {"permissions": entries})
    shown = browser.get("/admin/audit/event/").context["cl"].result_list[0]
    page = browser.get(f"/admin/audit/event/{shown.pk}/change/")
    assert "(The first 20,000 of " in page.content.decode()
    assert len(page.content) < 200_000


# Forms.


@pytest.fixture
def configured(experiment: Experiment) -> Experiment:
    Experiment.objects.filter(pk=experiment.pk).update(config={"a": [[]] * 100_000})
    return experiment


def test_a_form_leaves_a_large_configuration_as_it_is(
    manager: Caller, configured: Experiment, settings: Settings
) -> None:
    browser = through_session(manager, settings).client
    address = f"/experiments/{configured.pk}/edit"
    encoded = "application/x-www-form-urlencoded"
    page = browser.get(address).content.decode()
    assert "Configuration (JSON): too large to edit here. Change it with the API." in page
    assert len(page) < 20_000
    form = {**filled(browser, address.removesuffix("/edit")), "name": "renamed"}
    assert "config" not in form
    assert browser.post(address, urlencode(form, doseq=True), content_type=encoded).status_code == 302
    configured.refresh_from_db()
    assert (configured.name, len(configured.config["a"])) == ("renamed", 100_000)


def test_the_form_of_the_portal_leaves_a_large_configuration_as_it_is(browser: Client, configured: Experiment) -> None:
    address = f"/admin/experiments/experiment/{configured.pk}/change/"
    shown = browser.get(address)
    assert "Too large to edit here. Change it with the API." in shown.content.decode()
    assert len(shown.content) < 200_000
    rows = shown.context["adminform"].form["permissions"].formset
    form = {row.add_prefix(name): row[name].value() or "" for row in rows for name in ("entity", "level")}
    form |= {field.html_name: field.value() for field in rows.management_form}
    form |= {"name": "renamed", "_version": shown.context["adminform"].form.version}
    assert browser.post(address, form).status_code == 302
    configured.refresh_from_db()
    assert (configured.name, len(configured.config["a"])) == ("renamed", 100_000)


@pytest.mark.parametrize("address", ["/experiments/{}", "/experiments/{}/chart", "/account/tokens", "/experiments"])
def test_pages_do_not_read_configurations(
    manager: Caller, experiment: Experiment, settings: Settings, address: str
) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(config={"a": "x" * 100_000})
    browser = through_session(manager, settings).client
    with commands() as entries:
        assert browser.get(address.format(experiment.pk)).status_code == 200
    assert max(entry["responseLength"] for entry in entries) < 50_000
