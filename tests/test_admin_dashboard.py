"""The dashboard, which is the first page of the admin portal."""

import datetime
from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import User
from core import timestamps
from drifts import dashboard
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.session import through_session


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
    assert found.looked_at == "Latest drift and failing models: all runs that you can read."


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
    assert "the newest 1 runs" in found.looked_at
    today = found.days[-1]
    assert (str(today.runs), today.drift_rate) == ("1+", "0 %")
    assert sum(bar["height"] for bar in found.columns[-1]["bars"]) == dashboard.HEIGHT


def test_the_dashboard_shows_staff_only_what_they_may_read(settings: Settings, drift: Drift, reader: Caller) -> None:
    run(Experiment.objects.create(name="barley"), "secret", job_status="Failed")
    User.objects.update(is_staff=True)
    browser = through_session(reader, settings).client
    assert [run.model for run in shown(browser).drifts] == ["forest"]
    assert "secret" not in browser.get("/admin/").content.decode()


def test_the_dashboard_works_without_runs(browser: Client) -> None:
    assert shown(browser).runs == 0
