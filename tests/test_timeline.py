"""The timeline of verdicts: a row for each model, and the same numbers in tables."""

import csv
import datetime
import io
import re
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from pytest_django import Settings

from drifts.models import Drift
from experiments.models import Experiment
from pages.plots import timeline
from pages.plots.scales import UTC
from tests.caller import Caller
from tests.profiler import reads_of
from tests.session import through_session
from tests.test_observed_at import as_older_record

SVG = "{http://www.w3.org/2000/svg}"
START = datetime.datetime(2026, 3, 5, 12, tzinfo=UTC)


class Reader:
    """A user who opens the timeline of an experiment. `reported` stores runs of any time."""

    def __init__(self, caller: Caller, settings: Settings, experiment: Experiment) -> None:
        self.client = through_session(caller, settings).client
        self.experiment = experiment
        self.path = f"/experiments/{experiment.pk}"

    def reported(self, model: str, *verdicts: bool | None, step: datetime.timedelta) -> list[Drift]:
        """Store one run after the other: True is drift, None is a failed run."""
        fields = [
            {
                "model": model,
                "job_status": "Failed" if each is None else "Completed",
                "drift_detected": bool(each),
                "parameters": {"p": 0.5},
                "observed_at": START + number * step,
            }
            for number, each in enumerate(verdicts)
        ]
        ids = Drift.objects.create_all_in(self.experiment, fields)
        return [Drift.objects.get(pk=pk) for pk in ids]

    def get(self, page: str = "timeline", **query: Any) -> Any:
        return self.client.get(f"{self.path}/{page}?{urlencode(query, doseq=True)}")

    def page(self, **query: Any) -> str:
        response = self.get(**query)
        assert response.status_code == 200, response.content.decode()
        return response.content.decode()

    def picture(self) -> ET.Element:
        return ET.fromstring(self.get("timeline.svg").content)  # noqa: S314 - it was just made here


@pytest.fixture
def reading(reader: Caller, settings: Settings, experiment: Experiment) -> Reader:
    return Reader(reader, settings, experiment)


HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)


def test_few_runs_are_marks_that_link_to_them(reading: Reader) -> None:
    forest = reading.reported("forest", True, False, None, step=DAY)
    reading.reported("boost", False, step=DAY)
    page = reading.page()
    assert "<strong>4</strong> runs of 2 models" in page
    assert "A mark opens its run" in page
    assert page.index(">forest<") < page.index(">boost<")
    links = {link.get("href"): link[0] for link in reading.picture().iter(f"{SVG}a")}
    marks = [links[f"http://testserver{reading.path}/runs/{run.pk}"] for run in forest]
    assert [mark.get("class") for mark in marks] == ["drift", "no_drift", "unknown"]
    assert marks[0].findtext(f"{SVG}title") == "forest, 2026-03-05 12:00:00 UTC: Drift"


def test_tooltips_mark_runs_that_measured_nothing_and_say_what_was_tested(reading: Reader) -> None:
    run, *_ = reading.reported("forest", False, False, step=HOUR)
    Drift.objects.get(pk=run.pk).update(parameters={})
    assert reading.page().count("forest, 2026-03-05 12:00:00 UTC: No drift (unsupported)</title>") == 1
    Drift.objects.get(pk=run.pk).update(detector="ks", feature="length")
    assert reading.page().count("No drift (unsupported)\nDetector: ks\nFeature: length</title>") == 1
    reading.reported("forest", *[False] * 100, step=HOUR)
    assert reading.page().count("\nUnsupported: 1</title>") == 1


