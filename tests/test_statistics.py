"""`POST …/drift/stats`: counts, drift rates and distributions of readable runs, by group and interval."""

import datetime
import math
import statistics
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure
from pytest_django import Settings
from rest_framework.exceptions import ValidationError

from core.api.search import bounded_time
from drifts.intervals import Calendar, Interval
from drifts.models import Drift, DriftQuerySet
from drifts.statistics import Statistics
from drifts.statistics_views import ADVICE
from drifts.verdict import EXPRESSION, MATCHES, MEASURED, JobStatus, Verdict, verdict_of
from experiments.models import Experiment
from tests import golden
from tests.caller import Caller
from tests.profiler import reads_of
from tests.test_observed_at import as_older_record

reproducible = settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
UTC = datetime.UTC
MINUTE = datetime.timedelta(minutes=1)


def add(experiment: Experiment, *several: dict[str, Any], **fields: Any) -> None:
    """Add a completed run of the forest for each of `several`, with these fields."""
    run = {"job_status": "Completed", "model": "forest", **fields}
    Drift.objects.bulk_create([Drift(experiment=experiment, **{**run, **own}) for own in several])


def add_at(experiment: Experiment, *times: str, **fields: Any) -> None:
    add(experiment, *({"observed_at": datetime.datetime.fromisoformat(time)} for time in times), **fields)


def add_parameters(experiment: Experiment, *values: Any) -> None:
    """Add a run for each value of the parameter `p`."""
    add(experiment, *({"parameters": {"p": value}} for value in values))


@pytest.fixture
def ask(reader: Caller, experiment: Experiment) -> Any:
    """Request statistics of the experiment as its reader, and return the rows: `ask(group_by="model")`."""

    def rows(**body: Any) -> list[dict[str, Any]]:
        response = reader.post(f"/experiment/{experiment.id}/drift/stats", body)
        assert response.status_code == 200, response.content
        found: list[dict[str, Any]] = response.json()
        return found

    return rows


@pytest.fixture
def refused(reader: Caller, experiment: Experiment) -> Any:
    """Request statistics as the reader, require a 422, and return its body."""

    def body(document: Any) -> dict[str, Any]:
        response = reader.post(f"/experiment/{experiment.id}/drift/stats", document)
        assert response.status_code == 422, response.content
        body: dict[str, Any] = response.json()
        return body

    return body


