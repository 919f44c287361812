"""The table of an experiment's runs: its contents, and its address, which determines all of them."""

import datetime
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from bs4 import BeautifulSoup
from django.utils.html import escape
from pytest_django import Settings

from drifts.models import Drift
from experiments.models import Experiment
from pages import run_filter
from tests.caller import Caller, Client
from tests.profiler import reads_of
from tests.session import through_session
from tests.test_observed_at import as_older_record

MODELS = ["forest", "boosting", "svm"]

# The links between pages, in words for the newest first and for other orders.
OLDER, NEWER, NEWEST = ("Older", "Next"), ("Newer", "Previous"), ("Newest", "First")


@pytest.fixture
def client(reader: Caller, settings: Settings) -> Client:
    """The reader's browser."""
    return through_session(reader, settings).client


@pytest.fixture
def runs(experiment: Experiment) -> list[Drift]:
    """60 runs, oldest first."""
    return [
        Drift.objects.create_in(
            experiment,
            job_status=["Completed", "Failed", "Running"][number % 3],
            model=MODELS[number % 3],
            drift_detected=number % 2 == 0,
            tags=[f"tag{number % 4}"],
            detector="ks" if number % 5 else None,
            parameters={"number": number, "nested": {"p_value": number / 100, "unit": "s"}},
        )
        for number in range(60)
    ]


class Shown:
    """A parsed page."""

    def __init__(self, response: Any) -> None:
        self.status = response.status_code
        self.text = response.content.decode()
        self.tree = BeautifulSoup(self.text, "html.parser")

    def all(self, selector: str, attribute: str) -> list[str]:
        """An attribute of every element that a CSS selector finds."""
        return [str(element[attribute]) for element in self.tree.select(selector)]

    def texts(self, selector: str) -> list[str]:
        return [" ".join(element.get_text().split()) for element in self.tree.select(selector)]

    @property
    def runs(self) -> list[str]:
        return [name.removeprefix("run-") for name in self.all("tbody tr", "id")]

    @property
    def alert(self) -> str:
        return " ".join(self.texts("[role=alert]"))

    def link(self, text: str | tuple[str, ...]) -> str:
        (address,) = {str(a["href"]) for a in self.tree.select("main a") if a.get_text().strip().startswith(text)}
        return address


def show(client: Client, experiment: Experiment, query: str = "") -> Shown:
    return Shown(client.get(f"/experiments/{experiment.pk}{query}"))


def ids(runs: list[Drift]) -> list[str]:
    return [str(run.pk) for run in runs]


