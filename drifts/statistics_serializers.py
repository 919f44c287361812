"""Serializers of statistics of drift runs: the request, and the rows of the response."""

from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.paths import ParameterPath
from core.api.serializers import (
    StrictBoolean,
    StrictChoice,
    StrictList,
    StrictNumber,
    StrictObject,
    StrictSerializer,
    StrictText,
)
from drifts.intervals import Calendar, Interval
from drifts.statistics import GROUPS, TIME_FIELDS, Statistics
from drifts.verdict import MEASURED

MAX_GROUP_BY = 3
MAX_MEASURES = 5
MAX_PERCENTILES = 10


class GroupName(ParameterPath):
    """A name of `GROUPS`, or a path below `parameters.`."""

    others = tuple(GROUPS)


class MeasureName(ParameterPath):
    """A name of `MEASURED`, or a path below `parameters.`."""

    others = MEASURED


class TimeZone(StrictText):
    """The name of a time zone in the IANA database."""

    default_error_messages = {"unknown": "Unknown time zone. Send a name such as Europe/Berlin or UTC."}

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if name not in time_zones():
            self.fail("unknown")
        return name


@cache
def time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
class OneOrMore(StrictList):
    """A list of names, or one name."""

    def to_internal_value(self, data: Any) -> list[str]:
        names: list[str] = super().to_internal_value([data] if isinstance(data, str) else data)
        return list(dict.fromkeys(names))


class StatisticsSerializer(StrictSerializer):
    """A request for statistics: a filter, groups, an interval and measures."""

    filter = StrictObject(default=dict, help_text="The runs to count: a filter as in a search, `{}` for all.")
    group_by = OneOrMore(
        child=GroupName(),
        max_length=MAX_GROUP_BY,
        default=list,
        help_text=f"One, or a list of at most {MAX_GROUP_BY}, of: {', '.join(GROUPS)}, a path below `parameters.`.",
    )
    interval = StrictChoice(Interval.choices, allow_null=True, default=None, help_text="Weeks start on Monday.")
    time_field = StrictChoice(
        TIME_FIELDS,
        default=TIME_FIELDS[0],
        help_text="The time of a run that the intervals divide: when its data was looked at, or when it was reported.",
    )
    time_zone = TimeZone(default="UTC", help_text="The time zone of the intervals, such as Europe/Berlin.")
    measures = OneOrMore(
        child=MeasureName(),
        max_length=MAX_MEASURES,
        default=list,
        help_text=f"One, or a list of at most {MAX_MEASURES}, of: {', '.join(MEASURED)}, a path below `parameters.`.",
    )
    percentiles = StrictList(
        child=StrictNumber(min_value=0, max_value=100),
        max_length=MAX_PERCENTILES,
        default=[50, 90, 99],
        help_text="The percentiles of the measures.",
    )
    unsupported = StrictBoolean(
        default=False,
        help_text="Count also the runs that say no drift but measured nothing. Their verdict stays `no_drift`.",
    )

    def statistics(self) -> Statistics:
        """The statistics that the valid request describes."""
        data = self.validated_data
        interval = data["interval"]
        return Statistics(
            group_by=tuple(data["group_by"]),
            calendar=Calendar(Interval(interval), ZoneInfo(data["time_zone"])) if interval else None,
            time_field=data["time_field"],
            measures=tuple(data["measures"]),
            percentiles=tuple(data["percentiles"]),
            counts_unsupported=data["unsupported"],
        )


class VerdictCountsSerializer(serializers.Serializer[Any]):
    drift = serializers.IntegerField()
    no_drift = serializers.IntegerField()
    unknown = serializers.IntegerField()


class DistributionSerializer(serializers.Serializer[Any]):
    """The distribution of one measure. Without any number, its values are null."""

    count = serializers.IntegerField(help_text="The number of runs with this number.")
    min = serializers.FloatField(allow_null=True)
    mean = serializers.FloatField(allow_null=True)
    max = serializers.FloatField(allow_null=True)
    percentiles = serializers.DictField(
        child=serializers.FloatField(allow_null=True), help_text="The value of each percentile, interpolated linearly."
    )


class StatisticsRowSerializer(serializers.Serializer[Any]):
    """The runs of one group in one interval."""

    start = serializers.DateTimeField(
        allow_null=True,
        help_text="The start of the interval, with the offset of the time zone; null without `interval`.",
    )
    group = serializers.DictField(
        child=serializers.JSONField(allow_null=True), help_text="The value of each name in `group_by`."
    )
    count = serializers.IntegerField(help_text="The number of runs.")
    verdicts = VerdictCountsSerializer()
    unsupported = serializers.IntegerField(
        required=False,
        help_text="The number of runs among `no_drift` that measured nothing. Only if the request asks for it.",
    )
    drift_rate = serializers.FloatField(
        allow_null=True, help_text="drift / (drift + no_drift); null when no verdict is known."
    )
    measures = serializers.DictField(
        child=DistributionSerializer(), help_text="The distribution of each name in `measures`."
    )
