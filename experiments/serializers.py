"""Experiments on the wire."""

from typing import Any

from rest_framework import serializers

from accounts.identity import identity_of
from driftwatch.api.serializers import StrictModelSerializer, StrictObject, StrictText, Tags
from experiments.models import Experiment, Level, Permission, canonical_entity


class PermissionSerializer(StrictModelSerializer):
    entity = StrictText(min_length=1, max_length=255, help_text="A user's id, or an entitlement.")
    level = serializers.ChoiceField(choices=Level.choices)

    class Meta:
        model = Permission
        fields = ("entity", "level")

    def validate_entity(self, entity: str) -> str:
        return canonical_entity(entity)

    def validate(self, entry: dict[str, str]) -> dict[str, str]:
        """An entry is whole also inside a PATCH, where a serializer asks for no field by itself."""
        if missing := self.fields.keys() - entry.keys():
            raise serializers.ValidationError({name: ["This field is required."] for name in sorted(missing)})
        return entry


class ExperimentSerializer(StrictModelSerializer):
    """An experiment. `permissions` is empty for those who hold no level through it."""

    name = StrictText(max_length=255)
    description = StrictText(default="", allow_blank=True, trim_whitespace=False)
    permissions = PermissionSerializer(many=True, default=list)
    tags = Tags(default=list)
    config = StrictObject(default=dict, help_text="Any JSON object.")

    class Meta:
        model = Experiment
        fields = (
            "id",
            "name",
            "description",
            "public",
            "permissions",
            "tags",
            "config",
            "created_at",
            "updated_at",
        )
        extra_kwargs = {"public": {"default": False}}
        read_only_fields = ("id", "created_at", "updated_at")
        validators: list[Any] = []

    def validate_permissions(self, entries: list[dict[str, str]]) -> list[Permission]:
        entities = [entry["entity"] for entry in entries]
        if len(set(entities)) < len(entities):
            raise serializers.ValidationError("Name each entity once.")
        return [Permission(**entry) for entry in entries]

    def create(self, fields: dict[str, Any]) -> Experiment:
        return Experiment.objects.create_by(identity_of(self.context["request"]), **fields)

    def update(self, experiment: Experiment, changes: dict[str, Any]) -> Experiment:
        experiment.update_by(identity_of(self.context["request"]), **changes)
        return experiment

    def to_representation(self, experiment: Experiment) -> dict[str, Any]:
        shown = super().to_representation(experiment)
        if not experiment.shows_permissions_to(identity_of(self.context["request"])):
            shown["permissions"] = []
        return shown
