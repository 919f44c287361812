"""The query parameters of a chart."""

from typing import Any

from rest_framework import serializers

from core.api.paths import ParameterPath
from pages.plots.chart import AxisScale, Kind
from pages.plots.points import COUNT, TIME
from pages.runs_view import MAX_SELECTED

# The words for the axes that are no parameters. Addresses may have either.
AXES = {TIME: "Time", COUNT: "Number of runs"}
AXIS_ADVICE: dict[str, Any] = {
    "name": "Unknown axis. Choose Time, Number of runs (y only), or a parameter such as parameters.p_value."
}
SCALE_ADVICE: dict[str, Any] = {"invalid_choice": "Choose Linear or Log."}


class Horizontal(ParameterPath):
    """The values of the x axis: times, or a parameter."""

    default_error_messages = AXIS_ADVICE
    others: tuple[str, ...] = (TIME,)

    def to_internal_value(self, data: Any) -> str:
        names = {label.lower(): name for name, label in AXES.items()}
        return super().to_internal_value(names.get(str(data).strip().lower(), data))


class Vertical(Horizontal):
    """The values of the y axis: numbers of runs, times, or a parameter."""

    others = (COUNT, TIME)


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
            if attrs[axis] == TIME and attrs[f"{axis}_scale"] == AxisScale.LOG:
                raise serializers.ValidationError({f"{axis}_scale": ["Time needs a linear axis. Choose Linear."]})
        return attrs
