"""The sample data of a new installation."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.models import User
from audit.models import Event
from core import timestamps
from drifts.documents import time_of
from drifts.models import Drift
from drifts.serializers import DriftSerializer
from drifts.verdict import JobStatus, Verdict
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import purge_in_background


def store() -> str:
    out = StringIO()
    call_command("sample_data", stdout=out)
    return out.getvalue()


@pytest.fixture
def first() -> User:
    """The first administrator."""
    return User.objects.create_superuser("admin", "admin@localhost")


def test_the_first_administrator_manages_a_public_experiment(first: User, anonymous: Caller) -> None:
    User.objects.create_superuser("second", "second@localhost")
    assert store() == "Stored 3 public experiments of admin@localhost, with 420 sample runs.\n"
    found = anonymous.post("/experiment/search", {}).json()
    assert {experiment["name"] for experiment in found} == {"credit scoring", "delivery times", "weld inspection"}
    for experiment in Experiment.objects.all():
        assert [(entry.entity, entry.level) for entry in experiment.permissions] == [(str(first.id), "Manage")]
    assert Event.objects.filter(action="experiment_created").count() == 3


def test_the_sample_runs_are_valid_reports(first: User) -> None:
    store()
    runs = list(Drift.objects.order_by("created_at", "pk"))
    fields = [name for name, field in DriftSerializer().fields.items() if not field.read_only]
    for run in runs:
        reported = DriftSerializer(data={name: getattr(run, name) for name in fields})
        assert reported.is_valid(), reported.errors
        assert run.created_at == time_of(run.id)
    assert {run.job_status for run in runs} == set(JobStatus)
    assert {run.verdict for run in runs} == set(Verdict)
    began = [timestamps.now() - run.created_at for run in runs if run.job_status == JobStatus.RUNNING]
    assert [age > timedelta(days=1) for age in began] == [True] + [False] * 6
    assert timestamps.now() - timedelta(days=60) < runs[0].created_at < runs[-1].created_at < timestamps.now()


def test_the_sample_runs_have_the_fields_of_schema_1_1_0_sent_or_mapped(first: User) -> None:
    store()
    mapped = {"feature", "p_value", "statistic", "threshold", "sample_size"}
    run: Any
    for run in Drift.objects.select_related("experiment"):
        parameters = run.parameters
        measured = (run.feature, run.p_value, run.statistic, run.threshold, run.sample_size)
        in_parameters = (
            *map(parameters.get, ("feature", "p_value", "statistic", "threshold")),
            parameters["window"]["size"],
        )
        assert measured == in_parameters
        assert run.window_start < run.window_end == run.observed_at <= run.created_at
        filled = {name for name in mapped if getattr(run, name) is not None}
        assert set(run.derived) == (filled if run.experiment.name == "delivery times" else set())
    rules = {experiment.name: bool(experiment.run_rules.field_map) for experiment in Experiment.objects.all()}
    assert rules == {"credit scoring": False, "delivery times": True, "weld inspection": False}


def test_drift_begins_on_one_day_and_is_rare_before(first: User) -> None:
    store()
    verdicts = [run.verdict for run in Drift.objects.filter(model="weld-vision").order_by("created_at")]
    assert verdicts[:30].count(Verdict.DRIFT) == 0
    assert verdicts[30:].count(Verdict.DRIFT) > 25


def test_the_sample_data_is_reproducible(first: User) -> None:
    def stored() -> list[object]:
        store()
        runs = Drift.objects.order_by("created_at", "model").values_list("model", "drift_detected", "parameters")
        found = [str(run) for run in runs]
        Experiment.objects.all().delete()
        purge_in_background()
        return [*found]

    assert stored() == stored()


def test_no_sample_data_is_stored_beside_existing_experiments(first: User, experiment: Experiment) -> None:
    assert store() == "The service already has experiments. No sample data was stored.\n"
    assert Experiment.objects.get() == experiment


def test_a_production_service_has_no_sample_data(first: User, settings: Settings) -> None:
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="production"):
        store()
    assert not Experiment.objects.exists()


def test_the_sample_data_needs_an_owner() -> None:
    with pytest.raises(CommandError, match="createsuperuser"):
        store()
