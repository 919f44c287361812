"""The timeline of an experiment's verdicts: as a page, a picture and a table."""

import datetime
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.errors import sentences
from core.identity import Level
from experiments.models import Experiment
from pages.plot_page import PlotPage
from pages.plots.timeline import Timeline, Verdicts, newest_of
from pages.run_filter import RunFilter

MILLISECOND = datetime.timedelta(milliseconds=1)


class TimelinePage(PlotPage):
    """The verdicts of an experiment's models over time."""

    resource = "timeline"
    required_levels = {"retrieve": Level.READ, "picture": Level.READ, "table": Level.READ}

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponse:
        """Show the timeline and its filter."""
        experiment, run_filter = self.get_experiment(), self.requested_filter()
        refusals: list[str] = []
        timeline, is_all = None, True
        try:
            timeline, is_all = self.read(experiment, run_filter)
        except ValidationError as error:
            refusals = [sentence for _, sentence in sentences(error.detail)]
        status = 422 if refusals else 200
        return self.show_plot(experiment, run_filter, status, refusals=refusals, timeline=timeline, is_all=is_all)

    def picture(self, request: Request, experiment_id: str) -> HttpResponse:
        """Download the timeline as SVG."""
        experiment = self.get_experiment()
        timeline, _ = self.read(experiment, self.requested_filter())
        if timeline is None:
            raise ValidationError("No runs match. Change the filter.")
        return self.picture_of(experiment, timeline.picture)

    def table(self, request: Request, experiment_id: str) -> HttpResponse:
        """Download the verdicts of each model and period as CSV."""
        experiment = self.get_experiment()
        timeline, _ = self.read(experiment, self.requested_filter())
        return self.export_of(experiment, f"{self.file_name(experiment)}.csv", rows_of(timeline))

    def read(self, experiment: Experiment, run_filter: RunFilter) -> tuple[Timeline | None, bool]:
        """The timeline of the newest matching runs (None without runs), and whether these are all."""
        with run_filter.bounded_time():
            runs, is_all = newest_of(self.runs_of(experiment, run_filter))
        if not runs:
            return None, True
        base = self.runs_address(experiment)

        def address_of_all(model: str, verdicts: Verdicts) -> str:
            narrowed = {"model": model, "since": iso(verdicts.first), "until": iso(verdicts.last + MILLISECOND)}
            kept = [(name, value) for name, value in run_filter.pairs if name not in narrowed]
            return f"{base}?{urlencode([*kept, *narrowed.items()])}"

        return Timeline(runs, lambda run: f"{base}/runs/{run}", address_of_all), is_all


def rows_of(timeline: Timeline | None) -> Iterator[list[Any]]:
    yield ["model", "from", "until", "runs", "drift", "no_drift", "unknown", "drift_rate"]
    for row in timeline.rows if timeline else ():
        for period in row.periods:
            ends = [period.start.isoformat(), period.end.isoformat()]
            counts = [len(period.runs), period.drift, period.no_drift, period.unknown]
            yield [row.model, *ends, *counts, "" if period.drift_rate is None else period.drift_rate]


def iso(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"
