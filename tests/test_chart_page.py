"""The chart of an experiment: each address is drawn, or the page says why it cannot be."""

import csv
import datetime
import io
import re
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from pytest_django import Settings

from core.mongodb.documents import collection_of
from drifts.models import Drift
from experiments.models import Experiment
from pages import run_filter
from pages.plots import points
from pages.plots.scales import UTC
from tests.caller import Caller
from tests.profiler import reads_of
from tests.session import through_session

SVG = "{http://www.w3.org/2000/svg}"


class Reader:
    """A user who opens the charts of an experiment."""

    def __init__(self, caller: Caller, settings: Settings, experiment: Experiment) -> None:
        self.client = through_session(caller, settings).client
        self.path = f"/experiments/{experiment.pk}"

    def get(self, page: str = "chart", query: str = "", **parameters: Any) -> Any:
        return self.client.get(f"{self.path}/{page}?{query or urlencode(parameters, doseq=True)}")

    def page(self, **parameters: Any) -> str:
        response = self.get(**parameters)
        assert response.status_code == 200, response.content.decode()
        return response.content.decode()


@pytest.fixture
def reading(reader: Caller, settings: Settings, experiment: Experiment) -> Reader:
    return Reader(reader, settings, experiment)


@pytest.fixture
def runs(experiment: Experiment) -> list[Drift]:
    """Ten runs on a power law; then one without the parameter, one with a text, one with a zero, and one that is
    Running.
    """
    parameters: list[dict[str, Any]] = [{"a": float(n), "b": {"c": 2.1 * n**0.5}} for n in range(1, 11)]
    parameters += [{"b": {"c": 1}}, {"a": "high", "b": {"c": 1}}, {"a": 0, "b": {"c": 1}}]
    return [
        Drift.objects.create_in(
            experiment,
            model="forest",
            job_status="Completed",
            drift_detected=n % 2 == 0,
            parameters=each,
        )
        for n, each in enumerate(parameters)
    ]


def test_the_default_chart_shows_the_number_of_runs(reading: Reader, runs: list[Drift]) -> None:
    page = reading.page()
    assert "Number of runs by Time (UTC)" in page
    assert "<strong>13</strong> runs" in page
    assert "13 runs: 7 drift, 6 no drift, 0 unknown" in page


def test_the_form_draws_automatically_until_a_kind_is_chosen(reading: Reader, runs: list[Drift]) -> None:
    choices: list[dict[str, str]] = [{}, {"kind": "scatter"}]
    for chosen in choices:
        control = reading.page(y="parameters.p", **chosen).partition('id="chart-kind"')[2].partition("</select>")[0]
        assert ('value="scatter" selected' in control, "selected" in control) == (bool(chosen), bool(chosen))


def test_the_axes_suggest_the_parameters_that_hold_numbers(
    reading: Reader, runs: list[Drift], experiment: Experiment
) -> None:
    Drift.objects.create_in(experiment, job_status="Failed", model="forest", parameters={"error": "no data"})
    suggestions = reading.page().partition('id="chart-paths"')[2].partition("</datalist>")[0]
    suggested = re.findall('value="([^"]+)"', suggestions)
    assert suggested == ["Time", "Number of runs", "Reported", "parameters.a", "parameters.b.c"]
    Drift.objects.create_in(experiment, job_status="Completed", model="forest", p_value=0.5)
    assert '<option value="p-value">' in reading.page()


@pytest.mark.parametrize(("x", "y"), [("Time", "Number of runs"), ("time", "number of runs"), ("observed_at", "count")])
def test_an_axis_is_named_as_on_the_page_or_as_in_the_api(reading: Reader, runs: list[Drift], x: str, y: str) -> None:
    page = reading.page(x=x, y=y)
    assert "Number of runs by Time (UTC)" in page
    assert 'name="x" value="Time"' in page
    assert 'name="y" value="Number of runs"' in page


def test_a_chart_of_selected_runs_that_are_gone_leads_to_the_selection(reading: Reader, runs: list[Drift]) -> None:
    for selected in ({"selected": "00000000-0000-4000-8000-000000000000"}, {}):
        assert "No selected runs to draw." in reading.page(only_selected="1", **selected)


