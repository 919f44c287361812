"""What a filter may name: the fields of a resource, their columns and the values they compare with."""

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, ClassVar

from django.utils.dateparse import parse_date, parse_datetime

from core.mongodb.match import Mql

EQUALITY = frozenset({"$eq", "$ne", "$in", "$nin", "$exists", "$type", "$not"})
ORDER = frozenset({"$gt", "$gte", "$lt", "$lte"})
PATTERN = frozenset({"$regex", "$options"})
ARRAY = frozenset({"$all", "$elemMatch", "$size"})
ARITHMETIC = frozenset({"$mod"})
# Characters of the longest string that a regular expression is tried on, where strings may be of any length. MongoDB
# looks at the clock between documents only: one match in a long string goes on for minutes after the time limit.
MAX_MATCHED = 1_000
# Matches nothing in a longer one, and tries nothing else there (pcrepattern(3), "Backtracking control").
UNLESS_TOO_LONG = rf"\A[\s\S]{{{MAX_MATCHED + 1}}}(*COMMIT)(*FAIL)|"
ALL_OPERATORS = EQUALITY | ORDER | PATTERN | ARRAY | ARITHMETIC


class FilterError(Exception):
    """A filter that is not in the language: where in it, and what is wrong."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


@dataclass(frozen=True)
class Field:
    """One nameable field: its column, and the operators that a condition on it may use."""

    column: str
    operators: ClassVar[frozenset[str]] = frozenset()

    def value(self, value: Any) -> Any:
        """The stored form of a value to compare with. Raises `ValueError` with a sentence."""
        raise NotImplementedError

    def pattern(self, pattern: str) -> str:
        """The regular expression that MongoDB is to match for this one."""
        return pattern


class StringField(Field):
    operators = EQUALITY | ORDER | PATTERN

    def value(self, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        raise ValueError("Compare it with a string.")


class LongStringField(StringField):
    """A text of any length."""

    def pattern(self, pattern: str) -> str:
        return UNLESS_TOO_LONG + pattern


class BooleanField(Field):
    operators = EQUALITY | ORDER

    def value(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        raise ValueError("Compare it with true or false.")


class UUIDField(Field):
    """A UUID, stored as 32 hexadecimal digits."""

    operators = EQUALITY | ORDER

    def value(self, value: Any) -> Any:
        try:
            return value if value is None else uuid.UUID(value).hex
        except (ValueError, AttributeError, TypeError):
            raise ValueError("Compare it with a UUID.") from None


class TimeField(Field):
    operators = EQUALITY | ORDER

    def value(self, value: Any) -> Any:
        return value if value is None else parse_time(value)


class StringListField(Field):
    """An array of strings; a condition holds if it holds for one of them, as in MongoDB."""

    operators = EQUALITY | ORDER | PATTERN | ARRAY

    def value(self, value: Any) -> Any:
        strings = value if isinstance(value, list) else [value]
        if value is None or all(isinstance(item, str) for item in strings):
            return value
        raise ValueError("Compare it with a string or a list of strings.")


class JSONField(Field):
    """Any JSON, with any path below it."""

    operators = ALL_OPERATORS

    def value(self, value: Any) -> Any:
        refuse_dollar_keys(value)
        return value

    def pattern(self, pattern: str) -> str:
        return UNLESS_TOO_LONG + pattern


@dataclass(frozen=True)
class ObjectListField(Field):
    """An array of objects of known fields. Where `guard` does not match, no condition on it does.

    The guard is for what not every reader may see: its content then has no effect on any result.
    """

    fields: Mapping[str, Field]
    guard: Mql
    operators = frozenset({"$size", "$elemMatch", "$exists"})

    def value(self, value: Any) -> Any:
        raise ValueError("Compare its parts, or use $elemMatch.")


@dataclass(frozen=True)
class ObjectField(ObjectListField):
    """One object of known fields, which every reader may see."""

    guard: Mql = dataclass_field(default_factory=dict)
    operators = frozenset({"$exists"})

    def value(self, value: Any) -> Any:
        raise ValueError(f"Compare its parts: {', '.join(f'{self.column}.{name}' for name in self.fields)}.")


@dataclass(frozen=True)
class ComputedField(Field):
    """A field that is not stored: each of its values stands for a match document."""

    values: Mapping[str, Mql]
    operators = frozenset({"$eq", "$ne", "$in", "$nin"})

    def value(self, value: Any) -> Any:
        if isinstance(value, str) and value in self.values:
            return value
        raise ValueError(f"Compare it with one of: {', '.join(self.values)}.")


def parse_time(value: Any) -> datetime.datetime:
    """An RFC 3339 date or time; without an offset it is UTC."""
    try:
        time = parse_datetime(value) or datetime.datetime.combine(parse_date(value), datetime.time())  # type: ignore[arg-type]
        aware = time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
        return aware.astimezone(datetime.UTC)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("Compare it with a time such as 2026-01-31T12:00:00Z.") from None


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
