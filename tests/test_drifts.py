"""Drift runs over the API."""

from typing import Any
from unittest.mock import ANY

import pytest

from core.mongodb.documents import mongodb
from drifts import schema
from drifts.models import Drift
from drifts.verdict import MATCHES, JobStatus, Verdict
from experiments.models import Experiment
from experiments.run_rules import DEFAULT_SERIES_BY
from tests.caller import Caller
from tests.conftest import RUN
from tests.times import time_of

WHOLE: dict[str, Any] = {
    "job_status": "Completed",
    "model": "forest",
    "drift_detected": True,
    "parameters": {"p_value": 0.003, "features": {"alcohol": {"statistic": 0.4}}, "classes": [1, None, "x"]},
    "tags": ["nightly", "wine"],
    "detector": "Kolmogorov-Smirnov",
    "environment": "staging",
    "model_version": "1.4.2",
}


def test_the_response_to_a_creation_equals_a_later_read(editor: Caller, experiment: Experiment) -> None:
    response = editor.post(f"/experiment/{experiment.id}/drift", WHOLE)
    assert response.status_code == 201
    created = response.json()
    assert {name: created[name] for name in WHOLE} == WHOLE
    assert created["experiment_id"] == str(experiment.id)
    assert created["schema_version"] == schema.current()
    assert created["verdict"] == "drift"
    assert created == editor.get(f"/experiment/{experiment.id}/drift/{created['id']}").json()


@pytest.mark.parametrize("fields", [WHOLE, RUN, RUN | {"parameters": {"$ref": "a", "$id": 1}}])
def test_a_new_run_is_stored_as_by_the_model(experiment: Experiment, fields: dict[str, Any]) -> None:
    created = Drift.objects.create_in(experiment, **fields)
    runs = mongodb().database[Drift._meta.db_table]
    stored = runs.find_one_and_delete({})
    times = {"created_at": created.created_at, "updated_at": created.updated_at}
    Drift.objects.create(id=created.pk, experiment=experiment, **times, **fields)
    saved = runs.find_one({})
    assert stored is not None
    assert saved is not None
    # MongoDB stores the names in an order.
    assert sorted(stored) == sorted(saved)
    assert stored == saved


def test_omitted_fields_take_their_defaults(editor: Caller, experiment: Experiment) -> None:
    created = editor.post(f"/experiment/{experiment.id}/drift", {"job_status": "Running", "model": "forest"}).json()
    assert created["drift_detected"] is False
    assert created["parameters"] == {}
    assert created["tags"] == []
    assert created["detector"] is created["environment"] is created["model_version"] is None


@pytest.mark.parametrize(
    ("job_status", "drift_detected", "verdict"),
    [
        ("Completed", True, "drift"),
        ("Completed", False, "no_drift"),
        ("Running", True, "unknown"),
        ("Running", False, "unknown"),
        ("Failed", True, "unknown"),
        ("Failed", False, "unknown"),
    ],
)
def test_the_verdict_is_unknown_unless_the_run_is_completed(
    editor: Caller, experiment: Experiment, job_status: str, drift_detected: bool, verdict: str
) -> None:
    run = {"job_status": job_status, "model": "forest", "drift_detected": drift_detected}
    assert editor.post(f"/experiment/{experiment.id}/drift", run).json()["verdict"] == verdict


def test_queries_and_responses_agree_on_the_verdict(experiment: Experiment) -> None:
    for job_status in JobStatus:
        for drift_detected in (True, False):
            Drift.objects.create(
                experiment=experiment, model="forest", job_status=job_status, drift_detected=drift_detected
            )
    everything = set(Drift.objects.all())
    for verdict in Verdict:
        assert set(Drift.objects.with_verdict(verdict)) == {run for run in everything if run.verdict == verdict}
    assert MATCHES.keys() == set(Verdict)


def test_a_job_goes_from_running_to_completed(editor: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.id}/drift"
    running = editor.post(path, {"job_status": "Running", "model": "forest", "tags": ["nightly"]}).json()
    completed = editor.patch(
        f"{path}/{running['id']}", {"job_status": "Completed", "drift_detected": True, "parameters": {"p": 0.01}}
    ).json()
    assert completed["verdict"] == "drift"
    assert completed["tags"] == ["nightly"]
    assert completed["created_at"] == running["created_at"]
    assert time_of(completed["updated_at"]) > time_of(running["updated_at"])


def test_a_completed_run_is_patched_without_repeating_drift_detected(editor: Caller, drift: Drift) -> None:
    path = f"/experiment/{drift.experiment_id}/drift/{drift.id}"
    response = editor.patch(path, {"job_status": "Completed", "tags": ["weekly"]})
    assert response.status_code == 200
    assert response.json()["verdict"] == "drift"


