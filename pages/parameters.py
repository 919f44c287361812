"""The parameters of runs for display: values by path, with their kind and text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.utils.functional import cached_property

from core.mongodb.documents import Document, without_references
from core.mongodb.match import Mql
from drifts.parameters import WITHOUT_PARAMETERS, text_of
from drifts.statistics import parameter

MISSING = object()
# In place of a value that is too large for a cell.
TOO_LARGE = object()
# The most bytes of BSON of a value in a cell, and the characters of a text: a cell shows 80, its title 1,000.
MAX_CELL = 4_000
MAX_TEXT = 1_001


def cells_of(paths: Sequence[str]) -> list[Mql]:
    """The aggregation stages that replace the parameters of a run by `cells`: those at the paths, without large parts.

    A cell is an object with the `value` at its path. The value is left out if it is missing or large; `size` is the
    number of bytes of a large one.
    """
    return [{"$set": {"cells": [cell(parameter(path)) for path in paths]}}, WITHOUT_PARAMETERS]


def cell(value: Any) -> Mql:
    short: Mql = {"$cond": [{"$eq": [{"$type": "$$value"}, "string"]}, beginning("$$value"), "$$value"]}
    size: Mql = {"$bsonSize": {"value": "$$short"}}
    parts = {"value": {"$cond": [{"$lte": ["$$size", MAX_CELL]}, "$$short", "$$REMOVE"]}, "size": "$$size"}
    for_size = {"$let": {"vars": {"size": size}, "in": parts}}
    return {"$let": {"vars": {"value": value}, "in": {"$let": {"vars": {"short": short}, "in": for_size}}}}


def beginning(text: str) -> Mql:
    return {"$substrCP": [text, 0, MAX_TEXT]}


def value_of(cell: Document) -> Any:
    """The value of a cell, `MISSING` or `TOO_LARGE`."""
    if cell["size"] > MAX_CELL:
        return TOO_LARGE
    return without_references(cell["value"]) if "value" in cell else MISSING


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

    # In a row of the table of runs, which has fields too: their kind is that of a `DisplayField`.
    kind: ClassVar[str] = "parameter"
    value: Any

    @property
    def is_missing(self) -> bool:
        return self.value is MISSING

    @property
    def is_number(self) -> bool:
        return is_number(self.value)

    @cached_property
    def text(self) -> str:
        if self.value is TOO_LARGE:
            return "Too large to show"
        return "" if self.is_missing else text_of(self.value)

    @property
    def short_text(self) -> str:
        """The text, with floats rounded to six digits, and without the sign of a zero."""
        return f"{self.value:z.6g}" if isinstance(self.value, float) else self.text