def test_a_file_of_a_wrong_filter_names_the_control(reading: Reader, runs: list[Drift]) -> None:
    response = reading.get("chart.csv", until="yesterday")
    assert response.status_code == 422
    assert "Before: Write a time in UTC" in response.content.decode()


def test_two_parameters_are_drawn_and_runs_left_out_are_listed_with_the_reason(
    reading: Reader, runs: list[Drift]
) -> None:
    page = reading.page(x="parameters.a", y="parameters.b.c", x_scale="log", y_scale="log", fit=1)
    assert "<strong>10</strong> runs" in page
    for reason in ("has no value", "is a text", "is not above 0, as a log scale needs"):
        assert f"1 run: parameters.a {reason}" in page
    for run in runs:
        assert f"/runs/{run.pk}" in page
    assert "y = 2.1·x^0.5" in page
    assert "R² = 1.0000" in page
    assert "fit and R² use the logarithm of x and y" in page
    assert "style=" not in page


def test_the_typed_numbers_are_drawn(reading: Reader, experiment: Experiment) -> None:
    numbers: list[dict[str, Any]] = [
        {"p_value": 0.5, "statistic": -1.5, "threshold": 0.05, "sample_size": 9},
        {"parameters": {"p_value": 0.25}},
    ]
    for each in numbers:
        Drift.objects.create_in(experiment, job_status="Completed", model="forest", **each)
    page = reading.page(x="p-value", y="statistic")
    assert "Statistic by p-value" in page
    assert "x = 0.5\ny = -1.5" in page
    assert "1 run: p-value has no value" in page
    assert '<th scope="col" class="number">p-value</th><th scope="col" class="number">Statistic</th>' in page
    assert 'value="p-value"' in page
    assert "x = 9\ny = 0.05" in reading.page(x="sample_size", y="Threshold")
    header, *rows = csv.reader(io.StringIO(reading.get("chart.csv", x="p_value", y="sample_size").content.decode()))
    assert header[4:6] == ["x: p_value", "y: sample_size"]
    assert [row[4:] for row in rows] == [["0.5", "9.0", ""], ["", "", "p-value has no value"]]


def test_a_chart_shows_the_time_of_the_data_or_of_the_report(reading: Reader, experiment: Experiment) -> None:
    """Addresses from before runs had a time of their own name `created_at`."""
    run = Drift.objects.create_in(
        experiment, job_status="Completed", model="forest", observed_at=datetime.datetime(2026, 1, 2, 3, tzinfo=UTC)
    )
    reported = f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC"
    page = reading.page(x="observed_at", y="created_at", fit=1)
    assert f"x = 2026-01-02 03:00:00 UTC\ny = {reported}" in page
    assert "Reported (UTC) by Time (UTC)" in page
    assert f'<td class="number">{reported}</td>' in page
    page = reading.page(x="created_at")
    assert "Number of runs by Reported (UTC)" in page
    assert f"x from {reported} to {reported}" in page
    header, row = csv.reader(io.StringIO(reading.get("chart.csv", x="observed_at", y="created_at").content.decode()))
    assert header[1] == "observed_at"
    assert row[1] == row[4] == "2026-01-02T03:00:00+00:00"
    assert row[5] == run.created_at.isoformat()


def test_a_line_between_two_times_names_both(reading: Reader, experiment: Experiment) -> None:
    for day in (1, 2):
        observed_at = datetime.datetime(2026, 1, day, tzinfo=UTC)
        Drift.objects.create_in(experiment, job_status="Completed", model="forest", observed_at=observed_at)
    assert "x is days since 2026-01-01 00:00:00 UTC; y is days since" in reading.page(
        x="observed_at", y="created_at", fit=1
    )


