"""What the pages with a plot share: which runs they show, and that the plot is a file too."""

import re
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.urls import reverse
from rest_framework.exceptions import ValidationError

from core.api.search import bounded_time
from drifts.models import Drift, DriftQuerySet
from experiments.models import Experiment
from pages.page import ExperimentPage
from pages.plots.svg import Picture
from pages.run_filter import RunFilter
from pages.suggestions import Suggestions

# A picture is a document of its own when its address is opened: it loads nothing, and runs nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class PlotPage(ExperimentPage):
    """A page with a picture of an experiment's runs. Its address says all about it, as do those of its files."""

    def asked_filter(self) -> RunFilter:
        return RunFilter.of(self.request._request.GET)

    def suggestions(self, experiment: Experiment) -> Suggestions:
        with bounded_time():
            return Suggestions.of(experiment)

    def runs_of(self, experiment: Experiment, run_filter: RunFilter) -> DriftQuerySet:
        """The runs that a filter matches. Raises `ValidationError` if it has no meaning."""
        if run_filter.errors:
            raise ValidationError({"filter": run_filter.errors})
        return Drift.objects.of(experiment).matching(run_filter.match)

    def show_plot(self, experiment: Experiment, run_filter: RunFilter, status: int, **context: Any) -> HttpResponse:
        """The page of the plot, with the filter of its runs."""
        query = self.request.query_params
        selected = [("selected", run) for run in query.getlist("selected")]
        return self.show_of(
            experiment,
            f"{self.resource}.html",
            status,
            plot=self.resource,
            filter=run_filter,
            suggestions=self.suggestions(experiment),
            selected=selected,
            kept=urlencode([*run_filter.pairs, *selected]),
            query=query.urlencode(),
            file_name=self.file_name(experiment),
            **context,
        )

    def runs_address(self, experiment: Experiment) -> str:
        """Where the runs are. A file names the service, too."""
        path = reverse("experiment", args=[experiment.pk])
        return path if self.action == "retrieve" else self.request.build_absolute_uri(path)

    def picture_of(self, experiment: Experiment, picture: Picture) -> HttpResponse:
        """The picture as a file, which a browser shows when its address is opened."""
        response = HttpResponse(picture.alone, content_type="image/svg+xml; charset=utf-8")
        response["Content-Disposition"] = f'inline; filename="{self.file_name(experiment)}.svg"'
        response["Content-Security-Policy"] = POLICY
        return response

    def file_name(self, experiment: Experiment) -> str:
        """One that every file system takes."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", experiment.name).strip("-").lower()
        return f"{name[:80] or 'experiment'}-{self.resource}"
