"""Suggestions of the filter form: the stored values, for which MongoDB skips from one distinct value to the next."""

import pytest

from drifts.models import Drift
from experiments.models import Experiment
from pages.suggestions import MAX_VALUES, NEWEST, Suggestions
from tests.profiler import reads_of


def test_each_stored_value_is_suggested_once(experiment: Experiment) -> None:
    other = Experiment.objects.create(name="another")
    Drift.objects.create_in(other, job_status="Failed", model="other", tags=["other"], detector="other")
    for number in range(6):
        Drift.objects.create_in(
            experiment,
            job_status="Failed",
            model=f"m{number % 3}",
            tags=["a", f"t{number % 2}"],
            detector=[None, "ks", "psi"][number % 3],
            environment="lab",
            model_version=f"1.{number}",
            parameters={"p": [0.5, 1, "none"][number % 3], "test": {"on": True, "size": None}, "empty": {}},
        )
    suggested = Suggestions.of(experiment)
    assert suggested.values == suggested.values | {
        "model": ["m0", "m1", "m2"],
        "model_version": [f"1.{number}" for number in range(6)],
        "detector": ["ks", "psi"],
        "environment": ["lab"],
        "tag": ["a", "t0", "t1"],
    }
    assert suggested.paths == {
        "parameters.empty": "object",
        "parameters.p": "number, text",
        "parameters.test.on": "true or false",
        "parameters.test.size": "null",
    }


def test_an_experiment_without_runs_suggests_nothing(experiment: Experiment) -> None:
    suggested = Suggestions.of(experiment)
    assert not any([*suggested.values.values(), suggested.paths])


@pytest.mark.parametrize("models", [3, 2 * MAX_VALUES])
def test_each_value_costs_one_index_key_for_any_number_of_runs(experiment: Experiment, models: int) -> None:
    runs = [
        {"job_status": "Failed", "model": f"m{number % models:03}", "tags": ["a", "b"], "detector": "ks"}
        for number in range(1_000)
    ]
    Drift.objects.create_all_in(experiment, runs)
    with reads_of(Drift) as reads:
        suggested = Suggestions.of(experiment)
    assert len(suggested.values["model"]) == min(models, MAX_VALUES)
    assert suggested.values["tag"] == ["a", "b"]
    newest, *leaps = reads
    assert newest.documents == NEWEST
    assert len(leaps) <= len(suggested.values["model"]) + 7
    for leap in leaps:
        assert "IXSCAN" in leap.plan
        assert leap.keys <= 2
        assert not leap.sorts_in_memory
