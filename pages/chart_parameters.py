"""The query parameters of a chart."""

from typing import Any

from rest_framework import serializers

from core.api.paths import ParameterPath
from drifts.statistics import TIME_FIELDS
from pages.plots.chart import AxisScale, Kind
from pages.plots.points import COUNT, FIELDS, TIME
from pages.runs_view import MAX_SELECTED

# The words for the axes that are no parameters. Addresses may have either.
AXES = {TIME: FIELDS[TIME].label, COUNT: "Number of runs", **{name: field.label for name, field in FIELDS.items()}}
AXIS_CHOICES = ", ".join(
    [f"{label} (y only)" if name == COUNT else label for name, label in AXES.items()]
    + ["or a parameter such as parameters.window.size."]
)
AXIS_ADVICE: dict[str, Any] = {"name": f"Unknown axis. Choose {AXIS_CHOICES}"}
SCALE_ADVICE: dict[str, Any] = {"invalid_choice": "Choose Linear or Log."}


class Horizontal(ParameterPath):
    """The values of the x axis: a field of a run, or a parameter."""

    default_error_messages = AXIS_ADVICE
    others = tuple(FIELDS)

    def to_internal_value(self, data: Any) -> str:
        names = {label.lower(): name for name, label in AXES.items()}
        return super().to_internal_value(names.get(str(data).strip().lower(), data))


class Vertical(Horizontal):
    """The values of the y axis: numbers of runs, a field of a run, or a parameter."""

    others = (COUNT, *FIELDS)


class ChartSerializer(serializers.Serializer[dict[str, Any]]):
    """The parameters of a chart. The default is the number of runs over time."""

    x = Horizontal(default=TIME)
    y = Vertical(default=COUNT)
    kind = serializers.ChoiceField(
        Kind.choices, required=False, error_messages={"invalid_choice": "Choose Automatic, Scatter, Line or Bars."}
    )
    x_scale = serializers.ChoiceField(AxisScale.choices, default=AxisScale.LINEAR, error_messages=SCALE_ADVICE)
    y_scale = serializers.ChoiceField(AxisScale.choices, default=AxisScale.LINEAR, error_messages=SCALE_ADVICE)
    fit = serializers.BooleanField(default=False)
    only_selected = serializers.BooleanField(default=False)
    selected = serializers.ListField(child=serializers.UUIDField(), max_length=MAX_SELECTED, default=list)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse combinations that cannot be drawn for any runs."""
        is_count = attrs["y"] == COUNT
        attrs.setdefault("kind", Kind.BAR if is_count else Kind.SCATTER)
        if is_count and attrs["kind"] != Kind.BAR:
            raise serializers.ValidationError(
                {"kind": ["The number of runs needs bars. Choose Bars, or another y axis."]}
            )
        if is_count and attrs["y_scale"] == AxisScale.LOG:
            raise serializers.ValidationError({"y_scale": ["The number of runs needs a linear axis. Choose Linear."]})
        for axis in ("x", "y"):
            if attrs[axis] in TIME_FIELDS and attrs[f"{axis}_scale"] == AxisScale.LOG:
                raise serializers.ValidationError({f"{axis}_scale": ["Time needs a linear axis. Choose Linear."]})
        return attrs
