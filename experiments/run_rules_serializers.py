"""Serializer fields of the rules of an experiment for its runs."""

from typing import Any

from rest_framework import serializers

from core.api.paths import ParameterPath
from core.api.serializers import StrictList, StrictObject
from experiments.run_rules import MAPPABLE_FIELDS, MAX_SERIES_BY, SERIES_FIELDS, default_series_by


class SeriesName(ParameterPath):
    """A field that runs of one series share, or a path below `parameters.`."""

    others = SERIES_FIELDS


class SeriesBy(StrictList):
    """The names and paths whose values the runs of one series share."""

    default_error_messages = {"max_length": "Choose at most {max_length}."}
    child = SeriesName()

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MAX_SERIES_BY, **options)

    def to_internal_value(self, data: Any) -> list[str]:
        return list(dict.fromkeys(super().to_internal_value(data))) or default_series_by()


class FieldMap(StrictObject):
    """Fields of a run, each with the path of the parameter that fills it."""

    default_error_messages = {"field": "This field cannot be mapped. Fields: {names}."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        mapped = super().to_internal_value(data)
        path = ParameterPath()
        problems: dict[str, Any] = {}
        for name, value in mapped.items():
            try:
                if name not in MAPPABLE_FIELDS:
                    self.fail("field", names=", ".join(MAPPABLE_FIELDS))
                path.run_validation(value)
            except serializers.ValidationError as error:
                problems[name] = error.detail
        if problems:
            raise serializers.ValidationError(problems)
        return mapped


class RecomputationSerializer(serializers.Serializer[Any]):
    """The progress of applying a changed rule to the stored runs."""

    field = serializers.CharField(help_text="The rule that changed: `series_by` or `field_map`.")
    done = serializers.IntegerField(help_text="The number of runs that follow the new rule.")
    total = serializers.IntegerField(help_text="The number of runs; a lower bound until the work has begun.")
    started_at = serializers.DateTimeField()
