"""The page of one run."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from rest_framework.request import Request

from core.api.conditional import tagged
from core.identity import Level
from core.mongodb.documents import instances_of
from core.mongodb.match import Mql
from drifts.display import details_of
from drifts.models import Drift
from drifts.observed import COLUMN, order_by
from drifts.parameters import tree
from drifts.views import DriftResource
from experiments.models import Experiment
from files.models import RunFile
from pages.page import ExperimentPage
from pages.run_filter import MAX_LENGTH

# The fields that a link to the run before or after shows.
NEIGHBOUR: list[Mql] = [{"$project": {"observed_at": 1, "model": 1}}]


class RunPage(ExperimentPage, DriftResource):
    """A run with all its fields, and links to the runs before and after it."""

    resource = "run-page"
    required_levels = {"retrieve": Level.READ, "state": Level.READ, "confirm": Level.EDIT, "destroy": Level.EDIT}

    def get_run(self, read: Callable[[Experiment, UUID], Drift | None]) -> tuple[Experiment, Drift]:
        """The experiment and the run of the path. Raises an error unless the caller's level is sufficient."""
        experiment = self.get_experiment()
        self.missing = "run"
        return experiment, self.existing(read(experiment, self.drift_id))

    def retrieve(self, request: Request, experiment_id: str, drift_id: str) -> HttpResponse:
        """Show the run."""
        experiment, run = self.get_run(Drift.objects.one_to_show)
        path = f"/api/v1/experiment/{experiment.pk}/drift/{run.pk}"
        return self.show_of(
            experiment,
            "run.html",
            **state_of(run),
            earlier=neighbour(experiment, run, is_later=False),
            later=neighbour(experiment, run, is_later=True),
            max_file_bytes=settings.MAX_FILE_BYTES,
            largest_file=f"{settings.MAX_FILE_BYTES / 1_000_000:g} MB",
            files=RunFile.objects.of_run(experiment.pk, run.pk),
            service=request.build_absolute_uri("/").rstrip("/"),
            address=request.build_absolute_uri(path),
        )

    @tagged
    def state(self, request: Request, experiment_id: str, drift_id: str) -> HttpResponse:
        """Render the part of the page that changes while a run is Running."""
        experiment, run = self.get_run(Drift.objects.one_to_show)
        return self.show_of(experiment, "fragments/run_state.html", **state_of(run))

    def confirm(self, request: Request, experiment_id: str, drift_id: str) -> HttpResponse:
        """Ask whether to delete the run."""
        experiment, run = self.get_run(Drift.objects.one_to_show)
        files = RunFile.objects.of_run(experiment.pk, run.pk).count()
        return self.show_of(experiment, "run_delete.html", run=run, files=files)

    def destroy(self, request: Request, experiment_id: str, drift_id: str) -> HttpResponse:
        """Delete the run."""
        experiment, run = self.get_run(Drift.objects.one_of)
        run.delete_by(self.identity)
        messages.success(request._request, f"The run of “{run.model}” was deleted.")
        return redirect("experiment", experiment.pk)


def state_of(run: Drift) -> dict[str, Any]:
    """The context of the part of the page that changes while the run is Running."""
    return {
        "run": run,
        "details": details_of(run),
        "parameters": tree(run.parameters),
        "series_query": series_query(run),
    }


def series_query(run: Drift) -> str:
    """The query of the table of runs that shows the run's series; empty if a filter cannot name the series."""
    where = f"series eq {json.dumps(run.series, ensure_ascii=False)}"
    return urlencode({"where": where}) if run.series and len(where) <= MAX_LENGTH else ""


def neighbour(experiment: Experiment, run: Drift, *, is_later: bool) -> Drift | None:
    """The experiment's next run in time, later or earlier; None at the end."""
    order = order_by(COLUMN, is_descending=not is_later)
    position = order.position({COLUMN: run.observed_at, "_id": run.pk.hex})
    found, _ = Drift.objects.of(experiment).sorted_slice(order, 1, after=position, shape=NEIGHBOUR)
    return next(instances_of(Drift, found), None)
