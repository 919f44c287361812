"""The dashboard, which is the first page of the admin portal."""

import datetime
import re
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from pytest_django import Settings

from accounts.models import User
from core import timestamps
from drifts import dashboard
from drifts.models import Drift
from drifts.outliers import full_scale
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.session import through_session
from tests.test_runs_page import Shown


@pytest.fixture
def browser(admin: Caller, settings: Settings) -> Client:
    """The session of an administrator."""
    return through_session(admin, settings).client


def run(experiment: Experiment, model: str, hours: float = 0, **fields: Any) -> Drift:
    at = timestamps.now() - datetime.timedelta(hours=hours)
    return Drift.objects.create(experiment=experiment, model=model, created_at=at, **fields)


def shown(browser: Client) -> dashboard.Dashboard:
    response = browser.get("/admin/")
    assert response.status_code == 200
    return response.context["dashboard"]


def test_the_dashboard_shows_runs_by_day_and_experiments_that_need_attention(browser: Client, drift: Drift) -> None:
    wine = drift.experiment
    run(wine, "calm", job_status="Completed")
    run(wine, "at work", 1, job_status="Running")
    run(wine, "stuck", 25, job_status="Running", drift_detected=True)
    run(wine, "broken", 50, job_status="Failed")
    run(wine, "long ago", 24 * 40, job_status="Completed")
    found = shown(browser)
    assert [run.model for run in found.drifts] == ["forest"]
    assert [run.model for run in found.running] == ["at work"]
    assert [run.model for run in found.stale] == ["stuck"]
    assert found.failing == [{"model": "broken", "failed": 1, "runs": 1}]
    assert len(found.days) == 30
    assert sum(day.runs.number for day in found.days) == 5
    by_verdict = [sum(getattr(day, name) for day in found.days) for name in ("drift", "no_drift", "unknown")]
    assert by_verdict == [1, 1, 3]
    assert found.looked_at == "Of all runs that you can read"
    assert re.fullmatch(r"A bar of full height has \d runs\.", found.counted)


def test_the_dashboard_counts_runs_on_the_days_of_their_reports_and_says_so(browser: Client, drift: Drift) -> None:
    drift.update(observed_at=drift.created_at - datetime.timedelta(days=3))
    assert [day.runs.number for day in shown(browser).days] == [0] * 29 + [1]
    page = Shown(browser.get("/admin/"))
    assert page.texts("#panel-days") == ["Runs reported in the last 30 days, by verdict"]
    assert page.texts("section[aria-labelledby=panel-days] thead th")[0] == "Reported on (UTC)"
    assert page.texts("section[aria-labelledby=panel-drifts] li") == [
        f"forest in wine quality, reported {drift.created_at:%Y-%m-%d %H:%M} UTC"
    ]


def test_the_dashboard_says_that_it_counts_only_the_newest_runs(
    browser: Client, drift: Drift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "NEWEST", 1)
    monkeypatch.setattr(dashboard, "COUNTED", 1)
    monkeypatch.setattr(dashboard, "SAMPLED", 1)
    for _ in range(3):
        run(drift.experiment, "calm", job_status="Completed")
    found = shown(browser)
    assert not found.drifts
    today = found.days[-1]
    assert (str(today.runs), today.drift_rate) == ("1+", "0 % (newest 1)")
    assert sum(bar["height"] for bar in found.columns[-1]["bars"]) == dashboard.HEIGHT
    page = Shown(browser.get("/admin/"))
    for panel in ("drifts", "failing"):
        (note,) = page.texts(f"section[aria-labelledby=panel-{panel}] .help")
        assert note.startswith("Of the newest 1 runs that you can read, since ")
    assert page.texts("svg.days title")[-1].endswith(": 1+ run, drift rate 0 % (newest 1)")


@pytest.mark.parametrize(
    ("numbers", "full"),
    [
        ([0] * 30, 1),
        ([7] + [0] * 29, 7),
        ([5_000] + [20] * 29, 60),
        ([5_000] * 7 + [20] * 23, 60),
        ([5_000] * 9 + [20] * 21, 5_000),
        ([0] * 28 + [20, 5_000], 60),
        ([9] + [1] * 29, 9),
        ([40] + [1] * 29, 10),
        ([300, 100, 100, 100], 300),
    ],
)
def test_few_large_numbers_do_not_flatten_the_others(numbers: list[int], full: int) -> None:
    assert full_scale(numbers) == full


