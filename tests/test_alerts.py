"""The alerts of `deploy/prometheus/alerts.yml`: which of them fire in which situation."""

import json
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from driftwatch.tasks import TASKS
from tests.prometheus import ALERTS, DEPLOYED, MISSING, PROMETHEUS, judge

pytestmark = pytest.mark.skipif(not PROMETHEUS, reason=MISSING)

REQUESTS = "driftwatch_http_request_duration_seconds"
COMMANDS = "driftwatch_database_command_duration_seconds"
REFUSED = "driftwatch_refused_requests_total"
REFUSED_IDENTITIES = "driftwatch_authentication_failures_total"
SUCCESS = "driftwatch_background_task_last_success_timestamp_seconds"

# A value for each minute, as promtool writes them: `first+added x further`, and _ for none.
DOWN, UP, NONE = "0+0x180", "1+0x180", "_x180"
DOWN_AFTER_30 = "1+0x30 0+0x150"
DOWN_FROM_30_TO_90 = "1+0x30 0+0x60 1+0x90"
# The time in seconds, because promtool begins at 0.
JUST_NOW = "0+60x180"


def copy_of_service(instance: str) -> dict[str, str]:
    copy = f'job="driftwatch", instance="{instance}"'
    return {
        f"up{{{copy}}}": UP,
        f"driftwatch_database_up{{{copy}}}": UP,
        f'driftwatch_build_info{{{copy}, version="1.0.0", schema="1.1.0"}}': UP,
        f'driftwatch_ready{{{copy}, check="mongodb"}}': UP,
        f'driftwatch_ready{{{copy}, check="clock"}}': UP,
        f'driftwatch_ready{{{copy}, check="migrations"}}': UP,
        f'driftwatch_ready{{{copy}, check="serving"}}': UP,
        f'{REQUESTS}_count{{{copy}, route="/runs", method="GET", status="2xx"}}': "0+600x180",
    }


A, B = copy_of_service("a"), copy_of_service("b")
WORK = {
    'up{job="driftwatch-work", instance="c"}': UP,
    'driftwatch_database_up{job="driftwatch-work", instance="c"}': UP,
    'driftwatch_ready{job="driftwatch-work", instance="c", check="mongodb"}': UP,
    'driftwatch_ready{job="driftwatch-work", instance="c", check="clock"}': UP,
    'driftwatch_build_info{job="driftwatch-work", instance="c", version="1.0.0", schema="1.1.0"}': UP,
    f'{SUCCESS}{{job="driftwatch-work", instance="c", task="purge"}}': JUST_NOW,
}
HEALTHY = A | B | WORK
HOURLY = f'{SUCCESS}{{job="driftwatch-work", instance="c", task="sweep_files"}}'
WITHOUT_REQUESTS = {series: values for series, values in HEALTHY.items() if not series.startswith(REQUESTS)}


def changed(values: str, name: str, labels: str = "") -> dict[str, str]:
    """Return the series of the healthy situation that have this name and these labels, with other values."""
    series = [series for series in HEALTHY if series.startswith(f"{name}{{") and labels in series]
    assert series, (name, labels)
    return dict.fromkeys(series, values)


def requests(status: str, values: str, route: str = "/runs") -> dict[str, str]:
    return {f'{REQUESTS}_count{{instance="a", route="{route}", method="POST", status="{status}"}}': values}


def durations(name: str, quick: int, slow: int, route: str = "/runs") -> dict[str, str]:
    """Return a histogram that gets so many observations of 0.1 s (quick) and of 10 s (slow) each minute."""
    within = {"0.1": quick, "1": quick, "5": quick, "10": quick + slow, "+Inf": quick + slow}
    buckets = {
        f'{name}_bucket{{instance="a", route="{route}", le="{bound}"}}': f"0+{number}x180"
        for bound, number in within.items()
    }
    return buckets | {f'{name}_count{{instance="a", route="{route}"}}': f"0+{quick + slow}x180"}


def refused(reason: str, values: str) -> dict[str, str]:
    return {f'{REFUSED}{{instance="a", reason="{reason}"}}': values}


def refused_identities(way: str, values: str) -> dict[str, str]:
    return {f'{REFUSED_IDENTITIES}{{instance="a", way="{way}"}}': values}


def every_minute(first: int, last: int) -> dict[int, list[str]]:
    """Expect no alert in any of these minutes."""
    return {minute: [] for minute in range(first, last + 1)}