def counted(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The values and the count of each group."""
    return [(*row["group"].values(), row["count"]) for row in rows]


# Counts and rates.


def test_all_runs_are_one_group_by_default(ask: Any, experiment: Experiment) -> None:
    add(experiment, {"drift_detected": True}, {"drift_detected": False}, {"job_status": "Failed"}, {})
    assert ask() == [
        {
            "start": None,
            "group": {},
            "count": 4,
            "verdicts": {"drift": 1, "no_drift": 2, "unknown": 1},
            "drift_rate": 1 / 3,
            "measures": {},
        }
    ]


def test_there_are_no_rows_without_runs(ask: Any) -> None:
    assert ask() == ask(group_by="model", interval="day", measures="parameters.p") == []


def test_the_drift_rate_counts_only_known_verdicts(ask: Any, experiment: Experiment) -> None:
    add(experiment, *[{"drift_detected": True}] * 3, {"drift_detected": False})
    add(experiment, *[{"job_status": "Running", "drift_detected": True}] * 5)
    (row,) = ask()
    assert (row["drift_rate"], row["verdicts"]["unknown"]) == (0.75, 5)


def test_runs_that_are_not_completed_have_no_drift_rate(ask: Any, experiment: Experiment) -> None:
    add(experiment, {"job_status": "Failed", "drift_detected": True})
    assert ask()[0]["drift_rate"] is None


@pytest.mark.parametrize(("status", "detected"), list(product(JobStatus.values, (True, False))))
def test_the_three_implementations_of_the_verdict_agree(experiment: Experiment, status: str, detected: bool) -> None:
    add(experiment, {"job_status": status, "drift_detected": detected})
    (document,) = Drift.objects.all().aggregated({"$project": {"verdict": EXPRESSION}})
    verdict = verdict_of(status, detected)
    assert Verdict(document["verdict"]) is verdict
    assert [name for name in Verdict if Drift.objects.matching(MATCHES[name])] == [verdict]


def test_only_runs_that_the_filter_finds_are_counted(ask: Any, experiment: Experiment) -> None:
    add(experiment, {}, {"drift_detected": True}, {"model": "tree", "drift_detected": True})
    assert ask(filter={"model": "forest", "verdict": "drift"})[0]["count"] == 1


def test_only_runs_of_the_experiment_are_counted(ask: Any, experiment: Experiment) -> None:
    add(Experiment.objects.create(name="another", public=True), {})
    add(experiment, {})
    assert ask()[0]["count"] == 1
    assert ask(filter={"experiment_id": str(Experiment.objects.get(name="another").id)}) == []


def test_unsupported_runs_are_counted_apart_on_request_and_keep_their_verdict(ask: Any, experiment: Experiment) -> None:
    add(experiment, {}, {}, {"drift_detected": True}, {"job_status": "Failed"})
    add(experiment, {"parameters": {"p": None}}, *({name: 0} for name in MEASURED))
    (row,) = ask(unsupported=True)
    assert row["verdicts"] == {"drift": 1, "no_drift": 7, "unknown": 1}
    assert row["unsupported"] == 2
    assert "unsupported" not in ask(unsupported=False)[0]
    assert counted(ask(unsupported=True, group_by="verdict")) == [("no_drift", 7), ("drift", 1), ("unknown", 1)]


def test_the_golden_series(ask: Any, experiment: Experiment) -> None:
    golden.store_g1(experiment)
    (row,) = ask(group_by="series")
    assert row["group"] == {"series": {"model": "forest"}}
    assert row["verdicts"] == golden.VERDICTS
    assert row["drift_rate"] == pytest.approx(golden.RATE, abs=golden.PRECISION)
    days = ask(interval="day")
    assert [day["start"][:10] for day in days] == [f"2026-01-{number:02}" for number in range(1, golden.COUNT + 1)]


# Groups.


def test_the_largest_group_comes_first(ask: Any, experiment: Experiment) -> None:
    add(experiment, *({"model": name} for name in ("tree", "forest", "forest", "svm", "tree", "tree")))
    assert counted(ask(group_by="model")) == [("tree", 3), ("forest", 2), ("svm", 1)]


def test_groups_of_equal_size_are_sorted_by_name(ask: Any, experiment: Experiment) -> None:
    add(experiment, *({"model": name} for name in "cab"))
    assert counted(ask(group_by="model")) == [("a", 1), ("b", 1), ("c", 1)]


@pytest.mark.parametrize(
    ("name", "values", "groups"),
    [
        ("job_status", ["Running", "Completed", "Completed"], [("Completed", 2), ("Running", 1)]),
        ("detector", ["KS", None, "KS"], [("KS", 2), (None, 1)]),
        ("environment", ["staging", "production", "production"], [("production", 2), ("staging", 1)]),
        ("model_version", ["1.4", None, "1.4"], [("1.4", 2), (None, 1)]),
        ("feature", ["age", None, None], [(None, 2), ("age", 1)]),
    ],
)
def test_runs_are_grouped_by_a_field(
    ask: Any, experiment: Experiment, name: str, values: list[Any], groups: list[Any]
) -> None:
    add(experiment, *({name: value} for value in values))
    assert counted(ask(group_by=name)) == groups


def test_runs_are_grouped_by_verdict(ask: Any, experiment: Experiment) -> None:
    add(experiment, *[{"drift_detected": True}] * 2, *[{"job_status": "Running", "drift_detected": True}] * 3, {})
    assert counted(ask(group_by="verdict")) == [("unknown", 3), ("drift", 2), ("no_drift", 1)]


def test_a_run_counts_in_each_of_its_tags_or_else_in_null(ask: Any, experiment: Experiment) -> None:
    add(experiment, {"tags": ["nightly", "eu"]}, {"tags": ["nightly"]}, {"tags": []})
    assert counted(ask(group_by="tags")) == [("nightly", 2), (None, 1), ("eu", 1)]


def test_runs_are_grouped_by_several_names(ask: Any, experiment: Experiment) -> None:
    add(experiment, {"tags": ["eu"], "drift_detected": True}, {"tags": ["eu"], "model": "tree"}, {"tags": ["eu"]})
    rows = ask(group_by=["tags", "model"])
    assert [row["group"] for row in rows] == [{"tags": "eu", "model": "forest"}, {"tags": "eu", "model": "tree"}]
    assert [row["drift_rate"] for row in rows] == [0.5, 0]


def test_runs_are_grouped_by_series(ask: Any, experiment: Experiment) -> None:
    add(experiment, {"feature": "age", "detector": "KS"}, {"feature": "age", "detector": "KS"}, {})
    add(experiment, {"model": "older"})
    as_older_record(Drift.objects.get(model="older").pk.hex)
    assert counted(ask(group_by="series")) == [
        ({"detector": "KS", "feature": "age", "model": "forest"}, 2),
        (None, 1),
        ({"model": "forest"}, 1),
    ]


def test_a_single_name_is_accepted_with_or_without_a_list(ask: Any, experiment: Experiment) -> None:
    add(experiment, {}, {"model": "tree"})
    assert ask(group_by="model") == ask(group_by=["model"]) == ask(group_by=["model", "model"])


def test_a_parameter_groups_by_its_scalars(ask: Any, experiment: Experiment) -> None:
    add_parameters(experiment, "a", "a", 1, 1.0, True, False, "", 2**53 + 1)
    groups = {(type(value), value): count for value, count in counted(ask(group_by="parameters.p"))}
    assert groups.pop((str, "a")) == 2
    assert groups.pop((int, 1), 0) + groups.pop((float, 1.0), 0) == 2
    assert groups == {(bool, True): 1, (bool, False): 1, (str, ""): 1, (int, 2**53 + 1): 1}


def test_values_that_are_not_scalars_are_grouped_with_missing_ones(ask: Any, experiment: Experiment) -> None:
    add_parameters(experiment, None, {}, {"a": 1}, [], [1], "x" * 256, "x" * 255)
    add(experiment, {"parameters": {}})
    assert counted(ask(group_by="parameters.p")) == [(None, 7), ("x" * 255, 1)]


def test_a_path_has_the_same_meaning_as_in_a_filter(ask: Any, experiment: Experiment) -> None:
    add(
        experiment,
        {"parameters": {"p_values": [0.5, {"a": [7, 8]}], "a": {"b": {"c": "deep"}, "0": "named", "b$": 3}}},
    )
    for path, value in {
        "p_values.0": 0.5,
        "p_values.1.a.1": 8,
        "p_values.2": None,
        "a.b.c": "deep",
        "a.0": "named",
        "a.b$": 3,
        "a.b.c.d": None,
    }.items():
        assert counted(ask(group_by=f"parameters.{path}")) == [(value, 1)]
        assert ask(filter={f"parameters.{path}": value})[0]["count"] == 1


# Measures.


def test_only_numbers_are_measured(ask: Any, experiment: Experiment) -> None:
    add_parameters(experiment, 1, 2.5, 4, "5", True, None, [6], {"a": 7})
    add(experiment, {"parameters": {}})
    (row,) = ask(measures="parameters.p", percentiles=[0, 25, 50, 100])
    assert row["count"] == 9
    assert row["measures"] == {
        "parameters.p": {
            "count": 3,
            "min": 1,
            "mean": 2.5,
            "max": 4,
            "percentiles": {"0": 1, "25": 1.75, "50": 2.5, "100": 4},
        }
    }


def test_the_typed_numbers_are_measured(ask: Any, experiment: Experiment) -> None:
    numbers = {"p_value": 0.25, "statistic": -3.5, "threshold": 0.05, "sample_size": 2**53 + 1}
    add(experiment, numbers, {"parameters": {"p_value": 0.75}})
    measures = ask(measures=list(numbers), percentiles=[])[0]["measures"]
    assert {name: (found["count"], found["max"]) for name, found in measures.items()} == {
        name: (1, number) for name, number in numbers.items()
    }
    both = ask(measures=["p_value", "parameters.p_value"], percentiles=[])[0]["measures"]
    assert [found["mean"] for found in both.values()] == [0.25, 0.75]


def test_measures_are_null_without_numbers(ask: Any, experiment: Experiment) -> None:
    add_parameters(experiment, "a")
    assert ask(measures="parameters.p")[0]["measures"]["parameters.p"] == {
        "count": 0,
        "min": None,
        "mean": None,
        "max": None,
        "percentiles": {"50": None, "90": None, "99": None},
    }


def test_each_group_is_measured_separately(ask: Any, experiment: Experiment) -> None:
    add(experiment, *({"model": name, "parameters": {"p": p, "q": -p}} for name, p in (("a", 1), ("a", 3), ("b", 9))))
    rows = ask(group_by="model", measures=["parameters.p", "parameters.q"], percentiles=[])
    assert [[row["measures"][f"parameters.{name}"]["mean"] for name in "pq"] for row in rows] == [[2, -2], [9, -9]]


def test_percentiles_are_named_by_the_requested_number(ask: Any, experiment: Experiment) -> None:
    add_parameters(experiment, 1, 2)
    shown = ask(measures="parameters.p", percentiles=[50.0, 99.9, 5])[0]["measures"]["parameters.p"]["percentiles"]
    assert shown == {"50": 1.5, "99.9": pytest.approx(1.999), "5": pytest.approx(1.05)}


def test_only_measures_that_overflow_are_null(ask: Any, experiment: Experiment) -> None:
    add_parameters(experiment, 1.7e308, 1.7e308, -1.7e308, 1.7e308)
    measured = ask(measures="parameters.p", percentiles=[20, 50])[0]["measures"]["parameters.p"]
    assert (measured["min"], measured["mean"], measured["max"]) == (-1.7e308, None, 1.7e308)
    assert measured["percentiles"] == {"20": pytest.approx(0.2 * 1.7e308), "50": 1.7e308}


def test_integers_stay_integers(ask: Any, experiment: Experiment) -> None:
    largest = 2**63 - 1
    add_parameters(experiment, largest, largest, -(2**63))
    measured = ask(measures="parameters.p")[0]["measures"]["parameters.p"]
    assert (measured["min"], measured["max"], measured["percentiles"]["50"]) == (-(2**63), largest, largest)


NUMBERS = st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9)


@settings(reproducible, max_examples=60)
@given(numbers=st.lists(NUMBERS, min_size=2, max_size=40))
def test_measures_equal_those_of_the_standard_library(experiment: Experiment, numbers: list[float]) -> None:
    Drift.objects.all().delete()
    add_parameters(experiment, *numbers)
    requested = Statistics(measures=("parameters.p",), percentiles=tuple(range(101)))
    measured = requested.of(Drift.objects.all())[0]["measures"]["parameters.p"]
    quantiles = [min(numbers), *statistics.quantiles(numbers, n=100, method="inclusive"), max(numbers)]
    assert (measured["count"], measured["min"], measured["max"]) == (len(numbers), min(numbers), max(numbers))
    assert math.isclose(measured["mean"], statistics.fmean(numbers), rel_tol=1e-9, abs_tol=1e-6)
    assert list(measured["percentiles"].values()) == pytest.approx(quantiles, rel=1e-9, abs=1e-6)


# Intervals.


def starts(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["start"], row["count"]) for row in rows]


def test_intervals_are_in_utc_by_default(ask: Any, experiment: Experiment) -> None:
    add_at(experiment, "2026-01-01T00:00Z", "2025-12-31T23:59:59.999Z", "2026-01-01T23:59:59.999Z", "2026-01-31T12:00Z")
    assert starts(ask(interval="day")) == [
        ("2025-12-31T00:00:00Z", 1),
        ("2026-01-01T00:00:00Z", 2),
        ("2026-01-31T00:00:00Z", 1),
    ]
    assert starts(ask(interval="month")) == [("2025-12-01T00:00:00Z", 1), ("2026-01-01T00:00:00Z", 3)]


def test_weeks_start_on_monday(ask: Any, experiment: Experiment) -> None:
    add_at(experiment, "2026-01-04T23:59Z", "2026-01-05T00:00Z", "2026-01-11T23:59Z", "2026-01-12T00:00Z")
    assert starts(ask(interval="week")) == [
        ("2025-12-29T00:00:00Z", 1),
        ("2026-01-05T00:00:00Z", 2),
        ("2026-01-12T00:00:00Z", 1),
    ]


@pytest.mark.parametrize(
    ("zone", "interval", "first", "last", "expected"),
    [
        pytest.param(
            *("Europe/Berlin", "day", "2026-03-28T23:00Z", "2026-03-29T21:00Z"),
            ["2026-03-29T00:00:00+01:00"],
            id="a day of 23 hours",
        ),
        pytest.param(
            *("Europe/Berlin", "day", "2026-10-24T22:00Z", "2026-10-25T22:00Z"),
            ["2026-10-25T00:00:00+02:00"],
            id="a day of 25 hours",
        ),
        pytest.param(
            *("Europe/Berlin", "hour", "2026-10-25T00:00Z", "2026-10-25T02:00Z"),
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
            id="an hour that clocks show twice",
        ),
        pytest.param(
            *("Europe/Berlin", "hour", "2026-03-29T00:00Z", "2026-03-29T01:00Z"),
            ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"],
            id="an hour that clocks do not show",
        ),
        pytest.param(
            *("Europe/Berlin", "week", "2026-10-18T22:00Z", "2026-10-25T22:00Z"),
            ["2026-10-19T00:00:00+02:00"],
            id="a week in which clocks are changed",
        ),
        pytest.param(
            *("Europe/Berlin", "month", "2026-09-30T22:00Z", "2026-10-31T22:00Z"),
            ["2026-10-01T00:00:00+02:00"],
            id="a month in which clocks are changed",
        ),
        pytest.param(
            *("Asia/Kolkata", "hour", "2026-01-01T00:00Z", "2026-01-01T00:30Z"),
            ["2026-01-01T05:00:00+05:30", "2026-01-01T06:00:00+05:30"],
            id="an offset of half an hour",
        ),
        pytest.param(
            *("Australia/Lord_Howe", "hour", "2026-04-04T14:59Z", "2026-04-04T15:00Z"),
            ["2026-04-05T01:00:00+11:00", "2026-04-05T01:30:00+10:30"],
            id="a change by half an hour",
        ),
        pytest.param(
            *("Africa/Cairo", "day", "2026-04-23T21:59Z", "2026-04-23T22:00Z"),
            ["2026-04-23T00:00:00+02:00", "2026-04-24T01:00:00+03:00"],
            id="a day without midnight",
        ),
        pytest.param(
            *("Pacific/Apia", "day", "2011-12-30T09:59Z", "2011-12-30T10:00Z"),
            ["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"],
            id="a day that never was",
        ),
    ],
)
def test_intervals_follow_the_time_zone(
    ask: Any, experiment: Experiment, zone: str, interval: str, first: str, last: str, expected: list[str]
) -> None:
    """Test with a run at every half hour from `first` to `last`, and one at `last`."""
    time, end = (datetime.datetime.fromisoformat(text) for text in (first, last))
    times = [end]
    while time < end:
        times.append(time)
        time += datetime.timedelta(minutes=30)
    add(experiment, *({"observed_at": time} for time in times))
    assert [row["start"] for row in ask(interval=interval, time_zone=zone)] == expected


def test_an_older_run_is_in_the_interval_in_which_it_was_reported(ask: Any, experiment: Experiment) -> None:
    add_at(experiment, "2026-01-03T12:00Z", "2026-01-01T12:00Z")
    add(experiment, {"model": "older"})
    as_older_record(Drift.objects.get(model="older").pk.hex, datetime.datetime(2026, 1, 2, 12, tzinfo=UTC))
    expected = [(f"2026-01-{day:02}T00:00:00Z", 1) for day in (1, 2, 3)]
    assert starts(ask(interval="day")) == expected
    after = {"observed_at": {"$gt": "2026-01-02"}}
    assert starts(ask(interval="day", filter=after)) == expected[1:]


def test_a_run_that_an_older_release_stores_meanwhile_is_left_out(
    ask: Any, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_at(experiment, "2026-01-03T12:00Z", "2026-01-01T12:00Z")
    as_older_record(Drift.objects.all()[0].pk.hex)
    monkeypatch.setattr(DriftQuerySet, "time_expression", lambda runs: "$observed_at")
    assert len(ask(interval="day")) == 1


def test_intervals_follow_the_time_of_the_report_on_request(ask: Any, experiment: Experiment) -> None:
    reported = {"created_at": datetime.datetime(2026, 1, 2, 12, tzinfo=UTC)}
    add_at(experiment, "2025-01-03T12:00Z", "2025-01-01T12:00Z", **reported)
    assert starts(ask(interval="day", time_field="created_at")) == [("2026-01-02T00:00:00Z", 2)]
    assert len(ask(interval="day", time_field="observed_at")) == len(ask(interval="day")) == 2


def test_within_an_interval_the_largest_group_comes_first(ask: Any, experiment: Experiment) -> None:
    add_at(experiment, "2026-01-02T12:00Z", "2026-01-02T13:00Z", model="tree")
    add_at(experiment, "2026-01-01T12:00Z", "2026-01-02T12:00Z", "2026-01-03T12:00Z")
    rows = ask(interval="day", group_by="model")
    assert [(row["start"][8:10], row["group"]["model"], row["count"]) for row in rows] == [
        ("01", "forest", 1),
        ("02", "tree", 2),
        ("02", "forest", 1),
        ("03", "forest", 1),
    ]


ZONES = sorted(available_timezones())
TIMES = st.datetimes(datetime.datetime(1972, 2, 1), datetime.datetime(2027, 6, 1), timezones=st.just(UTC))


def shown(time: datetime.datetime, zone: ZoneInfo) -> datetime.datetime:
    return time.astimezone(zone).replace(tzinfo=None)


def truncated(time: datetime.datetime, interval: Interval) -> datetime.datetime:
    match interval:
        case Interval.HOUR:
            return time.replace(minute=0, second=0, microsecond=0)
        case Interval.DAY:
            return datetime.datetime.combine(time, datetime.time())
        case Interval.WEEK:
            return datetime.datetime.combine(time - datetime.timedelta(days=time.weekday()), datetime.time())
        case Interval.MONTH:
            return datetime.datetime.combine(time.replace(day=1), datetime.time())


def start_of(time: datetime.datetime, interval: Interval, zone: ZoneInfo) -> datetime.datetime:
    """The first minute of the interval, found by reading the local clock at every minute."""
    begins = truncated(shown(time, zone), interval)
    if interval is Interval.HOUR:
        minute, offset = time.replace(second=0, microsecond=0), time.astimezone(zone).utcoffset()
        while shown(minute - MINUTE, zone) >= begins and (minute - MINUTE).astimezone(zone).utcoffset() == offset:
            minute -= MINUTE
        return minute
    minute = begins.replace(tzinfo=UTC) - datetime.timedelta(hours=27)
    while shown(minute, zone) < begins:
        minute += MINUTE
    return minute


@settings(reproducible, max_examples=100)
@given(zone=st.sampled_from(ZONES).map(ZoneInfo), interval=st.sampled_from(Interval), times=st.lists(TIMES, max_size=5))
def test_intervals_equal_those_of_a_clock_read_minute_by_minute(
    experiment: Experiment, zone: ZoneInfo, interval: Interval, times: list[datetime.datetime]
) -> None:
    assert_intervals(experiment, zone, interval, times)


def assert_intervals(
    experiment: Experiment, zone: ZoneInfo, interval: Interval, times: list[datetime.datetime]
) -> None:
    Drift.objects.all().delete()
    add(experiment, *({"observed_at": time} for time in times))
    expected = sorted(start_of(time, interval, zone) for time in times)
    rows = Statistics(calendar=Calendar(interval, zone)).of(Drift.objects.all())
    assert [row["start"] for row in rows for _ in range(row["count"])] == expected
    offsets = [row["start"].astimezone(zone).utcoffset() for row in rows]
    assert [row["start"].utcoffset() for row in rows] == offsets


@settings(reproducible, max_examples=100)
@given(st.data())
def test_intervals_equal_those_of_a_clock_around_every_clock_change(
    experiment: Experiment, data: st.DataObject
) -> None:
    zone = ZoneInfo(data.draw(st.sampled_from(ZONES)))
    interval = data.draw(st.sampled_from(Interval))
    changes = [period.start for period in Calendar(interval, zone).periods if period.start.year > 1972]
    if changes:
        change = data.draw(st.sampled_from(changes))
        minutes = data.draw(st.lists(st.integers(-1_600, 1_600), min_size=1, max_size=8))
        assert_intervals(experiment, zone, interval, [change + number * MINUTE for number in minutes])


# Limits and refusals.


def test_too_many_groups_for_a_chart_are_refused(ask: Any, refused: Any, experiment: Experiment) -> None:
    add(experiment, *({"model": str(number)} for number in range(1_000)))
    assert len(ask(group_by="model")) == 1_000
    add(experiment, {"model": "one more"})
    message = refused({"group_by": "model"})["message"]
    assert "more than 1,000 groups" in message
    assert "Narrow the filter" in message
    assert len(ask(filter={"model": {"$lt": "5"}}, group_by="model")) > 400


def test_slow_statistics_are_refused_with_advice(refused: Any, experiment: Experiment, settings: Settings) -> None:
    add(experiment, *[{"parameters": {"note": "a" * 900 + "b"}}] * 2_000)
    settings.SEARCH_TIME_LIMIT = 0.05
    message = refused({"filter": {"parameters.note": {"$regex": "(a+)+$"}}})["message"]
    assert "longer than 0.05 s" in message
    assert "time range" in message


@pytest.mark.parametrize("code", [146, 10334])
def test_statistics_that_need_too_much_memory_are_refused_with_advice(code: int) -> None:
    """The error is raised as MongoDB does for ten million numbers in a group, which would take too long in a test."""
    with pytest.raises(ValidationError, match="request fewer measures"), bounded_time(ADVICE):
        raise OperationFailure("$push used too much memory and cannot spill to disk.", code)


def test_the_runs_are_read_at_most_once(ask: Any, experiment: Experiment) -> None:
    Drift.objects.create_in(experiment, job_status="Completed", model="forest", parameters={"p": 1})
    with reads_of(Drift) as reads:
        ask(group_by=["tags", "verdict"], interval="week", time_zone="Europe/Berlin", measures="parameters.p")
    assert sum(read.documents for read in reads) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filter": []}, "filter"),
        ({"filter": {"$where": "1"}}, "filter.$where"),
        ({"filter": {"colour": "red"}}, "filter.colour"),
        ({"group_by": "colour"}, "group_by.0"),
        ({"group_by": "parameters"}, "group_by.0"),
        ({"group_by": "parameters."}, "group_by.0"),
        ({"group_by": "parameters.$a"}, "group_by.0"),
        ({"group_by": "parameters.a..b"}, "group_by.0"),
        ({"group_by": "parameters" + ".0" * 51}, "group_by.0"),
        ({"group_by": "parameters." + "a" * 300}, "group_by.0"),
        ({"group_by": ["model", "id"]}, "group_by.1"),
        ({"group_by": ["model", 1]}, "group_by.1"),
        ({"group_by": ["model", "verdict", "tags", "detector"]}, "group_by"),
        ({"group_by": {"model": 1}}, "group_by"),
        ({"group_by": None}, "group_by"),
        ({"interval": "minute"}, "interval"),
        ({"interval": 1}, "interval"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "Europe"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "+01:00"}, "time_zone"),
        ({"time_zone": None}, "time_zone"),
        ({"time_field": "updated_at"}, "time_field"),
        ({"time_field": None}, "time_field"),
        ({"unsupported": "yes"}, "unsupported"),
        ({"measures": "model"}, "measures.0"),
        ({"measures": [f"parameters.{name}" for name in "abcdef"]}, "measures"),
        ({"percentiles": [101]}, "percentiles.0"),
        ({"percentiles": [50, -1]}, "percentiles.1"),
        ({"percentiles": ["50"]}, "percentiles.0"),
        ({"percentiles": [True]}, "percentiles.0"),
        ({"percentiles": 50}, "percentiles"),
        ({"percentiles": list(range(11))}, "percentiles"),
        ({"groupby": "model"}, "groupby"),
    ],
    ids=str,
)
def test_an_invalid_parameter_is_refused_by_name(refused: Any, body: Any, field: str) -> None:
    assert refused(body)["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("body", ["[]", '"model"', "null", "1"])
def test_a_body_that_is_not_an_object_is_refused(refused: Any, body: str) -> None:
    assert refused(body)


def test_the_deepest_path_is_accepted(ask: Any, experiment: Experiment) -> None:
    add(experiment, {})
    deepest = "parameters" + ".0" * 50
    assert counted(ask(group_by=deepest, measures=deepest)) == [(None, 1)]


# All experiments together.


@pytest.mark.parametrize(
    ("role", "models"),
    [
        ("anonymous", {"public"}),
        ("newcomer", {"public"}),
        ("outsider", {"public"}),
        ("stranger", {"public"}),
        ("reader", {"public", "private"}),
        ("watcher", {"public", "private"}),
        ("manager", {"public", "private"}),
        ("admin", {"public", "private", "nobody's"}),
    ],
)
def test_only_runs_of_experiments_that_the_caller_may_read_are_counted(
    request: pytest.FixtureRequest, experiment: Experiment, role: str, models: set[str]
) -> None:
    add(experiment, {"model": "private"})
    add(Experiment.objects.create(name="public", public=True), {"model": "public"})
    add(Experiment.objects.create(name="nobody's"), {"model": "nobody's"})
    caller = request.getfixturevalue(role)
    conditions: list[dict[str, Any]] = [{}, {"$nor": [{"model": "nothing"}]}, {"experiment_id": {"$nin": []}}]
    for condition in conditions:
        rows = caller.post("/drift/stats", {"filter": condition, "group_by": "model"}).json()
        assert {row["group"]["model"] for row in rows} == models