def test_tooltips_mark_runs_that_measured_nothing_and_say_what_was_tested(
    reading: Reader, experiment: Experiment
) -> None:
    for parameters in ({}, {}, {"a": 1}):
        Drift.objects.create_in(experiment, job_status="Completed", model="forest", parameters=parameters)
    marks = reading.page(x="observed_at", y="created_at")
    assert marks.count("UTC: No drift (unsupported)\n") == 2
    assert marks.count("UTC: No drift\n") == 1
    Drift.objects.get(parameters={"a": 1}).update(detector="ks <1>", feature="petal length")
    tested = reading.page(x="observed_at", y="created_at")
    assert tested.count("\nDetector: ks &lt;1&gt;\nFeature: petal length</title>") == 1
    bars = reading.page(x="parameters.a", y="count")
    assert "No drift: 1 of 1 runs</title>" in bars
    assert sum(map(int, re.findall(r"\nUnsupported: (\d+)</title>", reading.page()))) == 2


def test_an_element_of_a_list_is_drawn(reading: Reader, experiment: Experiment) -> None:
    Drift.objects.create_in(
        experiment, model="forest", job_status="Completed", parameters={"a": [{"b": 7.0}, 2], "c": 1}
    )
    assert "x = 7\ny = 1" in reading.page(x="parameters.a.0.b", y="parameters.c")
    assert "parameters.a is a list" in reading.page(x="parameters.a", y="parameters.c")


def test_numbers_that_the_api_would_refuse_are_left_out(reading: Reader, experiment: Experiment) -> None:
    for value in (float("nan"), float("inf")):
        run = Drift.objects.create_in(experiment, model="forest", job_status="Completed", parameters={"a": 1})
        collection_of(Drift).update_one({"_id": run.pk.hex}, {"$set": {"parameters.a": value}})
    page = reading.page(x="parameters.a", y="created_at")
    assert "2 runs: parameters.a is not a finite number" in page
    assert "No run can be drawn." in page


def test_only_the_runs_that_the_filter_matches_are_drawn(reading: Reader, runs: list[Drift]) -> None:
    page = reading.page(x="parameters.a", y="parameters.b.c", verdict="drift", where="parameters.a gt 4")
    assert "<strong>3</strong> runs" in page


def test_only_the_selected_runs_are_drawn(reading: Reader, runs: list[Drift], manager: Caller) -> None:
    elsewhere = Drift.objects.create_in(
        Experiment.objects.create(name="of others"), model="secret", job_status="Completed", parameters={"a": 1}
    )
    selected = [runs[0].pk, runs[1].pk, elsewhere.pk]
    page = reading.page(x="parameters.a", y="parameters.b.c", selected=selected, only_selected=1)
    assert "<strong>2</strong> runs" in page
    assert "secret" not in page
    assert "<strong>11</strong> runs" in reading.page(x="parameters.a", y="parameters.b.c", selected=selected)


def test_the_page_says_that_only_the_newest_of_too_many_runs_are_drawn(
    reading: Reader, runs: list[Drift], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "MAX_POINTS", 5)
    page = reading.page(x="parameters.b.c", y="created_at")
    assert "<strong>5</strong> runs" in page
    assert "Choose a shorter period to see older ones." in page
    assert str(runs[-1].pk) in page
    assert str(runs[0].pk) not in page


def test_the_picture_is_a_file_with_links_to_the_runs(reading: Reader, runs: list[Drift]) -> None:
    response = reading.get("chart.svg", x="parameters.a", y="parameters.b.c", kind="line")
    assert response.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'inline; filename="wine-quality-chart.svg"'
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    picture = ET.fromstring(response.content)  # noqa: S314 - it was just made here
    links = {link.get("href") for link in picture.iter(f"{SVG}a")}
    assert f"http://testserver{reading.path}/runs/{runs[0].pk}" in links