# The series of each situation, and the alerts that fire in some of its minutes.
SITUATIONS: dict[str, tuple[dict[str, str], dict[int, list[str]]]] = {
    "all is well": (HEALTHY, {1: [], 90: [], 170: []}),
    "Prometheus scrapes nothing": (
        {},
        {0: [], 2: ["DriftWatchDown"], 6: ["DriftWatchDown", "DriftWatchWorkDown"]},
    ),
    "no copy responds": (
        WORK | dict.fromkeys(A | B, NONE) | changed(DOWN_FROM_30_TO_90, "up", 'job="driftwatch"'),
        {30: [], 60: ["DriftWatchDown"], 120: []},
    ),
    "one of two copies does not respond": (
        B | WORK | {'up{job="driftwatch", instance="a"}': DOWN_AFTER_30},
        {30: [], 32: [], 60: ["DriftWatchCopyDown"]},
    ),
    "a copy restarts": (
        HEALTHY
        | dict.fromkeys(A, "1+0x30 _ 1+0x149")
        | changed("1+0x29 0 _ 1+0x149", "driftwatch_ready", 'instance="a", check="serving"')
        | changed("9000+600x30 _ 0+600x149", f"{REQUESTS}_count", 'instance="a"')
        | {'up{job="driftwatch", instance="a"}': "1+0x30 0 1+0x149"},
        every_minute(28, 60),
    ),
    "one of two copies needs a migration": (
        HEALTHY | changed(DOWN_AFTER_30, "driftwatch_ready", 'instance="a", check="migrations"'),
        {30: [], 32: [], 60: ["DriftWatchCopyNotReady"]},
    ),
    "all copies need a migration": (
        HEALTHY | changed(DOWN_AFTER_30, "driftwatch_ready", 'check="migrations"'),
        {30: [], 32: [], 60: ["DriftWatchCopyNotReady", "DriftWatchCopyNotReady", "DriftWatchNotReady"]},
    ),
    "each copy has another problem": (
        HEALTHY
        | changed(DOWN_AFTER_30, "driftwatch_ready", 'instance="a", check="migrations"')
        | changed(DOWN_AFTER_30, "driftwatch_ready", 'instance="b", check="clock"'),
        {30: [], 60: ["DriftWatchCopyNotReady", "DriftWatchNotReady", "DriftWatchClockWrong"]},
    ),
    "the clock of a copy is wrong": (
        HEALTHY | changed(DOWN_AFTER_30, "driftwatch_ready", 'instance="a", check="clock"'),
        {30: [], 32: [], 60: ["DriftWatchClockWrong"]},
    ),
    "the database is away": (
        HEALTHY
        | changed(DOWN_FROM_30_TO_90, "driftwatch_ready")
        | changed(DOWN_FROM_30_TO_90, "driftwatch_database_up"),
        {30: [], 60: ["DriftWatchDatabaseAway"], 120: []},
    ),
    "the database is away from the copies, and not from the background process": (
        HEALTHY
        | changed(DOWN_AFTER_30, "driftwatch_ready", 'job="driftwatch"')
        | changed(DOWN_AFTER_30, "driftwatch_database_up", 'job="driftwatch"'),
        {30: [], 60: ["DriftWatchDatabaseAway"]},
    ),
    "the clock of the background process is wrong": (
        HEALTHY | changed(DOWN_AFTER_30, "driftwatch_ready", 'instance="c", check="clock"'),
        {60: []},
    ),
    "the database is away from one copy": (
        HEALTHY
        | changed(DOWN_AFTER_30, "driftwatch_ready", 'instance="a"')
        | changed(DOWN_AFTER_30, "driftwatch_database_up", 'instance="a"'),
        {30: [], 32: [], 60: ["DriftWatchCopyNotReady"]},
    ),
    "an election takes less than a minute": (
        HEALTHY
        | changed("1+0x30 0 1+0x149", "driftwatch_ready")
        | changed("1+0x30 0 1+0x149", "driftwatch_database_up"),
        every_minute(30, 40),
    ),
    "a release stays half done": (
        HEALTHY
        | changed("1+0x30 _x150", "driftwatch_build_info", 'instance="b"')
        | {'driftwatch_build_info{job="driftwatch", instance="b", version="1.1.0", schema="1.1.0"}': "_x30 1+0x150"},
        {30: [], 80: [], 95: ["DriftWatchVersionsDiffer"]},
    ),
    "a tenth of the requests fail for an hour": (
        HEALTHY | requests("5xx", "_x30 0+150x60 9000+0x90"),
        {30: [], 60: ["DriftWatchErrors"], 110: []},
    ),
    "all requests fail since the first one": (
        WITHOUT_REQUESTS | requests("5xx", "_x30 50+150x150"),
        {30: [], 60: ["DriftWatchErrors"]},
    ),
    "half of the requests fail for a moment": (
        HEALTHY | requests("5xx", "0+0x30 1000+1000x1 2000+0x148"),
        every_minute(30, 40),
    ),
    "half of the requests fail among many health checks": (
        WITHOUT_REQUESTS
        | requests("2xx", "0+60000x180", route="/livez")
        | requests("2xx", "0+60x180")
        | requests("5xx", "0+60x180"),
        {60: ["DriftWatchErrors"]},
    ),
    "one request in a hundred fails": (HEALTHY | requests("5xx", "0+13x180"), {60: []}),
    "few requests come, and half of them fail": (
        WITHOUT_REQUESTS | requests("2xx", "0+1x180") | requests("5xx", "0+1x180"),
        {60: []},
    ),
    "health checks fail, and one request in 400": (
        HEALTHY | requests("5xx", "0+6000x180", route="/readyz") | requests("5xx", "0+3x180"),
        {60: []},
    ),
    "health checks fail, and half of few requests": (
        WITHOUT_REQUESTS
        | requests("5xx", "0+6000x180", route="/readyz")
        | requests("2xx", "0+1x180")
        | requests("5xx", "0+1x180"),
        {60: []},
    ),
    "one request in twenty takes 10 s": (
        HEALTHY | durations(REQUESTS, quick=95, slow=5),
        {10: [], 60: ["DriftWatchSlow"]},
    ),
    "one request in a thousand takes 10 s": (HEALTHY | durations(REQUESTS, quick=999, slow=1), {60: []}),
    "few requests come, and are slow": (
        WITHOUT_REQUESTS | durations(REQUESTS, quick=0, slow=2),
        {60: []},
    ),
    "few requests come, and are slow, with many health checks": (
        WITHOUT_REQUESTS
        | durations(REQUESTS, quick=0, slow=2)
        | durations(REQUESTS, quick=1000, slow=0, route="/readyz"),
        {60: []},
    ),
    "health checks are slow": (
        HEALTHY | durations(REQUESTS, quick=100, slow=0) | durations(REQUESTS, quick=0, slow=100, route="/readyz"),
        {60: []},
    ),
    "one database command in ten takes 10 s": (
        HEALTHY | durations(COMMANDS, quick=90, slow=10),
        {10: [], 60: ["DriftWatchDatabaseSlow"]},
    ),
    "one database command in a hundred takes 10 s": (HEALTHY | durations(COMMANDS, quick=99, slow=1), {60: []}),
    "few database commands run, and are slow": (HEALTHY | durations(COMMANDS, quick=0, slow=2), {60: []}),
    "too many requests come for an hour": (
        HEALTHY | refused("busy", "_x30 5+60x60 3600+0x90"),
        {30: [], 60: ["DriftWatchBusy"], 110: []},
    ),
    "too many searches come": (HEALTHY | refused("searches", "_x30 5+60x150"), {30: [], 60: ["DriftWatchBusy"]}),
    "too many requests come for a moment": (HEALTHY | refused("busy", "0+0x30 25+0x149"), every_minute(30, 45)),
    "a request is refused each minute": (HEALTHY | refused("busy", "0+1x180"), {60: []}),
    "clients exceed their rates": (HEALTHY | refused("rate", "0+600x180"), {60: []}),
    "passwords are guessed for half an hour": (
        HEALTHY | refused_identities("login", "0+0x30 10+10x30 310+0x119"),
        {30: [], 45: ["DriftWatchLoginsFail"], 90: []},
    ),
    "some passwords are mistyped, and the service restarts": (
        HEALTHY | refused_identities("login", "1000+1x30 0+1x149"),
        every_minute(20, 60),
    ),
    "half of the requests have bad tokens": (
        WITHOUT_REQUESTS
        | requests("2xx", "0+10x180")
        | requests("4xx", "_x30 0+10x150")
        | refused_identities("token", "0+0x30 10+10x149"),
        {30: [], 60: ["DriftWatchTokensFail"]},
    ),
    "one request in twenty has a bad token": (HEALTHY | refused_identities("token", "0+60x180"), {60: []}),
    "few requests come, and half of them have bad tokens": (
        WITHOUT_REQUESTS
        | requests("2xx", "0+0.5x180")
        | requests("4xx", "0+0.5x180")
        | refused_identities("token", "0+0.5x180"),
        {60: []},
    ),
    "half of the requests have bad tokens, among many health checks": (
        WITHOUT_REQUESTS
        | requests("2xx", "0+10000x180", route="/livez")
        | requests("2xx", "0+10x180")
        | requests("4xx", "0+10x180")
        | refused_identities("token", "0+10x180"),
        {60: ["DriftWatchTokensFail"]},
    ),
    "one request in 15 has a bad token, and logins fail": (
        WITHOUT_REQUESTS
        | requests("2xx", "0+24x180")
        | requests("4xx", "0+6x180")
        | refused_identities("token", "0+2x180")
        | refused_identities("login", "0+4.5x180"),
        {60: []},
    ),
    "few requests come, half of them with bad tokens, and logins fail": (
        WITHOUT_REQUESTS
        | requests("2xx", "0+0.5x180")
        | requests("4xx", "0+0.5x180")
        | refused_identities("token", "0+0.5x180")
        | refused_identities("login", "0+3x180"),
        {60: []},
    ),
    "many requests have bad tokens for a moment": (
        WITHOUT_REQUESTS
        | requests("2xx", "0+10x180")
        | requests("4xx", "0+0x30 100+0x149")
        | refused_identities("token", "0+0x30 100+0x149"),
        every_minute(30, 60),
    ),
    "the cache in Redis is away": (
        HEALTHY
        | {
            f'driftwatch_cache_up{{instance="{each}"}}': values
            for each, values in {"a": DOWN_AFTER_30, "b": UP}.items()
        },
        {33: [], 60: ["DriftWatchCacheAway"]},
    ),
    "the cache in Redis is away for a moment": (
        HEALTHY | {'driftwatch_cache_up{instance="a"}': "1+0x30 0+0x3 1+0x140"},
        every_minute(28, 40),
    ),
    "a task no longer succeeds": (
        HEALTHY | changed("0+60x30 1800+0x150", SUCCESS),
        {30: [], 80: [], 100: ["DriftWatchTaskLate"]},
    ),
    "a task that runs every hour takes a quarter of one": (
        HEALTHY | {HOURLY: "0+0x74 4500+0x105"},
        every_minute(60, 80),
    ),
    "a task that runs every hour no longer succeeds": (
        HEALTHY | {HOURLY: "0+0x180"},
        {120: [], 130: ["DriftWatchTaskLate"]},
    ),
    "another process takes over a task": (
        HEALTHY
        | changed("0+60x30 1800+0x150", SUCCESS)
        | {f'{SUCCESS}{{job="driftwatch-work", instance="d", task="purge"}}': "_x30 1800+60x150"},
        {100: []},
    ),
    "a task fails again and again": (
        HEALTHY | {'driftwatch_background_task_failures_in_a_row{instance="c", task="purge"}': "0+0x30 1+1x149"},
        {33: [], 60: ["DriftWatchTaskFails"]},
    ),
    "no background process responds": (
        HEALTHY | dict.fromkeys(WORK, NONE) | changed(DOWN_AFTER_30, "up", "driftwatch-work"),
        {30: [], 33: [], 60: ["DriftWatchWorkDown"]},
    ),
    "one of two background processes does not respond": (
        HEALTHY | {'up{job="driftwatch-work", instance="d"}': DOWN},
        {60: []},
    ),
    "runs stay overdue": (
        HEALTHY | {'driftwatch_runs_overdue{instance="a"}': "0+0x30 3+0x149"},
        {35: [], 60: ["DriftWatchRunsOverdue"]},
    ),
    "runs are overdue again and again, each for a moment": (
        HEALTHY | {'driftwatch_runs_overdue{instance="a"}': "0 1 " * 20},
        every_minute(10, 39),
    ),
    "many jobs die": (
        HEALTHY | {'driftwatch_failed_runs_total{instance="c", reason="overdue"}': "0+0x30 20+0x149"},
        {30: [], 40: ["DriftWatchRunsTimeOut"], 100: []},
    ),
    "a job dies each half hour": (
        HEALTHY
        | {'driftwatch_failed_runs_total{instance="c", reason="overdue"}': "0+0x29 1+0x29 2+0x29 3+0x29 4+0x29"},
        every_minute(60, 120),
    ),
    "many jobs report that they failed": (
        HEALTHY | {'driftwatch_failed_runs_total{instance="a", reason="reported"}': "0+10x180"},
        {60: []},
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_alerts_that_fire(situation: str, tmp_path: Path) -> None:
    series, expected = SITUATIONS[situation]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": number} for alert, number in Counter(alerts).items()
                ],
            }
            for minute, alerts in expected.items()
        ],
    }
    file = tmp_path / "test.yml"
    rules = str(DEPLOYED / "alerts.yml")
    file.write_text(json.dumps({"rule_files": [rules], "evaluation_interval": "1m", "tests": [test]}))
    judge("promtool", "test", "rules", file)


def test_each_alert_fires_in_a_situation() -> None:
    firing = {alert for _, expected in SITUATIONS.values() for alerts in expected.values() for alert in alerts}
    assert {alert["alert"] for alert in ALERTS} == firing


def test_tasks_that_run_every_hour_may_be_late_for_two() -> None:
    (late,) = [alert["expr"] for alert in ALERTS if alert["alert"] == "DriftWatchTaskLate"]
    hourly = "|".join(task.name for task in TASKS if task.every >= timedelta(hours=1))
    assert re.findall(r'task(!~|=~)"(.*?)"}\) > (\d+)', late) == [("!~", hourly, "3600"), ("=~", hourly, "7200")]
