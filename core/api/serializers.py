"""Serializers that take JSON at its word: no text for a boolean, no number for a text, no unknown field."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from django.db import models
from rest_framework import serializers

S = TypeVar("S", bound=serializers.Serializer[Any])


class StrictBoolean(serializers.BooleanField):
    default_error_messages = {"invalid": "Must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictText(serializers.CharField):
    default_error_messages = {"invalid": "Must be a string."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not self.allow_blank and not data.strip():
            self.fail("blank")
        return super().to_internal_value(data)


class StrictInteger(serializers.IntegerField):
    default_error_messages = {"invalid": "Must be an integer."}

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


class StrictNumber(serializers.FloatField):
    default_error_messages = {"invalid": "Must be a number."}

    def to_internal_value(self, data: Any) -> float:
        if not isinstance(data, int | float) or isinstance(data, bool):
            self.fail("invalid")
        return data


class StrictObject(serializers.DictField):
    """Any JSON object, kept as it is."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Tags(serializers.ListField):
    """At most 50 strings of 1 to 20 characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=StrictText(min_length=1, max_length=20), max_length=50, **options)


class StrictSerializer(serializers.Serializer[Any]):
    default_error_messages = {"null": "Must be an object, not null."}

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return self.shown(instance)

    @classmethod
    def shown(cls, instance: Any) -> dict[str, Any]:
        """What an instance is shown as where it does not matter to whom."""
        return {
            name: value if (value := getattr(instance, attribute)) is None or show is None else show(value)
            for name, attribute, show in ways_to_show(cls)
        }

    @classmethod
    def validated(cls, data: Any) -> dict[str, Any]:
        """The fields of a new instance, where it does not matter whose. Raises `ValidationError`."""
        fields: dict[str, Any] = blank(cls).run_validation(data)
        return fields

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Read-only fields sent back by a client that round-trips an object are ignored, unknown ones refused."""
        if isinstance(data, Mapping) and (unknown := sorted(data.keys() - self.fields.keys())):
            writable = ", ".join(name for name, field in self.fields.items() if not field.read_only)
            raise serializers.ValidationError(
                {name: [f"There is no such field. Fields: {writable}."] for name in unknown}
            )
        return super().to_internal_value(data)


class StrictModelSerializer(StrictSerializer, serializers.ModelSerializer[Any]):
    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.BooleanField: StrictBoolean,
        models.CharField: StrictText,
        models.TextField: StrictText,
        models.JSONField: StrictObject,
    }

    def get_validators(self) -> list[Any]:
        """None that look for a conflict first: the unique indexes find it."""
        return []


@cache
def blank(kind: type[S]) -> S:
    """The one instance of a kind of serializer that only validates: it keeps nothing, so that threads share it."""
    return kind()


# The values of these are shown as they are: JSON knows how to write each.
PLAIN = (
    StrictInteger,
    StrictBoolean,
    StrictObject,
    Tags,
    serializers.CharField,
    serializers.ChoiceField,
    serializers.DateTimeField,
    serializers.UUIDField,
)


@cache
def ways_to_show(kind: type[StrictSerializer]) -> list[tuple[str, str, Callable[[Any], Any] | None]]:
    """For each field that is shown: its name, the attribute it shows, and how; None for the value as it is."""
    return [
        (name, str(field.source), None if isinstance(field, PLAIN) else field.to_representation)
        for name, field in kind().fields.items()
        if not field.write_only
    ]
