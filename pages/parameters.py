"""The parameters of runs for display: values by path, with their kind and text."""

from dataclasses import dataclass
from typing import Any

from drifts.parameters import text_of

MISSING = object()


def value_at(parameters: Any, path: str) -> Any:
    """The value at a path, written as in filters, or `MISSING`. A number in the path is a list index or a name."""
    value = parameters
    for name in path.split(".")[1:]:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdecimal() and int(name[:9]) < len(value):
            value = value[int(name[:9])]
        else:
            return MISSING
    return value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


@dataclass(frozen=True)
class Shown:
    """A value in a table."""

    value: Any

    @property
    def is_missing(self) -> bool:
        return self.value is MISSING

    @property
    def is_number(self) -> bool:
        return is_number(self.value)

    @property
    def text(self) -> str:
        return "" if self.is_missing else text_of(self.value)

    @property
    def short_text(self) -> str:
        """The text, with floats rounded to six digits."""
        return f"{self.value:.6g}" if isinstance(self.value, float) else self.text
