"""A backfill: runs of 400 past days, reported today in random order, are shown on the days of their data."""

import csv
import datetime
import html
import io
import random
import re
from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pytest_django import Settings

from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.session import through_session
from tests.times import time_of

BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime.date(2024, 1, 1)
DAYS = [FIRST + datetime.timedelta(days=number) for number in range(400)]
# The days on which clocks change, with their hours. They have a run in each hour, other days a run at noon.
CHANGES = {datetime.date(2024, 3, 31): 23, datetime.date(2024, 10, 27): 25}
HOUR, MILLISECOND = datetime.timedelta(hours=1), datetime.timedelta(milliseconds=1)


def midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), BERLIN)


def times_on(day: datetime.date) -> list[datetime.datetime]:
    """The times of the runs on a day, which include its first or last moment if clocks change."""
    if day not in CHANGES:
        return [midnight(day) + 12 * HOUR]
    start = midnight(day).astimezone(datetime.UTC)
    hours = [start + number * HOUR for number in range(CHANGES[day])]
    return [*hours[:-1], hours[-1] + HOUR - MILLISECOND]


@pytest.fixture
def backfilled(editor: Caller, experiment: Experiment) -> list[datetime.datetime]:
    """Report the runs. Returns their times, the earliest first."""
    times = [time.astimezone(datetime.UTC) for day in DAYS for time in times_on(day)]
    run = {"job_status": "Completed", "model": "forest", "drift_detected": False, "parameters": {"p": 0.5}}
    runs = [{**run, "observed_at": time.isoformat()} for time in times]
    random.Random(2026).shuffle(runs)  # noqa: S311
    assert editor.post(f"/experiment/{experiment.pk}/drift/bulk", runs).status_code == 201
    return times


def test_statistics_by_day_show_a_backfill_as_it_happened(
    backfilled: list[datetime.datetime], reader: Caller, experiment: Experiment
) -> None:
    def ask(**body: Any) -> list[tuple[str, int]]:
        request = {"time_zone": "Europe/Berlin", "interval": "day", **body}
        rows = reader.post(f"/experiment/{experiment.pk}/drift/stats", request).json()
        return [(row["start"], row["count"]) for row in rows]

    assert ask() == [(midnight(day).isoformat(), CHANGES.get(day, 1)) for day in DAYS]
    reported = Counter(run.created_at.astimezone(BERLIN).date() for run in Drift.objects.all())
    assert ask(time_field="created_at") == [(midnight(day).isoformat(), count) for day, count in reported.items()]
    for day, hours in CHANGES.items():
        of_day = {"$gte": midnight(day).isoformat(), "$lt": midnight(day + datetime.timedelta(days=1)).isoformat()}
        assert ask(filter={"observed_at": of_day}, interval="day") == [(midnight(day).isoformat(), hours)]
        assert [count for _, count in ask(filter={"observed_at": of_day}, interval="hour")] == [1] * hours


def test_the_timeline_and_the_chart_draw_a_backfill_as_it_happened(
    backfilled: list[datetime.datetime], reader: Caller, settings: Settings, experiment: Experiment
) -> None:
    browser, pages = through_session(reader, settings).client, f"/experiments/{experiment.pk}"
    page = browser.get(f"{pages}/timeline").content.decode()
    assert f"{len(backfilled)} runs from 2024-01-01 11:00 to 2025-02-03 11:00 UTC" in page
    rows = list(csv.DictReader(io.StringIO(browser.get(f"{pages}/timeline.csv").content.decode())))
    for row in rows:
        start, end = (time_of(row[name]) for name in ("from", "until"))
        assert int(row["runs"]) == sum(start <= time < end for time in backfilled)
    addresses = re.findall(r'href="([^"]+)">(\d+) runs?<', page)
    assert sum(int(number) for _, number in addresses) == len(backfilled)
    address, number = addresses[len(addresses) // 2]
    assert f"{number} runs" in browser.get(html.unescape(address)).content.decode()
    assert "x from 2024-01-01 11:00:00 UTC to 2025-02-03 11:00:00 UTC" in browser.get(f"{pages}/chart").content.decode()
    rows = list(csv.DictReader(io.StringIO(browser.get(f"{pages}/chart.csv").content.decode())))
    assert [time_of(row["observed_at"]) for row in rows] == backfilled[::-1]