def test_the_newest_runs_come_first_with_their_verdicts(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    shown = show(client, experiment, "?column=parameters.nested.p_value&column=parameters.other")
    assert shown.status == 200
    assert shown.runs == ids(runs[:-26:-1])
    cells = dict(zip(shown.texts("thead th"), shown.texts("tbody tr:first-child > *"), strict=True))
    expected = {
        "Verdict": "? Unknown",
        "Status": "Running",
        "Model": "svm",
        "nested.p_value": "0.59",
        "other": "",
        "Detector": "ks",
        "Tags": "tag3",
    }
    assert cells == cells | expected
    assert "60 runs" in shown.text


def test_pages_link_forwards_and_back_in_every_order(client: Client, experiment: Experiment, runs: list[Drift]) -> None:
    keys: dict[str, Callable[[Drift], Any]] = {"observed_at": lambda run: 0, "model": lambda run: run.model}
    for sort, key in keys.items():
        for direction in ("asc", "desc"):
            expected = sorted(runs, key=lambda run: (key(run), run.created_at, run.pk), reverse=direction == "desc")
            pages = [show(client, experiment, f"?sort_by={sort}&order_by={direction}")]
            pages.append(show(client, experiment, pages[0].link(OLDER)))
            pages.append(show(client, experiment, pages[1].link(OLDER)))
            assert [page.runs for page in pages] == [
                ids(expected[:25]),
                ids(expected[25:50]),
                ids(expected[50:]),
            ]
            assert 'rel="next"' not in pages[2].text
            back = show(client, experiment, pages[2].link(NEWER))
            assert back.runs == pages[1].runs
            first = show(client, experiment, back.link(NEWER))
            assert first.runs == pages[0].runs
            assert 'rel="prev"' not in first.text
            assert show(client, experiment, first.link(OLDER)).runs == pages[1].runs
            assert show(client, experiment, back.link(NEWEST)).runs == pages[0].runs


def test_every_link_keeps_the_filter_and_all_other_parameters(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    chosen = str(runs[3].pk)
    query = f"?where=parameters.number+lt+50&status=Completed&column=parameters.number&page_size=50&selected={chosen}"
    shown = show(client, experiment, query)
    assert shown.runs == [str(run.pk) for run in runs[::-1] if run.parameters["number"] % 3 == 0][3:]
    assert "17 runs" in shown.text
    parameters = set(parse_qsl(query[1:]))
    assert set(parse_qsl(urlsplit(shown.link("Model")).query)) == parameters | {("sort_by", "model")}
    assert set(parse_qsl(urlsplit(shown.link("Clear selection")).query)) == parameters - {("selected", chosen)}
    assert shown.all("form#view input[name=path]", "value") == ["parameters.number", ""]
    assert shown.all("form#view input[name=value]", "value") == ["50", ""]
    assert shown.texts("form#view option[selected]") == ["Completed", "less than", "Time", "Descending", "50"]
    assert shown.all("input[name=selected][checked]", "value") == [chosen]


@pytest.mark.parametrize("query", ["", "?verdict=unknown", "?sort_by=model&order_by=asc", "?model=m1&since=2026-01-01"])
def test_a_page_reads_about_as_many_documents_as_it_shows(client: Client, experiment: Experiment, query: str) -> None:
    runs = [{"job_status": "Failed", "model": f"m{number % 2}"} for number in range(1_000)]
    Drift.objects.create_all_in(experiment, runs)
    with reads_of(Drift) as reads:
        following = show(client, experiment, query).link(OLDER)
    with reads_of(Drift) as reads_after:
        assert len(show(client, experiment, following).runs) == 25
    pages = [read for read in (*reads, *reads_after) if "$set" in read.stages]
    assert len(pages) >= 2
    for page in pages:
        assert "IXSCAN" in page.plan
        # After a cursor, each range of the index returns up to one page, of which every second run may not match.
        assert page.documents <= 4 * 26


def test_a_run_that_is_selected_on_another_page_stays_selected(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    first, last = str(runs[0].pk), str(runs[-1].pk)
    shown = show(client, experiment, f"?selected={first}&selected={last}")
    assert shown.all("tbody input[name=selected][checked]", "value") == [last]
    assert shown.all("input[type=hidden][name=selected]", "value") == [first]
    assert shown.texts("[data-count]") == ["2"]


def test_stored_values_are_suggested(client: Client, experiment: Experiment, runs: list[Drift]) -> None:
    shown = show(client, experiment)

    def suggested(name: str) -> list[str]:
        return shown.all(f"datalist#suggested-{name} option", "value")

    assert suggested("model") == sorted(MODELS)
    assert suggested("tag") == ["tag0", "tag1", "tag2", "tag3"]
    assert suggested("detector") == ["ks"]
    fields, paths = ["created_at", "schema_version"], ["number", "nested.p_value", "nested.unit"]
    marks = ["unsupported", "overdue"]
    assert suggested("paths") == [*fields, *marks, *(f"parameters.{path}" for path in paths)]
    assert shown.texts("datalist#suggested-paths option") == [
        *("Reported", "Schema", "Unsupported", "Overdue", "number", "number", "text"),
    ]
    # The fields that can be columns have checkboxes, and the marks of a verdict are no columns.
    assert shown.all("#column", "list") == ["suggested-columns"]
    assert suggested("columns") == [f"parameters.{path}" for path in paths]


def test_a_name_that_no_path_can_hold_is_not_suggested(client: Client, experiment: Experiment) -> None:
    Drift.objects.create_in(
        experiment, job_status="Failed", model="m", parameters={"a.b": 1, "$c": 2, "": 3, "d": {"e f": 4}}
    )
    shown = show(client, experiment)
    assert shown.all("datalist#suggested-paths option", "value")[-3:] == [
        r"parameters.\$c",
        r"parameters.a\.b",
        "parameters.d.e f",
    ]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("sort_by=parameters", "Sort by: choose one of Time, Verdict, Status, Model, Reported, Schema."),
        ("order_by=up", "Order: choose one of Descending, Ascending."),
        ("page_size=1000", "Runs per page: choose one of 25, 50, 100."),
        ("page_size=x", "Runs per page: choose one of 25, 50, 100."),
        ("cursor=abc", "This page of runs is no longer available. Go to the newest runs."),
        ("before=%00", "This page of runs is no longer available. Go to the newest runs."),
        ("column=model", "Columns: 'model' is not a parameter. Write one such as parameters.p_value."),
        ("column=parameters.", "'parameters.' is not a parameter. Write names separated by single dots"),
        ("column=parameters..x", "'parameters..x' is not a parameter. Write names separated by single dots"),
        ("column=parameters.$where", "'parameters.$where' is not a parameter. Write names separated by single dots"),
        ("column=parameters." + "a" * 250, "250 characters at most."),
        ("column=parameters.%00", "A string must not hold the character NUL"),
        ("selected=7", "Selection: '7' is not the id of a run."),
        ("where=p+lt+3", "Fix the marked filters."),
        ("verdict=perhaps", "Fix the marked filters."),
    ],
)
def test_an_error_in_the_address_is_reported_and_the_form_is_intact(
    client: Client, experiment: Experiment, drift: Drift, query: str, sentence: str
) -> None:
    shown = show(client, experiment, f"?model=forest&{query}")
    assert shown.status == 422
    assert sentence in shown.alert
    assert shown.runs == []
    assert "runs match" not in shown.text
    assert shown.all("input[name=model]", "value") == ["forest"]


def test_a_refused_column_is_shown_where_it_was_typed(client: Client, experiment: Experiment, drift: Drift) -> None:
    shown = show(client, experiment, "?column=parameters.p&column=parameters.$amount")
    assert shown.all("#column", "value") == ["parameters.$amount"]
    assert shown.all("input[name=column][checked]", "value") == ["parameters.p"]
    assert shown.all("details[open] #column", "name") == ["column"]


def test_a_cursor_of_another_filter_is_refused(client: Client, experiment: Experiment, runs: list[Drift]) -> None:
    following = show(client, experiment).link(OLDER)
    shown = show(client, experiment, f"{following}&status=Failed")
    assert shown.status == 422
    assert "This page of runs is no longer available. Go to the newest runs." in shown.alert
    assert show(client, experiment, f"?{urlsplit(following).query}").status == 200


def test_a_filter_can_be_cleared_without_the_sort_and_the_columns(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    kept = f"sort_by=model&page_size=50&column=parameters.number&selected={runs[0].pk}"
    assert "Clear filters" not in show(client, experiment, f"?{kept}").text
    shown = show(client, experiment, f"?model=forest&patient=1&{kept}")
    assert parse_qsl(shown.link("Clear filters")[1:]) == parse_qsl(kept)
    assert shown.texts("h2")[0] == "20 runs match"
    assert show(client, experiment, f"?where=parameters.number eq 3&{kept}").texts("h2")[0] == "1 run matches"


def test_the_filter_names_the_time_that_a_longer_search_may_take(
    client: Client, experiment: Experiment, settings: Settings
) -> None:
    settings.SEARCH_TIME_LIMIT = 2.5
    shown = show(client, experiment, "?patient=1")
    assert "Search longer (up to 2.5 s)" in shown.text
    assert shown.texts(".filter-parts a") == ["Remove filter Search longer"]


def test_selecting_too_many_runs_is_reported(client: Client, experiment: Experiment, runs: list[Drift]) -> None:
    shown = show(client, experiment, "?" + "&".join(f"selected={run.pk}" for run in runs[:21]))
    assert "At most 20 runs can be selected" in shown.alert
    assert shown.texts("[data-count]") == ["20"]


def test_stored_values_are_escaped(client: Client, experiment: Experiment) -> None:
    bad = "<script>alert(1)</script>"
    Drift.objects.create_in(
        experiment, job_status="Failed", model=bad, detector=bad, tags=["<b>"], parameters={bad: bad}
    )
    shown = show(client, experiment, f"?column=parameters.{bad}&model={bad}")
    assert shown.runs
    assert bad not in shown.text
    assert escape(bad) in shown.text


def test_a_slow_filter_is_refused_soon_unless_the_user_chooses_to_wait(
    client: Client, experiment: Experiment, drift: Drift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_filter, "SOON", 1e-6)
    soon = show(client, experiment, "?where=parameters.p_value exists")
    assert soon.status == 422
    assert "longer than 1e-06 s" in soon.alert
    assert "or choose “Search longer” in the filter" in soon.alert
    assert soon.tree.select("details[open] input[name=patient]:not([checked])")
    patient = show(client, experiment, "?where=parameters.p_value exists&patient=1")
    assert patient.runs == [str(drift.pk)]
    assert patient.tree.select("input[name=patient][checked]")


def test_the_page_of_an_experiment_without_runs_says_so(client: Client, experiment: Experiment) -> None:
    assert "No runs yet" in show(client, experiment).text
    assert "No runs match." in show(client, experiment, "?model=x").text


def test_running_runs_are_updated_by_one_conditional_request(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    shown = show(client, experiment, "?column=parameters.number")
    running = shown.all("[data-running]", "data-running")
    assert len(running) == 9
    (address,) = shown.all("[data-live]", "data-live")
    address += "".join(f"&id={pk}" for pk in running)
    fragment = client.get(address)
    assert Shown(fragment).runs == [pk for pk in shown.runs if pk.replace("-", "") in running]
    assert Shown(fragment).tree.select("tr") == shown.tree.select("tr[data-running]")
    conditional: Any = {"HTTP_IF_NONE_MATCH": fragment["ETag"]}
    assert client.get(address, **conditional).status_code == 304
    Drift.objects.get(pk=running[0]).update(job_status="Completed", drift_detected=True)
    again = client.get(address, **conditional)
    assert again.status_code == 200
    assert len(Shown(again).tree.select("[data-running]")) == 8


def test_only_runs_of_the_experiment_are_updated(client: Client, experiment: Experiment, manager: Caller) -> None:
    other = Experiment.objects.create(name="secret")
    secret = Drift.objects.create_in(other, job_status="Running", model="secret")
    response = client.get(f"/experiments/{experiment.pk}/running?id={secret.pk}")
    assert response.status_code == 200
    assert "secret" not in response.content.decode()
    assert client.get(f"/experiments/{experiment.pk}/running?id=x").status_code == 422
    many = "&".join(f"id={number:032x}" for number in range(101))
    assert client.get(f"/experiments/{experiment.pk}/running?{many}").status_code == 422


def test_each_part_of_a_filter_can_be_removed(client: Client, experiment: Experiment, runs: list[Drift]) -> None:
    shown = show(
        client, experiment, "?model=forest&where=parameters.number+lt+30&sort_by=model&column=parameters.number"
    )
    assert shown.texts(".filter-parts a") == [
        "Remove filter Model: forest",
        "Remove filter parameters.number less than 30",
    ]
    of_any_model, of_any_number = shown.all(".filter-parts a", "href")
    assert dict(parse_qsl(of_any_model[1:])) == {
        "where": "parameters.number lt 30",
        "sort_by": "model",
        "column": "parameters.number",
    }
    assert len(show(client, experiment, of_any_model).runs) == 25
    assert set(show(client, experiment, of_any_number).texts("tbody td:nth-child(5)")) == {"forest"}


# The time of runs, which were reported in another order. Runs of schema 1.0.0 have only the time of their report.

FIRST = datetime.datetime(2026, 1, 1, 6, tzinfo=datetime.UTC)
DAYS = [3, 0, 9, 6, 1, 8, 2, 7, 5, 4] * 6


@pytest.fixture
def mixed(experiment: Experiment) -> list[Drift]:
    """60 runs of ten days, the oldest first. Runs of every third day are of schema 1.0.0."""
    for day in DAYS:
        time = FIRST + datetime.timedelta(days=day)
        fields = {"job_status": "Failed", "model": MODELS[day % 3], "parameters": {"day": day}}
        run = Drift.objects.create_in(experiment, **fields, observed_at=time)
        if day % 3 == 0:
            as_older_record(str(run.pk), time)
    return sorted(Drift.objects.of(experiment), key=lambda run: (run.observed_at, run.pk))


def walk(client: Client, experiment: Experiment, query: str, direction: tuple[str, ...]) -> Iterator[Shown]:
    """The page at a query, and all that follow it in a direction."""
    page = show(client, experiment, query)
    while True:
        yield page
        if not any(text.startswith(direction) for text in page.texts("nav.pager a")):
            return
        page = show(client, experiment, page.link(direction))


@pytest.mark.parametrize(
    ("order_by", "query"),
    [("desc", ""), ("asc", "&status=Failed"), ("desc", "&since=2026-01-03&until=2026-01-09")],
)
def test_pages_are_in_the_order_of_the_time_both_ways(
    client: Client, experiment: Experiment, mixed: list[Drift], order_by: str, query: str
) -> None:
    wanted = [run for run in mixed if "since" not in query or 2 <= run.parameters["day"] < 8]
    expected = ids(wanted if order_by == "asc" else wanted[::-1])
    forwards = list(walk(client, experiment, f"?order_by={order_by}{query}", OLDER))
    assert [pk for page in forwards for pk in page.runs] == expected
    last = "?" + urlsplit(forwards[-2].link(OLDER)).query
    backwards = list(walk(client, experiment, last, NEWER))
    assert [pk for page in backwards[::-1] for pk in page.runs] == expected


def test_the_table_shows_and_sorts_by_the_time_and_by_the_time_of_reports(
    client: Client, experiment: Experiment, mixed: list[Drift]
) -> None:
    reported = sorted(mixed, key=lambda run: (run.created_at, run.pk), reverse=True)
    shown = show(client, experiment, "?sort_by=created_at&column=created_at&page_size=100")
    assert shown.runs == ids(reported)
    assert shown.texts("tbody th") == [f"{run.observed_at:%Y-%m-%d %H:%M:%S}" for run in reported]
    assert shown.texts("tbody td:nth-child(6)") == [f"{run.created_at:%Y-%m-%d %H:%M:%S}" for run in reported]
    assert shown.texts("thead th[aria-sort]") == ["Reported (UTC) ↓"]
    assert show(client, experiment, shown.link("Time (UTC)") + "&page_size=100").runs == ids(mixed[::-1])


# Columns of fields.


def test_a_column_can_be_typed_by_its_label(client: Client, experiment: Experiment, drift: Drift) -> None:
    shown = show(client, experiment, "?column=p_value&column= Sample SIZE &column=P-value")
    assert shown.all("input[name=column][checked]", "value") == ["p_value", "sample_size"]


def test_fields_can_be_chosen_as_columns_like_parameters(client: Client, experiment: Experiment) -> None:
    note = "two\nlines " + "x" * 100
    measured = {"p_value": 0.123456789, "threshold": 0.05, "sample_size": 5_000, "note": note}
    window = {"window_start": FIRST, "window_end": FIRST + datetime.timedelta(days=1)}
    run = {"job_status": "Running", "model": "forest", "feature": "age", "parameters": {"a": 1, "b": 2}}
    Drift.objects.create_in(experiment, **run)
    Drift.objects.create_in(experiment, **run, **measured, **window)
    columns = ["p_value", "parameters.b", "sample_size", "window_end", "note", "parameters.a"]
    shown = show(client, experiment, "?" + "&".join(f"column={column}" for column in columns))
    headings = shown.texts("thead th")
    assert headings[5:11] == ["p-value", "b", "Sample size", "Window end (UTC)", "Note", "a"]
    first, second = ([cell.get_text() for cell in row.select("td, th")] for row in shown.tree.select("tbody tr"))
    assert first[5:11] == ["0.123457", "2", "5000", "2026-01-02 06:00:00", note[:79] + "…", "1"]
    assert second[5:11] == ["", "2", "", "", "", "1"]
    assert dict(zip(headings, first, strict=True))["Feature"] == "age"
    assert shown.texts("thead th.number") == ["p-value", "b", "Sample size", "a"]
    assert {"0.123457", "5000"} <= set(shown.texts("td.number"))
    assert "0.123456789" in shown.all("td[title]", "title")
    assert shown.all("input[name=column][checked]", "value") == columns
    labels = shown.texts("fieldset.columns label")
    assert labels[: len(columns)] == ["p-value", "parameters.b", "Sample size", "Window end", "Note", "parameters.a"]
    assert {"Threshold", "Window start"} <= set(labels)
    assert "Statistic" not in labels
    (live,) = shown.all("[data-live]", "data-live")
    rows = Shown(client.get(live + "".join(f"&id={pk}" for pk in shown.runs)))
    assert rows.tree.select("tr") == shown.tree.select("tbody tr")


def test_a_run_that_measured_nothing_is_marked_beside_its_verdict(client: Client, experiment: Experiment) -> None:
    run = {"job_status": "Completed", "model": "forest", "drift_detected": False}
    for number in ({}, {"p_value": 0.0}, {"sample_size": 0}):
        Drift.objects.create_in(experiment, **run, **number)
    for other in ({"parameters": {"a": None}}, {"drift_detected": True}, {"job_status": "Failed"}):
        Drift.objects.create_in(experiment, **{**run, **other})
    shown = show(client, experiment)
    marked = "● No drift Unsupported. Nothing was measured: "
    verdicts = shown.texts("tbody td:nth-child(3)")
    assert [verdict.startswith(marked) for verdict in verdicts] == [False] * 5 + [True]
    assert verdicts[:5] == ["? Unknown", "▲ Drift", "● No drift", "● No drift", "● No drift"]
    assert show(client, experiment, "?where=unsupported eq true&verdict=no_drift").runs == shown.runs[-1:]
