"""Serializers without type coercion: no string for a boolean, no number for a string, no unknown fields."""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, NoReturn, TypeVar

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import models
from rest_framework import serializers
from rest_framework.fields import empty, get_error_detail

from core.tags import MAX_TAG, MAX_TAGS

S = TypeVar("S", bound=serializers.Serializer[Any])

NOT_AN_OBJECT = "Must be an object."
NOT_A_LIST = "Must be a list."
# The most unknown fields that a refusal of an object names.
MAX_UNKNOWN = 10


class PlainMessages:
    """Messages for input fields, in place of those of Django REST framework. The fields add their own."""

    default_error_messages: ClassVar[dict[str, Any]] = {
        "null": "Must not be null.",
        "blank": "Must not be empty.",
        "min_value": "Must be at least {min_value}.",
        "max_value": "Must be at most {max_value}.",
    }


class StrictBoolean(PlainMessages, serializers.BooleanField):
    """A JSON boolean."""

    default_error_messages = {"invalid": "Must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictText(PlainMessages, serializers.CharField):
    """A JSON string, stored as it was sent, and not blank unless `allow_blank` is set."""

    default_error_messages = {
        "invalid": "Must be a string.",
        "min_length": "Must have at least {min_length} characters.",
        "max_length": "Must have at most {max_length} characters.",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not self.allow_blank and not data.strip():
            self.fail("blank")
        return super().to_internal_value(data)


class IntegerParameter(PlainMessages, serializers.IntegerField):
    """An integer in a query parameter."""

    default_error_messages = {"invalid": "Must be an integer.", "max_string_length": "Must have fewer digits."}


class StrictInteger(IntegerParameter):
    """A JSON number without a fraction."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


class StrictNumber(PlainMessages, serializers.FloatField):
    """A JSON number, which is finite."""

    default_error_messages = {"invalid": "Must be a number."}

    def to_internal_value(self, data: Any) -> float:
        is_number = isinstance(data, int | float) and not isinstance(data, bool)
        if not is_number or (isinstance(data, float) and not math.isfinite(data)):
            self.fail("invalid")
        return data


class StrictChoice(PlainMessages, serializers.ChoiceField):
    """One of the choices, which a refusal names."""

    default_error_messages = {"invalid_choice": "Choose one of: {choices}."}

    def fail(self, key: str, **details: Any) -> NoReturn:
        super().fail(key, choices=", ".join(map(str, self.choices)), **details)


class StrictList(PlainMessages, serializers.ListField):
    """A JSON array."""

    default_error_messages = {
        "not_a_list": NOT_A_LIST,
        "min_length": "Must have at least {min_length} elements.",
        "max_length": "Must have at most {max_length} elements.",
    }

    def to_internal_value(self, data: Any) -> list[Any]:
        """Refuse a list that is too long before its elements are validated: each may have an error."""
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class StrictObject(PlainMessages, serializers.DictField):
    """Any JSON object, stored unchanged."""

    default_error_messages = {"not_a_dict": NOT_AN_OBJECT}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_a_dict")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Tags(StrictList):
    """At most `MAX_TAGS` strings of 1 to `MAX_TAG` characters."""

    default_error_messages = {"max_length": "At most {max_length} tags are allowed."}

    def __init__(self, **options: Any) -> None:
        super().__init__(child=StrictText(min_length=1, max_length=MAX_TAG), max_length=MAX_TAGS, **options)


# Validates strictly. A docstring would appear in the OpenAPI document, for subclasses without one.
class StrictSerializer(serializers.Serializer[Any]):
    default_error_messages = {"null": "Must be an object, not null.", "invalid": NOT_AN_OBJECT}
    # The fields that null clears, with the types of their empty values. Responses never have null there.
    cleared_by_null: ClassVar[Mapping[str, Callable[[], Any]]] = {}

    @classmethod
    def many_init(cls, *args: Any, **options: Any) -> Any:
        return super().many_init(*args, **{"error_messages": {"not_a_list": NOT_A_LIST}, **options})

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return self.represent(instance)

    @classmethod
    def represent(cls, instance: Any) -> dict[str, Any]:
        """Return the representation of an instance, if all callers see the same."""
        return {
            name: value if (value := getattr(instance, attribute)) is None or convert is None else convert(value)
            for name, attribute, convert in representations(cls)
        }

    @classmethod
    def validated(cls, data: Any) -> dict[str, Any]:
        """Validate the fields of a new instance, if all callers have the same rules. Raises `ValidationError`."""
        fields: dict[str, Any] = shared_instance(cls).run_validation(data)
        return fields

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Ignore read-only fields, which clients send back with an object they read; refuse unknown fields.

        Replace null by the empty value in the fields that it clears.
        """
        if isinstance(data, Mapping) and (unknown := sorted(data.keys() - self.fields.keys())):
            writable = ", ".join(name for name, field in self.fields.items() if not field.read_only)
            errors = {name: [f"There is no such field. Fields: {writable}."] for name in unknown[:MAX_UNKNOWN]}
            if others := len(unknown) - len(errors):
                errors["non_field_errors"] = [f"{others:,} more fields are unknown."]
            raise serializers.ValidationError(errors)
        if isinstance(data, Mapping):
            cleared = {name: empty() for name, empty in self.cleared_by_null.items() if data.get(name, ...) is None}
            data = {**data, **cleared} if cleared else data
            return self.validated_fields(data)
        return super().to_internal_value(data)

    def validated_fields(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the fields of an object as the base class does, but visit no field that the object may omit.

        The base class raises an exception for each of them: a third of the time of validating a run in bulk, and 15 %
        of the whole request.
        """
        fields: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        is_partial = getattr(self.root, "partial", False)
        for name, field in self.fields.items():
            may_omit = is_partial or not (field.required or field.default is not empty)
            if field.read_only or (may_omit and name not in data):
                continue
            validate = getattr(self, f"validate_{name}", None)
            try:
                value = field.run_validation(data.get(name, empty))
                fields[name] = validate(value) if validate else value
            except serializers.ValidationError as error:
                errors[name] = error.detail
            except DjangoValidationError as error:
                errors[name] = get_error_detail(error)
        if errors:
            raise serializers.ValidationError(errors)
        return fields


# The same for models, again without a docstring.
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
        """Return no uniqueness validators: the unique indexes detect conflicts without an extra query."""
        return []


@cache
def shared_instance(kind: type[S]) -> S:
    """Return the one instance of a serializer class. It holds no data, so threads can share it."""
    return kind()


# Fields whose values `json_of` can encode unchanged.
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
def representations(kind: type[StrictSerializer]) -> list[tuple[str, str, Callable[[Any], Any] | None]]:
    """Return the name, attribute and converter of each readable field. None stands for no conversion."""
    return [
        (name, str(field.source), None if isinstance(field, PLAIN) else field.to_representation)
        for name, field in kind().fields.items()
        if not field.write_only
    ]
