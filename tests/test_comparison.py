"""Comparison of runs: differences, equal values, and a download for spreadsheets."""

import csv
import datetime
import io
import uuid
from typing import Any

import pytest
from pytest_django import Settings

from drifts.models import Drift
from experiments.models import Experiment
from pages.comparison import Value
from tests.caller import Caller, Client
from tests.session import through_session
from tests.test_runs_page import Shown

PARAMETERS: list[dict[str, Any]] = [
    {"p_value": 0.02, "test": {"name": "ks", "size": 100}, "ok": True, "same": [1, {"a": None}], "=note": "=1+1"},
    {"p_value": 0.05, "test": {"name": "ks", "size": 80}, "ok": 1, "same": [1, {"a": None}], "=note": "-2"},
    {"p_value": -0.02, "test": {"name": "psi"}, "ok": True, "same": [1, {"a": None}], "=note": "fine"},
]


@pytest.fixture
def client(reader: Caller, settings: Settings) -> Client:
    """The reader's browser."""
    return through_session(reader, settings).client


@pytest.fixture
def runs(experiment: Experiment) -> list[Drift]:
    return [
        Drift.objects.create_in(experiment, job_status="Completed", model="forest", parameters=each)
        for each in PARAMETERS
    ]


def address(experiment: Experiment, runs: list[Drift], more: str = "") -> str:
    return f"/experiments/{experiment.pk}/compare?" + "&".join(f"selected={run.pk}" for run in runs) + more


def table(shown: Shown) -> dict[str, list[str]]:
    """The cells of each line, by its heading."""
    rows = [[" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"])] for row in shown.tree("tr")]
    return {row[0]: row[1:] for row in rows[1:]}


