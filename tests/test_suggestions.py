"""Suggestions of the filter form: the stored values, for which MongoDB skips from one distinct value to the next."""

import json

import pytest
from django.test import Client

from drifts.models import Drift
from experiments.models import Experiment
from pages.suggestions import MAX_VALUES, NEWEST, Suggestions
from tests.profiler import reads_of
from tests.test_paths import CASE, add
from tests.test_runs_page import Shown


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
            feature=f"f{number % 2}",
            sample_size=None if number else 0,
            parameters={"p": [0.5, 1, "none"][number % 3], "test": {"on": True, "size": None}, "empty": {}},
        )
    suggested = Suggestions.of(experiment)
    assert suggested.values == suggested.values | {
        "model": ["m0", "m1", "m2"],
        "model_version": [f"1.{number}" for number in range(6)],
        "detector": ["ks", "psi"],
        "environment": ["lab"],
        "feature": ["f0", "f1"],
        "tag": ["a", "t0", "t1"],
    }
    assert suggested.fields == {"sample_size": "Sample size", "created_at": "Reported", "schema_version": "Schema"}
    assert suggested.paths == {
        "parameters.empty": "object",
        "parameters.p": "number, text",
        "parameters.test.on": "true or false",
        "parameters.test.size": "null",
    }


def test_an_experiment_without_runs_suggests_nothing(experiment: Experiment) -> None:
    suggested = Suggestions.of(experiment)
    assert not any([*suggested.values.values(), suggested.fields, suggested.paths])


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
    any_without_time, newest, *leaps = reads
    assert (any_without_time.documents, newest.documents) == (0, NEWEST)
    assert len(leaps) <= len(suggested.values["model"]) + 7
    for leap in leaps:
        assert "IXSCAN" in leap.plan
        assert leap.keys <= 2
        assert not leap.sorts_in_memory


# Bounds.


def test_short_paths_are_suggested_first_with_a_sentence_about_the_others(client: Client, public: Experiment) -> None:
    features = {f"feature{number:02}": {"statistic": 1.5, "p_value": 0.5} for number in range(80)}
    add(public, {**features, "share_drifted": 0.25})
    suggested = Suggestions.of(public)
    first, *others = suggested.paths
    assert (first, others[0], len(others)) == ("parameters.share_drifted", "parameters.feature00.p_value", 99)
    sentence = "Only the 100 shortest of 161 parameters are suggested."
    assert suggested.left_out == sentence
    page = Shown(client.get(f"/experiments/{public.pk}"))
    assert page.texts("form#view .helptext").count(sentence) == 2
    chart = client.get(f"/experiments/{public.pk}/chart").content.decode()
    assert "Only the 100 shortest of 161 numeric parameters are suggested." in chart
    assert '<option value="parameters.share_drifted">' in chart


def test_numbers_are_suggested_for_axes_beside_many_shorter_texts(experiment: Experiment) -> None:
    add(experiment, {**{f"text{number}": "x" for number in range(100)}, "test": {"p_value": 0.5}})
    suggested = Suggestions.of(experiment)
    assert (suggested.numbers, suggested.left_out_of_numbers) == (["parameters.test.p_value"], "")
    assert "parameters.test.p_value" not in suggested.paths


def test_the_top_of_large_runs_is_suggested(experiment: Experiment) -> None:
    large = {"share": 0.5, "n_rows": 100, "on": True, "report": {"x": ["0.123"] * 7_000}, "text": "x" * 300}
    assert len(json.dumps(large)) > 57_000
    add(experiment, large)
    suggested = Suggestions.of(experiment)
    assert suggested.paths == {
        "parameters.n_rows": "number",
        "parameters.on": "true or false",
        "parameters.share": "number",
        "parameters.text": "text",
    }
    assert suggested.left_out == "Of 1 run above 20 kB, only top-level parameters are suggested."
    add(experiment, *[{"report": large["report"]}] * 5)
    more = Suggestions.of(experiment)
    assert more.left_out == "Of 6 runs above 20 kB, only top-level parameters of the newest 5 are suggested."
    assert more.paths == {}


def test_a_full_suggestion_leaves_nothing_out(experiment: Experiment) -> None:
    """No path can name the parameter without a name."""
    add(experiment, {**CASE, "": 2})
    suggested = Suggestions.of(experiment)
    assert (suggested.left_out, suggested.left_out_of_numbers) == ("", "")
