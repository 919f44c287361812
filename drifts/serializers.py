"""The serializer of drift runs."""

from typing import Any, ClassVar

from rest_framework import serializers

from core.api.serializers import (
    StrictBoolean,
    StrictInteger,
    StrictModelSerializer,
    StrictObject,
    StrictText,
    Tags,
)
from drifts.derived import WINDOW, EmptyWindow, is_empty_window
from drifts.fields import MAX_NOTE, typed_fields
from drifts.models import Drift
from drifts.verdict import JobStatus, Verdict
from experiments.run_rules import MAX_RUN_TIMEOUT


class DriftSerializer(StrictModelSerializer):
    """A drift run. A completed run must state whether it detected drift."""

    model = StrictText(max_length=255)
    # A callable default is not in the OpenAPI document: generated clients would send it for a completed run.
    drift_detected = StrictBoolean(default=bool, help_text="Required when `job_status` is Completed; else false.")
    parameters = StrictObject(default=dict, help_text="Any JSON object.")
    tags = Tags(default=list)
    experiment_id = serializers.UUIDField(read_only=True)
    verdict = serializers.ChoiceField(
        choices=Verdict.choices, read_only=True, help_text="unknown unless `job_status` is Completed."
    )

    series = StrictObject(
        read_only=True,
        allow_null=True,
        help_text="The fields and parameters, by the experiment's `series_by`, that make runs repetitions of one "
        "check; null for a run of schema 1.0.0.",
    )
    heartbeat_at = serializers.DateTimeField(read_only=True, allow_null=True, help_text="The last sign of life.")
    note = StrictText(max_length=MAX_NOTE, allow_null=True, required=False, help_text="Any text.")
    run_timeout = StrictInteger(
        min_value=1,
        max_value=MAX_RUN_TIMEOUT,
        allow_null=True,
        required=False,
        help_text="Seconds that the run may take without a heartbeat; else the `run_timeout` of its experiment counts.",
    )
    overdue = serializers.BooleanField(
        read_only=True,
        help_text="True if the service made the run Failed because its time-out was over. A later report clears it.",
    )
    unsupported = serializers.BooleanField(
        read_only=True,
        help_text="True if the verdict is no drift but nothing was measured: `parameters` is empty, and `p_value`, "
        "`statistic`, `threshold` and `sample_size` are null.",
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
            "feature",
            "p_value",
            "statistic",
            "threshold",
            "sample_size",
            "observed_at",
            "window_start",
            "window_end",
            "note",
            "series",
            "unsupported",
            "run_timeout",
            "heartbeat_at",
            "overdue",
            "schema_version",
            "created_at",
            "updated_at",
        )
        read_only_fields = (
            "id",
            "experiment_id",
            "verdict",
            "series",
            "unsupported",
            "heartbeat_at",
            "overdue",
            "schema_version",
            "created_at",
            "updated_at",
        )

    def get_fields(self) -> dict[str, Any]:
        return super().get_fields() | typed_fields()

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        fields = super().to_internal_value(data)
        was_completed = self.partial and self.instance and self.instance.job_status == JobStatus.COMPLETED
        completes = fields.get("job_status") == JobStatus.COMPLETED and not was_completed
        if completes and "drift_detected" not in data:
            raise serializers.ValidationError(
                {"drift_detected": ["A completed run must say whether drift was detected: true or false."]}
            )
        if any(name in fields for name in WINDOW) and is_empty_window(*(self.sent(name, fields) for name in WINDOW)):
            raise serializers.ValidationError({"window_end": [str(EmptyWindow())]})
        return fields

    def sent(self, name: str, fields: dict[str, Any]) -> Any:
        """The value of a field that the client sends now, or has sent earlier and does not change."""
        if name in fields or self.instance is None or name in (self.instance.derived or ()):
            return fields.get(name)
        return getattr(self.instance, name)

    def update(self, drift: Drift, changes: dict[str, Any]) -> Drift:
        write = drift.update if self.partial else drift.replace
        try:
            write(**changes)
        except EmptyWindow as error:
            raise serializers.ValidationError({"window_end": [str(error)]}) from error
        return drift