def test_a_day_with_many_runs_is_cut_off_with_its_number(browser: Client, drift: Drift) -> None:
    noon = timestamps.now().replace(hour=12)
    for ago in [1, 2, 3, 4, 5] * 4:
        Drift.objects.create(experiment=drift.experiment, model="calm", created_at=noon - datetime.timedelta(days=ago))
    Drift.objects.create_all_in(drift.experiment, [{"model": "busy", "job_status": "Failed"}] * 99)
    response = browser.get("/admin/")
    found, page = response.context["dashboard"], Shown(response)
    day = found.days[-1].date
    assert found.counted == f"A bar of full height has 12 runs. Cut off because they have more: {day} (100 runs)."
    assert found.counted in page.text
    heights = [sum(bar["height"] for bar in column["bars"]) for column in found.columns[-6:]]
    assert heights == [4, 4, 4, 4, 4, 12]
    assert len(page.tree.select("svg.days .cut-off")) == 1
    assert page.texts("svg.days title")[-1] == f"{day}: 100 runs, drift rate 100 %"


def test_the_dashboard_shows_staff_only_what_they_may_read(settings: Settings, drift: Drift, reader: Caller) -> None:
    run(Experiment.objects.create(name="barley"), "secret", job_status="Failed")
    User.objects.update(is_staff=True)
    browser = through_session(reader, settings).client
    assert [run.model for run in shown(browser).drifts] == ["forest"]
    assert "secret" not in browser.get("/admin/").content.decode()


def test_the_dashboard_lists_the_latest_actions_of_its_reader(browser: Client, admin: Caller, drift: Drift) -> None:
    assert admin.user
    LogEntry.objects.log_actions(admin.user.pk, [drift], CHANGE, single_object=True)
    (action,) = Shown(browser.get("/admin/")).texts("section[aria-labelledby=panel-actions] li")
    assert action.startswith(f"Change: {drift}, ")


def actions_of(browser: Client) -> list[tuple[str, bool]]:
    """The names in the panel of the latest actions, and whether each is a link, the newest first."""
    entries = Shown(browser.get("/admin/")).tree.select("section[aria-labelledby=panel-actions] li")
    return [
        (entry.get_text().partition(": ")[2].rpartition(", ")[0], entry.select_one("a") is not None)
        for entry in entries
    ]


def test_the_latest_actions_name_only_what_their_reader_may_still_read(
    settings: Settings, drift: Drift, manager: Caller
) -> None:
    assert manager.user
    User.objects.update(is_staff=True)
    wine = drift.experiment
    own = Experiment.objects.create(name="barley", permissions=wine.permissions)
    user = manager.user
    for obj, flag in ((wine, CHANGE), (drift, CHANGE), (own, CHANGE), (user, CHANGE), (own, DELETION)):
        LogEntry.objects.log_actions(user.pk, [obj], flag, single_object=True)
    browser = through_session(manager, settings).client
    assert actions_of(browser) == [
        ("barley", True),
        (manager.id, False),
        ("barley", True),
        (str(drift), True),
        ("wine quality", True),
    ]
    Experiment.objects.filter(pk=wine.pk).update(permissions=[])
    own.delete()
    unread = [(str(own.pk), False), (manager.id, False), (str(own.pk), False), (str(drift.pk), False)]
    assert actions_of(browser) == [*unread, (str(wine.pk), False)]


def test_an_administrator_sees_the_names_of_deleted_objects(browser: Client, admin: Caller, drift: Drift) -> None:
    assert admin.user
    for obj in (drift, drift.experiment):
        LogEntry.objects.log_actions(admin.user.pk, [obj], DELETION, single_object=True)
    drift.experiment.delete()
    assert actions_of(browser) == [("wine quality", False), (str(drift), False)]


def test_the_dashboard_works_without_runs(browser: Client) -> None:
    assert shown(browser).runs == 0
