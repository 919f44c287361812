"""`POST /drift/search`: the runs of every experiment that the caller may read, and of no other."""

import datetime
import json
from typing import Any

import pytest

from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.profiler import commands
from tests.provider import Provider

SEARCH = "/drift/search"


@pytest.fixture
def runs(experiment: Experiment) -> dict[str, Drift]:
    """A run of each kind of experiment: named for who may read it."""
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
    """The models of the runs found, which are all that the header counts."""
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
def test_a_search_finds_the_runs_of_what_the_caller_may_read_and_no_others(
    request: pytest.FixtureRequest, runs: dict[str, Drift], role: str, models: set[str]
) -> None:
    assert found(request.getfixturevalue(role).post(SEARCH, {})) == models


def test_no_filter_widens_what_is_found(runs: dict[str, Drift], stranger: Caller) -> None:
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
    answer = reader.post(SEARCH, {}).json()
    times = [datetime.datetime.fromisoformat(run["created_at"]) for run in answer]
    assert len(times) == 5
    assert times == sorted(times, reverse=True)


def test_someone_who_may_read_nothing_finds_nothing(drift: Drift, anonymous: Caller) -> None:
    assert found(anonymous.post(SEARCH, {})) == set()


def test_a_search_forgets_an_experiment_as_soon_as_it_is_closed(runs: dict[str, Drift], anonymous: Caller) -> None:
    assert found(anonymous.post(SEARCH, {})) == {"public"}
    Experiment.objects.update(public=False)
    assert found(anonymous.post(SEARCH, {})) == set()


def test_entitlements_count_as_long_as_the_token_that_carries_them(
    runs: dict[str, Drift], watcher: Caller, provider: Provider
) -> None:
    assert found(watcher.post(SEARCH, {})) == {"public", "private"}
    assert found(Caller(provider.token("watcher", "users")).post(SEARCH, {})) == {"public"}


@pytest.mark.parametrize("number", [20, 250])
def test_a_page_of_many_experiments_is_read_from_an_index(anonymous: Caller, number: int) -> None:
    """Up to 200 experiments MongoDB merges the newest of each; of more it reads the newest of all until ten fit."""
    experiments = Experiment.objects.bulk_create([Experiment(name=str(n), public=True) for n in range(number)])
    run = {"job_status": "Completed", "model": "forest"}
    Drift.objects.bulk_create([Drift(experiment=experiments[n % number], **run) for n in range(3_000)])
    with commands() as seen:
        assert len(anonymous.post(SEARCH, {}).json()) == 10
    examined = [entry["docsExamined"] for entry in seen if entry["ns"].endswith(Drift._meta.db_table)]
    assert examined
    assert sum(examined) <= 100