def test_only_differing_values_are_shown_with_the_difference_of_numbers(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    shown = Shown(client.get(address(experiment, runs)))
    assert shown.status == 200
    lines = table(shown)
    # Runs of one second show the same time.
    lines.pop("Time (UTC)", None)
    assert lines == {
        "parameters.p_value": ["0.02", "0.05 +0.03, +150.0 %", "-0.02 -0.04, -200.0 %"],
        "parameters.test.name": ["ks", "ks", "psi"],
        "parameters.test.size": ["100", "80 -20, -20.0 %", "\N{EN DASH}"],
        "parameters.ok": ["true", "1", "true"],
        "parameters.=note": ["=1+1", "-2", "fine"],
    }
    assert {"ks", "true"} <= set(shown.texts("td.faint"))


def test_fields_are_compared_as_parameters_are(client: Client, experiment: Experiment) -> None:
    time = datetime.datetime(2026, 1, 1, 6, tzinfo=datetime.UTC)
    run = {"job_status": "Completed", "model": "forest", "drift_detected": False, "threshold": 0.05}
    measured = {"p_value": 0.02, "sample_size": 100, "feature": "age", "note": "a\nb", "window_end": time}
    first = Drift.objects.create_in(experiment, **run, **measured, observed_at=time)
    later = time + datetime.timedelta(days=1)
    second = Drift.objects.create_in(experiment, **run, **measured | {"p_value": 0.05}, observed_at=later)
    third = Drift.objects.create_in(experiment, **run | {"threshold": None}, observed_at=later)
    response = client.get(address(experiment, [first, second, third]))
    dash = "\N{EN DASH}"
    assert table(Shown(response)) == {
        "Time (UTC)": ["2026-01-01 06:00:00", *["2026-01-02 06:00:00"] * 2],
        "p-value": ["0.02", "0.05 +0.03, +150.0 %", dash],
        "Threshold": ["0.05", "0.05", dash],
        "Sample size": ["100", "100", dash],
        "Feature": ["age", "age", dash],
        "Note": ["a b", "a b", dash],
        "Window end (UTC)": [*["2026-01-01 06:00:00"] * 2, dash],
        "Series": [*["Feature: age, Model: forest"] * 2, "Model: forest"],
        "Unsupported": ["false", "false", "true"],
    }
    assert Shown(response).texts("thead time") == ["2026-01-01 06:00:00 UTC", *["2026-01-02 06:00:00 UTC"] * 2]


def test_a_tag_with_a_comma_differs_from_two_tags(client: Client, experiment: Experiment) -> None:
    runs = [
        Drift.objects.create_in(experiment, job_status="Running", model="forest", tags=tags)
        for tags in (["night, ly"], ["night", "ly"])
    ]
    assert table(Shown(client.get(address(experiment, runs))))["Tags"] == ['"night, ly"', "night, ly"]


def test_all_values_are_shown_on_request_with_equal_ones_faint(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    shown = Shown(client.get(address(experiment, runs, "&all=1")))
    lines = table(shown)
    assert lines["Model"] == ["forest"] * 3
    assert lines["parameters.same.1.a"] == ["null"] * 3
    faint = {
        row.select("th")[0].get_text(strip=True): len(row.select("td.faint")) for row in shown.tree.select("tbody tr")
    }
    assert (faint["Model"], faint["parameters.same.0"]) == (2, 2)
    assert (faint["parameters.ok"], faint["parameters.p_value"]) == (1, 0)
    assert shown.link("Hide equal values")


# The first number, another one, and the difference on the page.
CHANGES = [
    (2, 30, "+28, 15 times"),
    (-2, -30, "-28, 15 times"),
    (2, 3, "+1, +50.0 %"),
    (-2, 1, "+3, +150.0 %"),
    (0.1, 0, "-0.1, -100.0 %"),
    (1, 10_000, "+9999, 10,000 times"),
    (1e-9, 3.15740740740740743168e9, "+3.157e+09"),
    (-1e-9, 3.15740740740740743168e9, "+3.157e+09"),
    (1e-9, -3e9, "-3e+09"),
    (5e-324, 1.7e308, "+1.7e+308"),
    (1.7e308, 5e-324, "-1.7e+308, -100.0 %"),
    (-1.7e308, 1.7e308, ""),
    (0, 5, "+5"),
    (1.0, 0.99999, "-1e-05, less than 0.1 %"),
    (1.0, 1.00001, "+1e-05, less than 0.1 %"),
    (2**53 + 1, 2.0**53, ""),
    (0.0, -0.0, ""),
    (-(2**63), 2**63 - 1, "+1.845e+19, +200.0 %"),
]


@pytest.mark.parametrize(("first", "value", "shown"), CHANGES)
def test_a_difference_is_short_and_readable(first: float, value: float, shown: str) -> None:
    assert Value(value, first).difference == shown


@pytest.mark.parametrize(("value", "shown"), [(-0.0, "0"), (-1e-300, "-1e-300"), (1 / 3, "0.333333"), (-5, "-5")])
def test_zero_is_shown_without_a_sign(value: float, shown: str) -> None:
    assert Value(value, value).short_text == shown


def test_runs_keep_the_order_of_selection_and_can_be_removed(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    turned = runs[::-1]
    shown = Shown(client.get(address(experiment, turned)))
    assert table(shown)["parameters.p_value"][0] == "-0.02"
    first = shown.all("a.aside", "href")[0]
    left = Shown(client.get(f"/experiments/{experiment.pk}/compare{first}"))
    assert [cell.split(" ")[0] for cell in table(left)["parameters.p_value"]] == ["0.05", "0.02"]


def test_an_invalid_comparison_is_reported(client: Client, experiment: Experiment, runs: list[Drift]) -> None:
    other = Experiment.objects.create(name="secret")
    secret = Drift.objects.create_in(other, job_status="Failed", model="secret-model")
    deleted = Drift(id=uuid.uuid4())
    shown = Shown(client.get(address(experiment, [runs[0], secret, deleted])))
    assert shown.status == 200
    assert "2 selected runs are gone" in shown.alert
    assert "secret-model" not in shown.text
    assert "Comparing takes at least two runs" in shown.text
    assert "Comparing takes at least two runs" in Shown(client.get(address(experiment, []))).text
    broken = Shown(client.get(address(experiment, runs, "&selected=7")))
    assert "'7' is not the id of a run." in broken.alert
    assert "parameters.p_value" in table(broken)


def test_equal_runs_show_no_differences(client: Client, experiment: Experiment) -> None:
    run = Drift.objects.create_in(experiment, job_status="Failed", model="forest", parameters={"a": 1})
    same = Drift.objects.create_in(experiment, job_status="Failed", model="forest", parameters={"a": 1.0})
    Drift.objects.filter(pk=same.pk).update(created_at=run.created_at)
    assert "No differences" in Shown(client.get(address(experiment, [run, same]))).text


def test_a_download_for_a_spreadsheet_holds_no_formula(
    client: Client, experiment: Experiment, runs: list[Drift]
) -> None:
    response = client.get(address(experiment, runs, "&format=csv&all=1"))
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == 'attachment; filename="comparison.csv"'
    head, *rows = csv.reader(response.content.decode().splitlines())
    assert head == ["name", *(str(run.pk) for run in runs)]
    lines = {row[0]: row[1:] for row in rows}
    assert lines["parameters.p_value"] == ["0.02", "0.05", "-0.02"]
    assert lines["parameters.=note"] == ["'=1+1", "'-2", "fine"]
    assert lines["parameters.test.size"] == ["100", "80", ""]
    assert lines["Model"] == ["forest"] * 3


def test_a_download_keeps_line_breaks(client: Client, experiment: Experiment) -> None:
    note = "first\n\n  second\r\nthird"
    runs = [
        Drift.objects.create_in(experiment, job_status="Failed", model="m", parameters={"note": text})
        for text in (note, "short")
    ]
    text = client.get(address(experiment, runs, "&format=csv")).content.decode()
    assert ["parameters.note", note, "short"] in list(csv.reader(io.StringIO(text, newline="")))


def test_a_long_comparison_is_cut_on_the_page_and_complete_in_the_download(
    client: Client, experiment: Experiment
) -> None:
    runs = [
        Drift.objects.create_in(
            experiment,
            job_status="Failed",
            model="m",
            parameters={f"p{number}": number + more for number in range(600)},
        )
        for more in (0, 1)
    ]
    shown = Shown(client.get(address(experiment, runs)))
    assert len(shown.tree.select("tbody tr")) == 500
    assert "more values are in the CSV" in shown.text
    assert len(client.get(address(experiment, runs, "&format=csv")).content.decode().splitlines()) > 600