def test_the_table_has_every_run_and_no_formulas(reading: Reader, runs: list[Drift], experiment: Experiment) -> None:
    Drift.objects.create_in(experiment, model="=cmd()", job_status="Failed", parameters={"a": -3, "b": {"c": 1}})
    response = reading.get("chart.csv", x="parameters.a", y="parameters.b.c")
    assert response.headers["Content-Disposition"] == 'attachment; filename="wine-quality-chart.csv"'
    header, *rows = csv.reader(io.StringIO(response.content.decode()))
    assert header[3:6] == ["verdict", "x: parameters.a", "y: parameters.b.c"]
    assert len(rows) == 14
    assert rows[0][2:6] == ["'=cmd()", "unknown", "-3.0", "1.0"]
    assert rows[-1][-1] == "parameters.a has no value"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("kind=pie&y=parameters.a", "Choose Automatic, Scatter, Line or Bars."),
        ("kind=scatter&y=count", "The number of runs needs bars."),
        ("y=count&y_scale=log", "The number of runs needs a linear axis."),
        ("x_scale=log", "Time needs a linear axis."),
        ("x=count", "Unknown axis. Choose Time, Number of runs (y only)"),
        ("x=note", "Unknown axis. Choose Time, Number of runs (y only), p-value, Statistic, Threshold,"),
        ("x=parameters.", "Write names separated by single dots"),
        ("x=parameters..a", "Write names separated by single dots"),
        ("x=parameters.$where", "Write names separated by single dots"),
        ("x=parameters." + "a" * 2_000, "Write names separated by single dots"),
        ("x=parameters." + ".".join("a" * 60), "nested deeper"),
        ("x=parameters.%00", "Null characters are not allowed"),
        ("fit=perhaps", "Must be a valid boolean"),
        ("selected=1", "Select the runs again"),
        ("&".join(f"selected={n:032x}" for n in range(500)), "Select the runs again"),
        ("where=nonsense", "Enter a field, a comparison and a value"),
        ("filter={", "Fix the marked fields."),
    ],
)
def test_an_invalid_choice_is_reported_beside_its_control(
    reading: Reader, runs: list[Drift], query: str, sentence: str
) -> None:
    response = reading.get(query=query)
    assert response.status_code == 422
    assert sentence in response.content.decode()
    for page in ("chart.svg", "chart.csv"):
        assert reading.get(page, query=query).status_code == 422


@pytest.mark.parametrize(
    "query",
    [
        "x=parameters.a&y=parameters.a",
        "x=created_at&y=created_at&fit=1",
        "x=parameters.a&y=count",
        "x=parameters.a&y=created_at&kind=bar&fit=1",
        "x=parameters.a&x=parameters.b.c&y=parameters.a&x_scale=log&kind=bar&y_scale=log",
        "x=parameters.b&y=parameters.nothing",
        "x=parameters.%3Cb%3E%22&y=count",
        "x=&y=&kind=&x_scale=&fit=&selected=",
        "page=3&unknown=%FF",
    ],
)
def test_any_other_query_makes_a_page(reading: Reader, runs: list[Drift], query: str) -> None:
    assert reading.get(query=query).status_code in (200, 422)
    assert reading.get("chart.csv", query=query).status_code in (200, 422)
    assert reading.get("chart.svg", query=query).status_code in (200, 422)


def test_an_experiment_without_runs_has_a_page_and_no_picture(reading: Reader) -> None:
    assert "No runs yet" in reading.page()
    refusal = reading.get("chart.svg")
    assert refusal.status_code == 422
    assert "No run can be drawn." in refusal.content.decode()


def test_a_slow_filter_is_refused_soon_unless_the_reader_chooses_to_wait(
    reading: Reader, runs: list[Drift], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_filter, "SOON", 1e-6)
    for page in ("chart", "chart.svg", "chart.csv", "timeline", "timeline.svg", "timeline.csv"):
        refusal = reading.get(page, where="parameters.a gt 3")
        assert refusal.status_code == 422
        assert "choose “Search longer” in the filter" in refusal.content.decode()
        assert reading.get(page, where="parameters.a gt 3", patient=1).status_code == 200


def test_only_the_examined_runs_are_read_and_in_index_order(
    reading: Reader, runs: list[Drift], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "MAX_POINTS", 5)
    with reads_of(Drift) as reads:
        reading.page(x="parameters.a", y="parameters.b.c")
    assert (6, False) in [(read.documents, read.sorts_in_memory) for read in reads]
