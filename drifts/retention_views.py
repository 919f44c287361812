"""The API view of the retention of an experiment's runs: `GET …/retention`."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from core.api.exceptions import InvalidQuery
from core.api.openapi import responds
from core.api.responses import JSONResponse
from core.api.search import bounded_time
from core.api.serializers import IntegerParameter
from core.identity import Level
from drifts.retention import days_that_count, preview_of
from experiments.run_rules import MAX_RETENTION_DAYS
from experiments.views import ExperimentResource


class RetentionParameters(serializers.Serializer[dict[str, Any]]):
    """The query parameters of a preview."""

    days = IntegerParameter(
        min_value=1,
        max_value=MAX_RETENTION_DAYS,
        default=None,
        help_text="The `retention_days` to try; without them, those of the experiment count.",
    )


class RetentionSerializer(serializers.Serializer[Any]):
    """The runs that retention would remove now."""

    days = serializers.IntegerField(
        allow_null=True,
        help_text="The days that count: those of the experiment or of the service, whichever are fewer. Null if "
        "neither are set: no run is removed.",
    )
    cutoff = serializers.DateTimeField(
        allow_null=True, help_text="Runs whose `observed_at` is earlier are removed, unless they are Running."
    )
    runs = serializers.IntegerField(source="runs.number", help_text="The number of these runs.")
    is_exact = serializers.BooleanField(source="runs.is_exact", help_text="If false, there are more.")


class RetentionView(ExperimentResource):
    """Tell which runs are too old to be kept."""

    resource = "retention"
    tag = "experiment"
    # Counting takes longer than reading, and only managers decide about retention.
    required_levels = {"retrieve": Level.MANAGE}
    serializer_class = RetentionSerializer
    query_parameters = RetentionParameters

    @responds(200)
    def retrieve(self, request: Request, experiment_id: str) -> JSONResponse:
        """Preview the removal of old runs. Nothing is removed.

        With `days`, the preview is that of an experiment with these `retention_days`. Up to 1,000,000 runs are
        counted, for a limited time; `is_exact` is false beyond.
        """
        parameters = RetentionParameters(data=request.query_params)
        if not parameters.is_valid():
            raise InvalidQuery(parameters.errors)
        experiment = self.get_experiment()
        days = parameters.validated_data["days"]
        with bounded_time():
            preview = preview_of(experiment.pk, days_that_count(days or experiment.retention_days))
        return JSONResponse(self.get_serializer(preview).data)
