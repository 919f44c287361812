"""API views of statistics of drift runs: `POST …/drift/stats`."""

from typing import Any

import bson
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.openapi import responds
from core.api.resource import Resource
from core.api.responses import JSONResponse
from core.api.search import bounded_time, match_of
from core.identity import Level, Requirement
from core.versions import digest
from drifts.cached import STATISTICS
from drifts.models import Drift, DriftQuerySet
from drifts.statistics import MAX_GROUPS, Statistics, TooManyGroups
from drifts.statistics_serializers import StatisticsRowSerializer, StatisticsSerializer
from drifts.views import FIELDS, DriftResource

ADVICE = "add a model, a status or a time range to the filter, or request fewer measures"

EXAMPLE = {
    "filter": {"observed_at": {"$gte": "2026-01-01"}},
    "group_by": "model",
    "interval": "week",
    "time_zone": "Europe/Berlin",
    "measures": ["p_value", "parameters.window.size"],
}


class StatisticsMixin(Resource):
    """A resource with the action `stats`."""

    serializer_class = StatisticsSerializer

    def get_queryset(self) -> DriftQuerySet:
        """The runs that the caller may read."""
        raise NotImplementedError

    def rows_of(self, statistics: Statistics, runs: DriftQuerySet) -> list[dict[str, Any]]:
        """The rows of the statistics. Raises `TooManyGroups`."""
        return statistics.of(runs)

    @extend_schema(examples=[OpenApiExample("By model and week", EXAMPLE, request_only=True)])
    @responds(200, serializer=StatisticsRowSerializer, many=True)
    def stats(self, request: Request, **path: str) -> JSONResponse:
        """Count runs, and compute their drift rate and the distribution of their numbers, by group and interval.

        Rows are sorted by interval, then by size, the largest group first. Intervals and groups without runs have
        no row. A run with several tags counts once for each tag. When grouping by a parameter, values other than
        numbers, booleans and texts of at most 255 bytes count as null. A measure leaves out runs without its number.
        Paths are written as in filters.
        """
        runs = self.get_queryset()
        serializer = StatisticsSerializer(data=self.body)
        serializer.is_valid(raise_exception=True)
        matching = runs.matching(match_of(serializer.validated_data["filter"], FIELDS, "filter"))
        try:
            with bounded_time(ADVICE):
                return JSONResponse(self.rows_of(serializer.statistics(), matching))
        except TooManyGroups as error:
            raise ValidationError(
                f"There are more than {MAX_GROUPS:,} groups. Narrow the filter, group by less, or choose a longer "
                "interval."
            ) from error


class DriftStatisticsView(StatisticsMixin, DriftResource):
    """The statistics of one experiment's runs. They are cached: those of 100,000 runs take a quarter of a second."""

    resource = "drift"
    required_levels = {"stats": Level.READ}

    def get_queryset(self) -> DriftQuerySet:
        return Drift.objects.of(self.get_reference())

    def rows_of(self, statistics: Statistics, runs: DriftQuerySet) -> list[dict[str, Any]]:
        detail = digest(bson.encode(runs.match_document()) + repr(statistics).encode())
        return STATISTICS.get(self.experiment_id, lambda: statistics.of(runs), detail)


class VisibleDriftStatisticsView(StatisticsMixin):
    """The statistics of the runs of all experiments that the caller may read."""

    resource = "visible_drift"
    tag = "drift"
    required_levels = {"stats": Requirement.ANYONE}

    def get_queryset(self) -> DriftQuerySet:
        return Drift.objects.visible_to(self.identity)
