"""The chart of an experiment's runs: as a page, a picture and a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.errors import sentences
from core.csv_export import csv_file
from core.identity import Level
from experiments.models import Experiment
from pages.plot_page import PlotPage
from pages.plots.chart import AxisScale, Chart, ChartSerializer, Kind
from pages.plots.points import Points, ids_of, points_of
from pages.run_filter import RunFilter

LISTED = 200
LINKED = 20


@dataclass(frozen=True)
class LeftOut:
    """Runs that cannot be drawn for one reason, of which the first are linked."""

    reason: str
    number: int
    linked: list[UUID]


class ChartPage(PlotPage):
    """A chart of any two numbers of an experiment's runs, or of how many there are."""

    resource = "chart"
    required_levels = {"retrieve": Level.READ, "picture": Level.READ, "table": Level.READ}

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponse:
        """The chart, and the form that asks for another."""
        experiment, run_filter = self.get_experiment(), self.asked_filter()
        asked = ChartSerializer(data=request.query_params)
        if not asked.is_valid() or run_filter.errors:
            return self.show_form(experiment, run_filter, asked, 422)
        try:
            points = self.read(experiment, run_filter, asked.validated_data)
        except ValidationError as error:
            refusals = [sentence for _, sentence in sentences(error.detail)]
            return self.show_form(experiment, run_filter, asked, 422, refusals=refusals)
        chart = self.draw(experiment, asked.validated_data, points) if points.drawn else None
        return self.show_form(
            experiment,
            run_filter,
            asked,
            chart=chart,
            points=points,
            left_out=[
                LeftOut(reason, len(runs), ids_of(runs[:LINKED])) for reason, runs in sorted(points.left_out.items())
            ],
            listed=points.drawn[:LISTED],
        )

    def picture(self, request: Request, experiment_id: str) -> HttpResponse:
        """The chart as a file."""
        experiment, asked, points = self.asked_for()
        if not points.drawn:
            raise ValidationError("No run can be drawn. Choose other axes, or change the filter.")
        return self.picture_of(experiment, self.draw(experiment, asked, points).picture)

    def table(self, request: Request, experiment_id: str) -> HttpResponse:
        """What the chart shows, and what it leaves out."""
        experiment, asked, points = self.asked_for()
        return csv_file(f"{self.file_name(experiment)}.csv", rows(asked, points))

    def asked_for(self) -> tuple[Experiment, dict[str, Any], Points]:
        """What the address of a file asks for. Raises `ValidationError`."""
        experiment, run_filter = self.get_experiment(), self.asked_filter()
        asked = ChartSerializer(data=self.request.query_params)
        asked.is_valid(raise_exception=True)
        return experiment, asked.validated_data, self.read(experiment, run_filter, asked.validated_data)

    def read(self, experiment: Experiment, run_filter: RunFilter, asked: dict[str, Any]) -> Points:
        runs = self.runs_of(experiment, run_filter)
        if asked["only_selected"]:
            runs = runs.matching({"_id": {"$in": [run.hex for run in asked["selected"]]}})
        is_log = {f"log_{axis}": asked[f"{axis}_scale"] == AxisScale.LOG for axis in "xy"}
        with run_filter.bounded_time():
            return points_of(runs, asked["x"], asked["y"], **is_log)

    def draw(self, experiment: Experiment, asked: dict[str, Any], points: Points) -> Chart:
        base = self.runs_address(experiment)
        return Chart(asked, points.drawn, lambda run: f"{base}/runs/{run}")

    def show_form(
        self,
        experiment: Experiment,
        run_filter: RunFilter,
        asked: ChartSerializer,
        status: int = 200,
        **context: Any,
    ) -> HttpResponse:
        """The page with its form, which shows what was asked for, whatever it was."""
        typed = {name: value for name, value in self.request.query_params.items() if value}
        return self.show_plot(
            experiment,
            run_filter,
            status,
            asked={"x": "created_at", "y": "count", **getattr(asked, "validated_data", {}), **typed},
            errors=asked.errors,
            kinds=Kind.choices,
            scales=AxisScale.choices,
            **context,
        )


def rows(asked: dict[str, Any], points: Points) -> Iterator[list[Any]]:
    yield ["id", "created_at", "model", "verdict", f"x: {asked['x']}", f"y: {asked['y']}", "left out because"]
    for point in points.drawn:
        numbers = [
            point.created_at.isoformat() if asked[axis] == "created_at" else getattr(point, axis) for axis in "xy"
        ]
        yield [point.id, point.created_at.isoformat(), point.model, point.verdict.value, *numbers, ""]
    for reason, documents in points.left_out.items():
        for run in ids_of(documents):
            yield [run, "", "", "", "", "", reason]