@pytest.mark.parametrize(("method", "status"), [("POST", 422), ("PUT", 422), ("PATCH", 422)])
def test_a_run_that_completes_needs_drift_detected(
    editor: Caller, experiment: Experiment, method: str, status: int
) -> None:
    path = f"/experiment/{experiment.id}/drift"
    running = editor.post(path, {"job_status": "Running", "model": "forest"}).json()
    target = path if method == "POST" else f"{path}/{running['id']}"
    response = editor.request(method, target, {"job_status": "Completed", "model": "forest"})
    assert response.status_code == status
    assert "drift was detected" in response.json()["errors"]["json"]["drift_detected"][0]


@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_null_clears_parameters_and_tags(editor: Caller, drift: Drift, method: str) -> None:
    path = f"/experiment/{drift.experiment_id}/drift"
    stored = getattr(editor, method)(
        path if method == "post" else f"{path}/{drift.id}", {**RUN, "parameters": None, "tags": None}
    )
    assert stored.json().items() >= {"parameters": {}, "tags": []}.items()


def test_put_replaces_what_the_first_clients_know_and_keeps_the_rest(editor: Caller, drift: Drift) -> None:
    path = f"/experiment/{drift.experiment_id}/drift/{drift.id}"
    before = editor.put(path, WHOLE).json()
    after = editor.put(path, {"job_status": "Failed", "model": "tree"}).json()
    defaults = {"drift_detected": False, "parameters": {}, "tags": [], "verdict": "unknown"}
    named = {"job_status": "Failed", "model": "tree"}
    series = {**before["series"], "model": "tree"}
    assert after == {**before, **defaults, **named, "series": series, "updated_at": after["updated_at"]}
    assert after["detector"] == WHOLE["detector"]
    cleared = dict.fromkeys(["detector", "environment", "model_version"])
    expected = {**after, **cleared, "series": {"model": "tree"}, "updated_at": ANY}
    assert editor.put(path, named | cleared).json() == expected


@pytest.mark.parametrize("field", sorted(WHOLE))
def test_patch_changes_only_the_fields_that_it_names(editor: Caller, experiment: Experiment, field: str) -> None:
    path = f"/experiment/{experiment.id}/drift"
    completed = {"job_status": "Completed", "model": "tree", "drift_detected": False}
    before = editor.post(path, completed).json()
    after = editor.patch(f"{path}/{before['id']}", {field: WHOLE[field]}).json()
    computed = {
        "verdict": "drift" if field == "drift_detected" else "no_drift",
        "unsupported": field not in ("drift_detected", "parameters"),
        "series": {"model": "tree"} | ({field: WHOLE[field]} if field in DEFAULT_SERIES_BY else {}),
    }
    assert after == {**before, field: WHOLE[field], **computed, "updated_at": after["updated_at"]}


def test_an_object_can_be_sent_back_unchanged(editor: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.id}/drift"
    created = editor.post(path, WHOLE).json()
    replaced = editor.put(f"{path}/{created['id']}", created).json()
    assert replaced == {**created, "updated_at": replaced["updated_at"]}


def test_a_deleted_run_is_not_found(editor: Caller, drift: Drift) -> None:
    path = f"/experiment/{drift.experiment_id}/drift/{drift.id}"
    assert editor.delete(path).status_code == 204
    assert editor.get(path).status_code == 404
    assert editor.delete(path).status_code == 404


def test_a_shell_stores_values_that_are_equal_in_python_but_not_in_json(drift: Drift) -> None:
    for parameters in ({"a": 1, "b": 0}, {"a": True, "b": False}, {"a": 1.0, "b": 0.0}):
        drift.parameters = parameters
        drift.save()
        stored = Drift.objects.get(pk=drift.pk).parameters
        assert [type(value) for value in stored.values()] == [type(value) for value in parameters.values()]


def test_runs_that_a_shell_stores_together_are_whole(experiment: Experiment) -> None:
    (run,) = Drift.objects.bulk_create([Drift(experiment=experiment, model="forest", job_status="Running")])
    assert run.series == {"model": "forest"}
    assert run.observed_at == run.created_at
    run.model = "tree"
    run.save()
    assert Drift.objects.get(pk=run.pk).series == {"model": "tree"}


def test_runs_share_none_of_their_defaults(experiment: Experiment) -> None:
    """A shell may change the parameters of a run that it has stored without any."""
    first = Drift.objects.create_in(experiment, job_status="Running", model="forest")
    first.parameters["p_value"] = 0.5
    first.tags.append("nightly")
    first.save()
    second = Drift.objects.create_in(experiment, job_status="Running", model="forest")
    assert (second.parameters, second.tags) == ({}, [])
