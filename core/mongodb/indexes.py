"""Index types that the backend lacks, and the choice of an index for a later page."""

from typing import Any

from django.db.models import Field, Index, Model
from pymongo import ASCENDING, DESCENDING, IndexModel

from core.mongodb.match import Mql
from core.mongodb.order import Order


class EmbeddedIndex(Index):
    """An index on `fields`. For an embedded field, `parts` names the indexed part."""

    def __init__(self, *, parts: dict[str, str], **options: Any) -> None:
        self.parts = parts
        super().__init__(**options)

    def deconstruct(self) -> Any:
        path, args, kwargs = super().deconstruct()
        return path, args, {**kwargs, "parts": self.parts}

    def get_pymongo_index_model(self, model: type[Model], *args: Any, **options: Any) -> IndexModel:
        keys = [(self._column(model, name), DESCENDING if order else ASCENDING) for name, order in self.fields_orders]
        return IndexModel(keys, name=self.name)

    def _column(self, model: type[Model], name: str) -> str:
        column = column_of(model, name)
        return f"{column}.{self.parts[name]}" if name in self.parts else column


class ExpiryIndex(Index):
    """An index on one time field. MongoDB deletes each document after that time."""

    def get_pymongo_index_model(self, model: type[Model], *args: Any, **options: Any) -> IndexModel:
        ((name, _),) = self.fields_orders
        return IndexModel([(column_of(model, name), ASCENDING)], name=self.name, expireAfterSeconds=0)


def column_of(model: type[Model], name: str) -> str:
    """The column of a field."""
    field = model._meta.get_field(name)
    assert isinstance(field, Field)
    return str(field.column)


def index_serving(model: type[Model], match: Mql, order: Order) -> str | None:
    """Name an index that begins with the conditions and continues in the order, so that no document is read in vain.

    The conditions are equalities, besides ranges of the order's first key. Return None if there is no such index.

    MongoDB tries each index that begins alike, and reads and sorts until one has skipped the documents of the earlier
    pages: 9.9 s for the last page of 1,000,000 runs, which takes 0.5 s by the right index.
    """
    columns = equal_columns(match, order.keys[0])
    if columns is None:
        return None
    for index in model._meta.indexes:
        keys = [(column_of(model, name), direction) for name, direction in index.fields_orders]
        first, last = keys[: len(columns)], keys[len(columns) :]
        is_one_way = len({direction for _, direction in last}) == 1
        in_order = is_one_way and tuple(name for name, _ in last) == order.keys
        # A partial index lacks documents, which these conditions may match.
        if in_order and {name for name, _ in first} == columns and index.condition is None:
            return index.name
    return None


def equal_columns(match: Mql, ranged: str) -> set[str] | None:
    """Return the columns that a match document compares with one value; None if it has other conditions.

    Conditions on the column `ranged` do not count.
    """
    columns: set[str] = set()
    for name, condition in match.items():
        if name == "$and" or (name == "$or" and len(condition) == 1):
            parts = [equal_columns(part, ranged) for part in condition]
            if None in parts:
                return None
            columns.update(*filter(None, parts))
        elif name.startswith("$"):
            return None
        elif name != ranged:
            if isinstance(condition, dict) and any(key.startswith("$") and key != "$eq" for key in condition):
                return None
            columns.add(name)
    return columns
