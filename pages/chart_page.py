"""The chart of an experiment's runs: as a page, a picture and a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.errors import sentences
from core.identity import Level
from drifts.statistics import TIME_FIELDS
from drifts.verdict import MEASURED
from experiments.models import Experiment
from pages.chart_parameters import AXES, AXIS_CHOICES, ChartSerializer
from pages.plot_page import PlotPage
from pages.plots.chart import AxisScale, Chart, Kind, format_value
from pages.plots.points import COUNT, TIME, Points, ids_of, points_of
from pages.plots.scales import moment
from pages.run_filter import RunFilter

LISTED = 200
LINKED = 20


@dataclass(frozen=True)
class LeftOut:
    """The number of runs that cannot be drawn for one reason, and the first of them to link to."""

    reason: str
    number: int
    linked: list[UUID]


class ChartPage(PlotPage):
    """A chart of any two numbers of an experiment's runs, or of the number of runs."""

    resource = "chart"
    required_levels = {"retrieve": Level.READ, "picture": Level.READ, "table": Level.READ}

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponse:
        """Show the chart and its form."""
        experiment, run_filter = self.get_experiment(), self.requested_filter()
        serializer = ChartSerializer(data=request.query_params)
        if not serializer.is_valid() or run_filter.errors:
            return self.show_form(experiment, run_filter, serializer, 422)
        try:
            points = self.read(experiment, run_filter, serializer.validated_data)
        except ValidationError as error:
            refusals = [sentence for _, sentence in sentences(error.detail)]
            return self.show_form(experiment, run_filter, serializer, 422, refusals=refusals)
        options = serializer.validated_data
        chart = self.draw(experiment, options, points) if points.drawn else None
        # The first column of the table has the times.
        in_columns = [axis for axis in "xy" if options[axis] not in (TIME, COUNT)]
        return self.show_form(
            experiment,
            run_filter,
            serializer,
            chart=chart,
            points=points,
            left_out=[
                LeftOut(reason, len(runs), ids_of(runs[:LINKED])) for reason, runs in sorted(points.left_out.items())
            ],
            columns=[AXES.get(options[axis], options[axis]) for axis in in_columns],
            listed=[
                (point, [listed_value(getattr(point, axis), options[axis]) for axis in in_columns])
                for point in points.drawn[:LISTED]
            ],
        )

    def picture(self, request: Request, experiment_id: str) -> HttpResponse:
        """Download the chart as SVG."""
        experiment, options, points = self.requested_points()
        if not points.drawn:
            raise ValidationError("No run can be drawn. Choose other axes, or change the filter.")
        return self.picture_of(experiment, self.draw(experiment, options, points).picture)

    def table(self, request: Request, experiment_id: str) -> HttpResponse:
        """Download the points of the chart as CSV, with the runs that it leaves out."""
        experiment, options, points = self.requested_points()
        return self.export_of(experiment, f"{self.file_name(experiment)}.csv", rows(options, points))

    def requested_points(self) -> tuple[Experiment, dict[str, Any], Points]:
        """The experiment, chart options and points for the address of a file. Raises `ValidationError`."""
        experiment, run_filter = self.get_experiment(), self.requested_filter()
        serializer = ChartSerializer(data=self.request.query_params)
        serializer.is_valid(raise_exception=True)
        options = serializer.validated_data
        return experiment, options, self.read(experiment, run_filter, options)

    def read(self, experiment: Experiment, run_filter: RunFilter, options: dict[str, Any]) -> Points:
        """Read the points of the matching runs. Raises `ValidationError`."""
        runs = self.runs_of(experiment, run_filter)
        if options["only_selected"]:
            runs = runs.matching({"_id": {"$in": [run.hex for run in options["selected"]]}})
        is_log = {f"log_{axis}": options[f"{axis}_scale"] == AxisScale.LOG for axis in "xy"}
        with run_filter.bounded_time():
            return points_of(runs, options["x"], options["y"], **is_log)

    def draw(self, experiment: Experiment, options: dict[str, Any], points: Points) -> Chart:
        base = self.runs_address(experiment)
        return Chart(options, points.drawn, lambda run: f"{base}/runs/{run}")

    def show_form(
        self,
        experiment: Experiment,
        run_filter: RunFilter,
        serializer: ChartSerializer,
        status: int = 200,
        **context: Any,
    ) -> HttpResponse:
        """Render the page. The form repeats the options of the request, even invalid ones."""
        typed = {name: value for name, value in self.request.query_params.items() if value}
        defaults = dict.fromkeys(serializer.fields, "") | {"x": TIME, "y": COUNT}
        # The form says "Automatic" without a chosen kind.
        form_values = {**defaults, **typed, **serializer.validated_data, "kind": typed.get("kind", "")}
        nothing = {"refusals": (), "points": None, "chart": None, "left_out": (), "columns": (), "listed": ()}
        return self.show_plot(
            experiment,
            run_filter,
            status,
            form_values=form_values,
            axes=AXES,
            measured=MEASURED,
            axis_choices=AXIS_CHOICES,
            x=AXES.get(form_values["x"], form_values["x"]),
            y=AXES.get(form_values["y"], form_values["y"]),
            errors={name: serializer.errors.get(name, []) for name in serializer.fields},
            kinds=Kind.choices,
            scales=AxisScale.choices,
            **{**nothing, **context},
        )


def listed_value(value: float, path: str) -> float | str:
    return format_value(value, path) if path in TIME_FIELDS else value


def rows(options: dict[str, Any], points: Points) -> Iterator[list[Any]]:
    """The rows of the CSV file: points that are drawn, then runs that are not, with the reason."""
    yield ["id", "observed_at", "model", "verdict", f"x: {options['x']}", f"y: {options['y']}", "left out because"]
    for point in points.drawn:
        values = [(getattr(point, axis), options[axis] in TIME_FIELDS) for axis in "xy"]
        axes = [moment(value).isoformat() if is_time else value for value, is_time in values]
        yield [point.id, point.observed_at.isoformat(), point.model, point.verdict.value, *axes, ""]
    for reason, documents in points.left_out.items():
        for run in ids_of(documents):
            yield [run, "", "", "", "", "", reason]
