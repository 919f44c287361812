"""Events on the wire."""

import datetime
from typing import Any

from rest_framework import serializers

from audit.models import Action, Actor, Event, Target
from core.filters.fields import parse_time


class ActorSerializer(serializers.ModelSerializer[Actor]):
    """Who did it, as they were then."""

    class Meta:
        model = Actor
        fields = ("kind", "user_id", "issuer", "subject", "email")
        read_only_fields = fields


class TargetSerializer(serializers.ModelSerializer[Target]):
    """What it was done to, by the name that it had then."""

    id = serializers.CharField(source="object_id", read_only=True)

    class Meta:
        model = Target
        fields = ("type", "id", "name")
        read_only_fields = fields


class EventSerializer(serializers.ModelSerializer[Event]):
    """Who did what to what, when, from where, and what it changed."""

    actor = ActorSerializer(read_only=True)
    target = TargetSerializer(read_only=True)
    before = serializers.DictField(read_only=True, help_text="What was changed, by field, as it was.")
    after = serializers.DictField(read_only=True, help_text="The same fields as they became.")

    class Meta:
        model = Event
        fields = (
            "id",
            "created_at",
            "action",
            "actor",
            "target",
            "experiment_id",
            "address",
            "user_agent",
            "way",
            "before",
            "after",
            "expires_at",
        )
        read_only_fields = fields


class TimeParameter(serializers.DateTimeField):
    """A time as filters take it."""

    def to_internal_value(self, value: Any) -> datetime.datetime:
        try:
            return parse_time(value)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error


class ExportParameters(serializers.Serializer[dict[str, Any]]):
    """Which events to export."""

    since = TimeParameter(required=False, help_text="The first time, as RFC 3339 says; included.")
    until = TimeParameter(required=False, help_text="The last time; not included.")
    action = serializers.ChoiceField(Action.choices, required=False)
    actor = serializers.CharField(required=False, max_length=254, help_text="A user's id or email.")
