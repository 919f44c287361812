"""Events on the wire."""

import datetime
from typing import Any

from rest_framework import serializers

from audit.models import Action, Actor, Event, Target
from core.api.serializers import StrictChoice, StrictText
from core.filters.fields import parse_time


class ActorSerializer(serializers.ModelSerializer[Actor]):
    """The actor of the event, with the email of that time."""

    class Meta:
        model = Actor
        fields = ("kind", "user_id", "issuer", "subject", "email")
        read_only_fields = fields


class TargetSerializer(serializers.ModelSerializer[Target]):
    """The object that was changed, with its name at that time."""

    id = serializers.CharField(source="object_id", read_only=True)

    class Meta:
        model = Target
        fields = ("type", "id", "name")
        read_only_fields = fields


class EventSerializer(serializers.ModelSerializer[Event]):
    """An event of the audit trail: the actor, the action, its target, time and origin, and the changed fields."""

    actor = ActorSerializer(read_only=True)
    target = TargetSerializer(read_only=True)
    before = serializers.DictField(read_only=True, help_text="The changed fields with their old values.")
    after = serializers.DictField(read_only=True, help_text="The same fields with their new values.")

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
            "request_id",
            "way",
            "before",
            "after",
            "expires_at",
        )
        read_only_fields = fields


class TimeParameter(serializers.DateTimeField):
    """A time as filters take it."""

    default_error_messages = {"invalid": "Send a time such as 2026-01-31T12:00:00Z."}

    def to_internal_value(self, value: Any) -> datetime.datetime:
        try:
            return parse_time(value)
        except ValueError:
            self.fail("invalid")


class ExportParameters(serializers.Serializer[dict[str, Any]]):
    """The events to export."""

    since = TimeParameter(required=False, help_text="The earliest time, in RFC 3339; included.")
    until = TimeParameter(required=False, help_text="The end of the period; not included.")
    action = StrictChoice(Action.choices, required=False)
    actor = StrictText(
        required=False,
        max_length=254,
        trim_whitespace=True,
        help_text="A user's id or email, or Anonymous, Command line or Drift Watch.",
    )