def test_older_runs_are_drawn_when_they_were_reported(reading: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MAX_RUNS", 2)
    first, second, _ = reading.reported("forest", True, False, True, step=DAY)
    as_older_record(first.pk.hex, START + 10 * DAY)
    as_older_record(second.pk.hex, START - 10 * DAY)
    page = reading.page()
    assert "2 runs from 2026-03-07 12:00 to 2026-03-15 12:00 UTC: 2 drift, 0 no drift, 0 unknown." in page


@pytest.mark.parametrize(
    "condition",
    [
        {"model": "forest"},
        {"$and": [{"model": {"$in": ["forest"]}}, {"created_at": {"$gte": START}}]},
        {"$and": [{"observed_at": {"$gte": START - 30 * DAY}}, {"model": "forest"}]},
        {"$or": [{"model": "forest"}, {"parameters.p": 7}]},
    ],
)
def test_the_newest_runs_of_a_model_are_sorted_unless_they_are_too_many(
    reading: Reader, monkeypatch: pytest.MonkeyPatch, condition: Any
) -> None:
    """No index has the runs of a model by `observed_at`, so the runs of all models would be read."""
    reading.reported("boost", *[False] * 200, step=HOUR)
    forest = reading.reported("forest", *[True] * 20, step=-HOUR)
    as_older_record(forest[19].pk.hex, START + DAY)
    monkeypatch.setattr(timeline, "MAX_RUNS", 10)
    runs = Drift.objects.of(reading.experiment).matching(condition)
    with reads_of(Drift) as reads:
        found, is_all = timeline.newest_of(runs)
    assert [run.id for run in found] == [run.pk for run in (forest[19], *forest[:9])]
    assert not is_all
    is_sorted = "$or" not in condition
    assert (max(read.documents for read in reads) < 30) == is_sorted
    monkeypatch.setattr("drifts.models.MAX_SORTED", 19)
    assert timeline.newest_of(runs) == (found, is_all)


def test_many_runs_are_cells_filled_by_their_drift_rate(reading: Reader) -> None:
    reading.reported("forest", *[n % 4 == 0 for n in range(100)], step=HOUR)
    assert "A cell shows the shares of the verdicts" in reading.page()
    cells = [link for link in reading.picture().iter(f"{SVG}a") if link.findall(f"{SVG}rect")]
    assert 30 <= len(cells) <= timeline.MAX_PERIODS
    heights = [float(str(each.get("height"))) for cell in cells for each in cell if each.get("class") == "drift"]
    assert sum(heights) / len(cells) == pytest.approx(timeline.CELL / 4, rel=0.1)
    assert "Drift rate: " in str(cells[0].findtext(f"{SVG}title"))


def test_one_period_with_many_runs_leaves_the_others_different(reading: Reader) -> None:
    for day in range(8):
        reading.reported(f"model {day}", *[False] * (4 + 4 * day), step=datetime.timedelta())
    reading.reported("busy", *[False] * 1_000, step=datetime.timedelta())
    strengths = sorted(float(str(link.get("opacity"))) for link in reading.picture().iter(f"{SVG}a"))
    assert strengths[0] < 0.7
    assert strengths[-2:] == [0.79, 1]
    assert "Paler cells have fewer runs, but all cells with 84 runs or more look alike." in reading.page()


def test_a_cell_links_to_exactly_its_runs(reading: Reader) -> None:
    reading.reported("forest", *[n % 4 == 0 for n in range(100)], step=HOUR)
    reading.reported("boost", True, True, step=HOUR)
    tables = reading.page(verdict="drift").partition("As a table")[2]
    links = re.findall(r'href="\?*([^"]+)">(\d+) runs?<', tables)
    assert sum(int(number) for _, number in links) == 27
    address, number = links[3]
    runs = reading.client.get(address.replace("&amp;", "&")).content.decode()
    assert f"<strong>{number}</strong>" in runs or f"{number} run" in runs
    assert "model=forest" in address
    assert "verdict=drift" in address


def test_the_tables_show_the_same_numbers(reading: Reader) -> None:
    reading.reported("forest", True, False, True, None, step=DAY)
    page = reading.page()
    row = re.search(r'<th scope="row">forest</th>(.*?)</tr>', page)
    assert row
    assert re.findall(r">([^<>]+)<", row[1]) == ["67 %", "2", "1", "1", "2026-03-05 12:00", "2026-03-08 12:00"]
    response = reading.get("timeline.csv")
    assert response.headers["Content-Disposition"] == 'attachment; filename="wine-quality-timeline.csv"'
    header, *rows = csv.reader(io.StringIO(response.content.decode()))
    assert header == ["model", "from", "until", "runs", "drift", "no_drift", "unknown", "drift_rate"]
    assert [[int(number) for number in row[3:7]] for row in rows] == [
        [1, 0, 0, 1],
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [1, 1, 0, 0],
    ]
    assert rows[0][-1] == ""


def test_the_page_says_that_the_least_active_models_and_oldest_runs_are_left_out(
    reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MAX_MODELS", 1)
    monkeypatch.setattr(timeline, "MAX_RUNS", 5)
    reading.reported("old", True, True, True, step=-HOUR)
    reading.reported("boost", False, False, step=10 * DAY)
    reading.reported("forest", *[True] * 4, step=9 * DAY)
    with reads_of(Drift) as reads:
        page = reading.page()
    assert "from the newest 5. Choose a shorter period" in page
    assert "1 more model with 1 run is not shown. Filter by a model to see its runs." in page
    assert (6, False) in [(read.documents, read.sorts_in_memory) for read in reads]


def test_runs_of_a_single_moment_are_drawn(reading: Reader) -> None:
    reading.reported("forest", *[True] * 100, step=datetime.timedelta())
    assert "Drift (100)" in reading.page()


def test_runs_of_many_years_are_drawn(reading: Reader) -> None:
    reading.reported("forest", *[False] * 100, step=400 * DAY)
    assert "No drift (100)" in reading.page()


def test_a_filter_narrows_the_time_line_and_an_invalid_one_is_refused(reading: Reader) -> None:
    reading.reported("forest", True, False, step=DAY)
    page = reading.page(verdict="drift")
    assert "<strong>1</strong> run of 1 model" in page
    assert "1 run from 2026-03-05 12:00 to" in page
    assert '<summary>Runs <span class="tag">Verdict: Drift</span></summary>' in page
    assert "No runs match. Change the filter" in reading.page(model="nobody's")
    for page in ("timeline", "timeline.svg", "timeline.csv"):
        assert reading.get(page, verdict="maybe").status_code == 422
    assert "<details open>" in reading.get(verdict="maybe").content.decode()
    assert "Choose one of: Drift" in reading.get(verdict="maybe").content.decode()


def test_the_form_keeps_the_selected_runs(reading: Reader) -> None:
    (run,) = reading.reported("forest", True, step=DAY)
    assert f'<input type="hidden" name="selected" value="{run.pk}">' in reading.page(selected=run.pk)


def test_an_experiment_without_runs_has_a_page_a_table_and_no_picture(reading: Reader) -> None:
    assert "No runs yet" in reading.page()
    assert reading.get("timeline.csv").status_code == 200
    assert reading.get("timeline.svg").status_code == 422


def test_a_model_is_escaped_everywhere(reading: Reader) -> None:
    reading.reported('<script>alert("1")</script>', True, step=DAY)
    assert "<script>alert" not in reading.page()
    assert "<script>alert" not in reading.get("timeline.svg").content.decode()
