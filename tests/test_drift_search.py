"""`POST /drift/search` finds the runs of every experiment that the caller may read, and no others."""

import json
from typing import Any

import pytest

from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.profiler import commands
from tests.provider import Provider
from tests.times import time_of

SEARCH = "/drift/search"


@pytest.fixture
def runs(experiment: Experiment) -> dict[str, Drift]:
    """A run in each kind of experiment. Its model is named after the experiment's readers."""
    experiments = {
        "private": experiment,
        "public": Experiment.objects.create(name="public", public=True),
        "nobody's": Experiment.objects.create(name="nobody's"),
    }
    return {
        name: Drift.objects.create(experiment=parent, job_status="Completed", model=name, drift_detected=True)
        for name, parent in experiments.items()
    }


def found(response: Any) -> set[str]:
    """The models of the found runs. The header must count the same number."""
    assert response.status_code == 200, response.content
    models = [run["model"] for run in response.json()]
    assert json.loads(response.headers["X-Pagination"])["total"] == len(models)
    return set(models)


@pytest.mark.parametrize(
    ("role", "models"),
    [
        ("anonymous", {"public"}),
        ("newcomer", {"public"}),
        ("outsider", {"public"}),
        ("stranger", {"public"}),
        ("reader", {"public", "private"}),
        ("watcher", {"public", "private"}),
        ("editor", {"public", "private"}),
        ("manager", {"public", "private"}),
        ("admin", {"public", "private", "nobody's"}),
    ],
)
def test_a_search_finds_only_runs_of_experiments_that_the_caller_may_read(
    request: pytest.FixtureRequest, runs: dict[str, Drift], role: str, models: set[str]
) -> None:
    assert found(request.getfixturevalue(role).post(SEARCH, {})) == models


def test_no_filter_finds_runs_that_the_caller_may_not_read(runs: dict[str, Drift], stranger: Caller) -> None:
    hidden = str(runs["private"].experiment_id)
    conditions: list[dict[str, Any]] = [
        {"experiment_id": hidden},
        {"model": "private"},
        {"id": str(runs["private"].id)},
        {"$or": [{"experiment_id": hidden}, {"model": {"$exists": True}}]},
        {"$nor": [{"model": "nothing"}]},
        {"experiment_id": {"$nin": []}},
    ]
    for condition in conditions:
        assert found(stranger.post(SEARCH, condition)) <= {"public"}


def test_a_search_may_name_experiments(runs: dict[str, Drift], reader: Caller) -> None:
    experiment = str(runs["private"].experiment_id)
    assert found(reader.post(SEARCH, {"experiment_id": experiment})) == {"private"}
    assert found(reader.post(SEARCH, {"experiment_id": {"$ne": experiment}})) == {"public"}


def test_runs_of_several_experiments_come_newest_first(runs: dict[str, Drift], reader: Caller) -> None:
    for name in ("private", "public", "private"):
        Drift.objects.create(experiment=runs[name].experiment, job_status="Running", model="later")
    response = reader.post(SEARCH, {}).json()
    times = [time_of(run["created_at"]) for run in response]
    assert len(times) == 5
    assert times == sorted(times, reverse=True)


def test_a_caller_without_experiments_finds_nothing(drift: Drift, anonymous: Caller) -> None:
    assert found(anonymous.post(SEARCH, {})) == set()


def test_a_search_skips_an_experiment_as_soon_as_it_becomes_private(runs: dict[str, Drift], anonymous: Caller) -> None:
    assert found(anonymous.post(SEARCH, {})) == {"public"}
    Experiment.objects.update(public=False)
    assert found(anonymous.post(SEARCH, {})) == set()


def test_entitlements_of_the_token_decide_which_runs_are_found(
    runs: dict[str, Drift], watcher: Caller, provider: Provider
) -> None:
    assert found(watcher.post(SEARCH, {})) == {"public", "private"}
    assert found(Caller(provider.token("watcher", "users")).post(SEARCH, {})) == {"public"}


@pytest.mark.parametrize("number", [20, 250])
def test_a_page_of_many_experiments_is_read_in_index_order(anonymous: Caller, number: int) -> None:
    """MongoDB merges the newest runs of up to 200 experiments. For more, it reads the newest runs of all until ten
    match.
    """
    experiments = Experiment.objects.bulk_create([Experiment(name=str(n), public=True) for n in range(number)])
    run = {"job_status": "Completed", "model": "forest"}
    Drift.objects.bulk_create([Drift(experiment=experiments[n % number], **run) for n in range(3_000)])
    with commands() as seen:
        assert len(anonymous.post(SEARCH, {}).json()) == 10
    examined = [entry["docsExamined"] for entry in seen if entry["ns"].endswith(Drift._meta.db_table)]
    assert examined
    assert sum(examined) <= 100
