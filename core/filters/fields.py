"""The fields that a filter may name, with their columns, operators and types of values."""

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, ClassVar

from django.utils.dateparse import parse_date, parse_datetime

from core.filters.expressions import EXPRESSIONS, value_at
from core.mongodb.match import Mql

EQUALITY = frozenset({"$eq", "$ne", "$in", "$nin", "$exists", "$type", "$not"})
ORDER = frozenset({"$gt", "$gte", "$lt", "$lte"})
PATTERN = frozenset({"$regex", "$options"})
ARRAY = frozenset({"$all", "$elemMatch", "$size"})
ARITHMETIC = frozenset({"$mod"})
# Regular expressions are tried on strings of at most so many characters. MongoDB checks its time limit between
# documents only, so that one match in a long string could run for minutes.
MAX_MATCHED = 1_000
# The prefix makes a longer string fail at once (pcrepattern(3), "Backtracking control").
UNLESS_TOO_LONG = rf"\A[\s\S]{{{MAX_MATCHED + 1}}}(*COMMIT)(*FAIL)|"
ALL_OPERATORS = EQUALITY | ORDER | PATTERN | ARRAY | ARITHMETIC


class FilterError(Exception):
    """An invalid filter: the path of the invalid part, and the problem."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


@dataclass(frozen=True)
class Field:
    """A field that filters may name: its column and its operators."""

    column: str
    operators: ClassVar[frozenset[str]] = frozenset()

    def value(self, value: Any) -> Any:
        """Return the stored form of a value from a filter. Raises `ValueError` with a message for the client."""
        raise NotImplementedError

    def pattern(self, pattern: str) -> str:
        """Return the regular expression that MongoDB gets for the client's `pattern`."""
        return pattern


class StringField(Field):
    """A string of bounded length."""

    operators = EQUALITY | ORDER | PATTERN

    def value(self, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        raise ValueError("Compare this field with a string.")


class LongStringField(StringField):
    """A string of any length."""

    def pattern(self, pattern: str) -> str:
        return UNLESS_TOO_LONG + pattern


class BooleanField(Field):
    """A boolean."""

    operators = EQUALITY | ORDER

    def value(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        raise ValueError("Compare this field with true or false.")


class NumberField(Field):
    """A number."""

    operators = EQUALITY | ORDER | ARITHMETIC

    def value(self, value: Any) -> Any:
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise ValueError("Compare this field with a number.")


class UUIDField(Field):
    """A UUID, stored as 32 hexadecimal digits."""

    operators = EQUALITY | ORDER

    def value(self, value: Any) -> Any:
        try:
            return value if value is None else uuid.UUID(value).hex
        except (ValueError, AttributeError, TypeError):
            raise ValueError("Compare this field with a UUID.") from None


class TimeField(Field):
    """A time, in filters an RFC 3339 string."""

    operators = EQUALITY | ORDER

    def value(self, value: Any) -> Any:
        return value if value is None else parse_time(value)


class StringListField(Field):
    """An array of strings. A condition matches if any of them does, as in MongoDB."""

    operators = EQUALITY | ORDER | PATTERN | ARRAY

    def value(self, value: Any) -> Any:
        strings = value if isinstance(value, list) else [value]
        if value is None or all(isinstance(item, str) for item in strings):
            return value
        raise ValueError("Compare this field with a string or a list of strings.")


class JSONField(Field):
    """Any JSON value. Filters may name any path inside it."""

    operators = ALL_OPERATORS

    def value(self, value: Any) -> Any:
        refuse_dollar_keys(value)
        return value

    def pattern(self, pattern: str) -> str:
        return UNLESS_TOO_LONG + pattern


class SortedObjectField(JSONField):
    """An object of scalars whose names are stored in order. Equal objects in a filter may have another order.

    Its names may be paths themselves, whose dots are escaped in a filter.
    """

    def value(self, value: Any) -> Any:
        sorted_value = dict(sorted(value.items())) if isinstance(value, dict) else value
        return super().value(sorted_value)


@dataclass(frozen=True)
class ExpressionField(JSONField):
    """A value inside a JSON column whose path has a name that match documents cannot hold, such as one with a dot."""

    names: tuple[str, ...]
    operators = PATTERN | EXPRESSIONS.keys()

    @property
    def expression(self) -> Any:
        """The aggregation expression of the value."""
        return value_at(self.column, self.names)


@dataclass(frozen=True)
class ObjectListField(Field):
    """An array of objects with known fields. A condition matches only documents that `guard` matches.

    The guard protects content that some readers may not see: it cannot affect their results.
    """

    fields: Mapping[str, Field]
    guard: Mql
    operators = frozenset({"$size", "$elemMatch", "$exists"})

    def value(self, value: Any) -> Any:
        raise ValueError("Compare the parts of this field, or use $elemMatch.")


@dataclass(frozen=True)
class ObjectField(ObjectListField):
    """An object with known fields, visible to every reader."""

    guard: Mql = dataclass_field(default_factory=dict)
    operators = frozenset({"$exists"})

    def value(self, value: Any) -> Any:
        raise ValueError(
            f"Compare the parts of this field: {', '.join(f'{self.column}.{name}' for name in self.fields)}."
        )


@dataclass(frozen=True)
class ComputedField(Field):
    """A field that is not stored. Each of its values maps to a match document."""

    values: Mapping[str | bool, Mql]
    operators = frozenset({"$eq", "$ne", "$in", "$nin"})

    def value(self, value: Any) -> Any:
        if isinstance(value, str | bool) and value in self.values:
            return value
        names = (str(name).lower() if isinstance(name, bool) else name for name in self.values)
        raise ValueError(f"Compare this field with one of: {', '.join(names)}.")


def parse_time(value: Any) -> datetime.datetime:
    """Parse an RFC 3339 date or time, in UTC unless it has an offset. Raises `ValueError`.

    Its letters T and Z may be in lower case (section 5.6), which Python does not take.
    """
    try:
        value = value.upper()
        time = parse_datetime(value) or datetime.datetime.combine(parse_date(value), datetime.time())  # type: ignore[arg-type]
        aware = time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
        return aware.astimezone(datetime.UTC)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ValueError("Compare this field with a time such as 2026-01-31T12:00:00Z.") from None


def refuse_dollar_keys(value: Any) -> None:
    match value:
        case dict():
            for key, item in value.items():
                if key.startswith("$"):
                    raise ValueError(f"{key} is not allowed inside a value.")
                refuse_dollar_keys(item)
        case list():
            for item in value:
                refuse_dollar_keys(item)
