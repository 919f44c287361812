"""Serializers that take JSON at its word: no text for a boolean, no number for a text, no unknown field."""

import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias, cast

from django.core.validators import MaxLengthValidator, MinLengthValidator, ProhibitNullCharactersValidator
from django.db import models
from rest_framework import serializers
from rest_framework.utils.serializer_helpers import BindingDict
from rest_framework.validators import ProhibitSurrogateCharactersValidator

# The fields of each serializer, as this thread uses them.
own = threading.local()


class StrictBoolean(serializers.BooleanField):
    default_error_messages = {"invalid": "Must be true or false."}

    def takes(self, data: Any) -> bool:
        return isinstance(data, bool)

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictText(serializers.CharField):
    default_error_messages = {"invalid": "Must be a string."}

    def takes(self, data: Any) -> bool:
        # What is printable holds no NUL and no lone surrogate.
        return (
            isinstance(data, str)
            and (self.min_length or 1) <= len(data) <= (self.max_length or len(data))
            and data.isprintable()
            and data.strip() == data
        )

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not self.allow_blank and not data.strip():
            self.fail("blank")
        return super().to_internal_value(data)


class StrictChoice(serializers.ChoiceField):
    def takes(self, data: Any) -> bool:
        return isinstance(data, str) and data in self.choices


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

    def takes(self, data: Any) -> bool:
        return isinstance(data, dict)

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

    def takes(self, data: Any) -> bool:
        return isinstance(data, list) and len(data) <= 50 and all(map(cast(StrictText, self.child).takes, data))


class StrictSerializer(serializers.Serializer[Any]):
    default_error_messages = {"null": "Must be an object, not null."}

    @property
    def fields(self) -> BindingDict:
        """The fields, made once for each thread: making them took longer than validating with them.

        A field knows which serializer it works for by its `parent`, which is set anew for each use.
        """
        made: dict[type, BindingDict] = own.__dict__.setdefault("fields", {})
        kind = type(self)
        if kind not in made:
            made[kind] = super().fields
        for field in made[kind].values():
            field.parent = self
        return made[kind]

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
        if (taken := None if self.partial else taken_as_it_is(type(self), data)) is not None:
            return taken
        if isinstance(data, Mapping) and (unknown := sorted(data.keys() - self.fields.keys())):
            writable = ", ".join(name for name, field in self.fields.items() if not field.read_only)
            raise serializers.ValidationError(
                {name: [f"There is no such field. Fields: {writable}."] for name in unknown}
            )
        return super().to_internal_value(data)

    def run_validators(self, value: Any) -> None:
        """Where there are none, do not collect what Django REST framework would give them."""
        if self.validators:
            super().run_validators(value)


class StrictModelSerializer(StrictSerializer, serializers.ModelSerializer[Any]):
    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.BooleanField: StrictBoolean,
        models.CharField: StrictText,
        models.TextField: StrictText,
        models.JSONField: StrictObject,
    }

    serializer_choice_field = StrictChoice

    def get_validators(self) -> list[Any]:
        """None that look for a conflict first: the unique indexes find it."""
        return []


@cache
def blank(kind: type[StrictSerializer]) -> StrictSerializer:
    """A serializer of nothing in particular, for any number of threads: it keeps nothing of what it validates."""
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


# Fields have `takes` to tell at once that a value is valid and taken as it is, as nearly all are that are sent;
# what it does not take is looked at, and perhaps refused, by the field's own validation.
Way: TypeAlias = tuple[str, Callable[[Any], bool], Callable[[], Any] | None]
# What `takes` knows of; a field with another validator always has that asked.
LOOKED_FOR = (
    MaxLengthValidator,
    MinLengthValidator,
    ProhibitNullCharactersValidator,
    ProhibitSurrogateCharactersValidator,
)


def taken_as_it_is(kind: type[StrictSerializer], data: Any) -> dict[str, Any] | None:
    """What `to_internal_value` makes of data of which every field is taken as it is; None for any other."""
    ways, names = ways_to_take(kind)
    if not isinstance(data, dict) or not data.keys() <= names:
        return None
    taken = {}
    for name, takes, default in ways:
        if name not in data:
            if default is None:
                return None
            taken[name] = default()
        elif takes(data[name]):
            taken[name] = data[name]
        else:
            return None
    return taken


@cache
def ways_to_take(kind: type[StrictSerializer]) -> tuple[list[Way], frozenset[str]]:
    """How each writable field takes a value, and what makes its default, if it can be made; and all names."""
    serializer = kind()
    ways = [
        (name, way_to_take(serializer, field), default_of(field))
        for name, field in serializer.fields.items()
        if not field.read_only
    ]
    return ways, frozenset(serializer.fields)


def way_to_take(serializer: StrictSerializer, field: Any) -> Callable[[Any], bool]:
    takes: Callable[[Any], bool] | None = getattr(field, "takes", None)
    is_more_to_it = hasattr(serializer, f"validate_{field.field_name}") or field.source != field.field_name
    if takes is None or is_more_to_it or not all(isinstance(each, LOOKED_FOR) for each in field.validators):
        return lambda data: False
    # A subclass that refuses more, and does not say so in a `takes` of its own, has each value looked at.
    if not issubclass(definer(field, "takes"), definer(field, "to_internal_value")):
        return lambda data: False
    return (lambda data: data is None or takes(data)) if field.allow_null else takes


def definer(field: Any, method: str) -> type:
    return next(kind for kind in type(field).__mro__ if method in vars(kind))


def default_of(field: Any) -> Callable[[], Any] | None:
    if field.default is serializers.empty or getattr(field.default, "requires_context", False):
        return None
    return field.default if callable(field.default) else lambda: field.default
