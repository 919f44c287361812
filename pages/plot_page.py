"""The base class of pages with a plot: their filter, their runs and their files."""

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

# A browser that opens a picture by its address treats it as a document. It must load and run nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class PlotPage(ExperimentPage):
    """A page with a picture of an experiment's runs. The address alone determines the page and its files."""

    def requested_filter(self) -> RunFilter:
        return RunFilter.of(self.request._request.GET)

    def suggestions(self, experiment: Experiment) -> Suggestions:
        with bounded_time():
            return Suggestions.of(experiment)

    def runs_of(self, experiment: Experiment, run_filter: RunFilter) -> DriftQuerySet:
        """The runs that a filter matches. Raises `ValidationError` for an invalid filter."""
        if run_filter.errors:
            raise ValidationError(run_filter.errors)
        return Drift.objects.of(experiment).matching(run_filter.match)

    def show_plot(self, experiment: Experiment, run_filter: RunFilter, status: int, **context: Any) -> HttpResponse:
        """Render the page with the filter of its runs."""
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
        """The address of the page of the runs. It is absolute in files."""
        path = reverse("experiment", args=[experiment.pk])
        return path if self.action == "retrieve" else self.request.build_absolute_uri(path)

    def picture_of(self, experiment: Experiment, picture: Picture) -> HttpResponse:
        """The response with the picture as an SVG file, which browsers display."""
        response = HttpResponse(picture.alone, content_type="image/svg+xml; charset=utf-8")
        response["Content-Disposition"] = f'inline; filename="{self.file_name(experiment)}.svg"'
        response["Content-Security-Policy"] = POLICY
        return response
