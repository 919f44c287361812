"""The serializer of drift runs."""

from typing import Any, ClassVar

from rest_framework import serializers

from core.api.serializers import StrictBoolean, StrictModelSerializer, StrictObject, StrictText, Tags
from drifts.models import Drift
from drifts.verdict import JobStatus, Verdict


class DriftSerializer(StrictModelSerializer):
    """A drift run. A completed run must state whether it detected drift."""

    model = StrictText(max_length=255)
    # A callable default is not in the OpenAPI document: generated clients would send it for a completed run.
    drift_detected = StrictBoolean(default=bool, help_text="Required when `job_status` is Completed; else false.")
    parameters = StrictObject(default=dict, help_text="Any JSON object.")
    tags = Tags(default=list)
    detector = StrictText(max_length=255, allow_null=True, required=False)
    environment = StrictText(max_length=255, allow_null=True, required=False)
    model_version = StrictText(max_length=255, allow_null=True, required=False)
    experiment_id = serializers.UUIDField(read_only=True)
    verdict = serializers.ChoiceField(
        choices=Verdict.choices, read_only=True, help_text="unknown unless `job_status` is Completed."
    )

    cleared_by_null: ClassVar[dict[str, Any]] = {"parameters": dict, "tags": list}

    class Meta:
        model = Drift
        fields = (
            "id",
            "experiment_id",
            "job_status",
            "model",
            "drift_detected",
            "verdict",
            "parameters",
            "tags",
            "detector",
            "environment",
            "model_version",
            "schema_version",
            "created_at",
            "updated_at",
        )
        read_only_fields = ("id", "experiment_id", "verdict", "schema_version", "created_at", "updated_at")

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        fields = super().to_internal_value(data)
        was_completed = self.partial and self.instance and self.instance.job_status == JobStatus.COMPLETED
        completes = fields.get("job_status") == JobStatus.COMPLETED and not was_completed
        if completes and "drift_detected" not in data:
            raise serializers.ValidationError(
                {"drift_detected": ["A completed run must say whether drift was detected: true or false."]}
            )
        return fields

    def update(self, drift: Drift, changes: dict[str, Any]) -> Drift:
        drift.update(**changes)
        return drift
