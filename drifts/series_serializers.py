"""Serializers of a search for series: its query parameters, and the items of the response."""

from typing import Any

from rest_framework import serializers

from core.api.search import SearchParameters
from core.api.serializers import StrictChoice
from drifts.fields import StrictTime
from drifts.series import RANKS
from drifts.statistics_serializers import VerdictCountsSerializer
from drifts.verdict import Verdict


class SeriesParameters(SearchParameters):
    """The query parameters of a search for series."""

    sort_by = StrictChoice(tuple(RANKS), default="last_run", help_text="Sorting by `count` or `drift_rate` is slower.")
    since = StrictTime(default=None, help_text="Count runs whose `observed_at` is this time or later.")
    until = StrictTime(default=None, help_text="Count runs whose `observed_at` is earlier than this time.")

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        fields = super().to_internal_value(data)
        since, until = fields["since"], fields["until"]
        if since is not None and until is not None and since >= until:
            raise serializers.ValidationError({"until": ["Must be after since."]})
        return fields


class FirstRunSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    observed_at = serializers.DateTimeField()


class LastRunSerializer(FirstRunSerializer):
    verdict = serializers.ChoiceField(choices=Verdict.choices)


class SeriesSerializer(serializers.Serializer[Any]):
    """A series: runs that are repetitions of one check."""

    series = serializers.DictField(
        child=serializers.JSONField(),
        help_text="The fields and parameters of `series_by` that the runs share. Those without a value are left out.",
    )
    count = serializers.IntegerField(help_text="The number of runs.")
    verdicts = VerdictCountsSerializer()
    drift_rate = serializers.FloatField(
        allow_null=True, help_text="drift / (drift + no_drift); null when no verdict is known."
    )
    first_run = FirstRunSerializer(help_text="The first run by `observed_at`.")
    last_run = LastRunSerializer(help_text="The last run by `observed_at`.")
