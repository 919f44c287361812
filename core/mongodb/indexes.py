"""Index types that the backend lacks."""

from typing import Any

from django.db.models import Field, Index, Model
from pymongo import ASCENDING, DESCENDING, IndexModel


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
        field = model._meta.get_field(name)
        assert isinstance(field, Field)
        column = str(field.column)
        return f"{column}.{self.parts[name]}" if name in self.parts else column


class ExpiryIndex(Index):
    """An index on one time field. MongoDB deletes each document after that time."""

    def get_pymongo_index_model(self, model: type[Model], *args: Any, **options: Any) -> IndexModel:
        ((name, _),) = self.fields_orders
        field = model._meta.get_field(name)
        assert isinstance(field, Field)
        return IndexModel([(str(field.column), ASCENDING)], name=self.name, expireAfterSeconds=0)
