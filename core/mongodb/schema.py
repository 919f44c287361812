"""Schema changes that suit large collections: unique indexes that lookups use, and new fields without a rewrite."""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Index, Model
from django_mongodb_backend.schema import DatabaseSchemaEditor as BackendSchemaEditor
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid


class FullIndex:
    """A unique index without the partial filter that the backend adds.

    The filter (`{"$type": "string"}`) allows several nulls. MongoDB uses no partial index for equality, so that
    `get(name=…)` scanned the whole collection.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.name = index.name

    def get_pymongo_index_model(self, model: type[Model], **options: Any) -> IndexModel:
        index_model: IndexModel = self.index.get_pymongo_index_model(model, **options)  # type: ignore[attr-defined]
        index_model.document.pop("partialFilterExpression", None)
        return index_model


class DatabaseSchemaEditor(BackendSchemaEditor):
    """The backend's schema editor, with full unique indexes for columns without nulls."""

    def add_field(self, model: type[Model], field: Field[Any, Any]) -> None:
        """Add a field. Documents stay unchanged if it is null by default: an absent field reads as null.

        The backend would write null into every document, and take minutes for millions of runs.
        """
        if field.null and self.effective_default(field) is None and not self._field_should_be_indexed(model, field):
            return
        super().add_field(model, field)

    def create_model(self, model: type[Model]) -> None:
        """Create the collection and its indexes.

        The collection may exist: a process of this release may have stored documents before the migration.
        """
        try:
            super().create_model(model)
        except DatabaseError as error:
            if not isinstance(error.__cause__, CollectionInvalid) or model._meta.local_many_to_many:
                raise
            self._create_model_indexes(model)

    def add_index(
        self,
        model: type[Model],
        index: Index,
        *,
        field: Field[Any, Any] | None = None,
        unique: bool = False,
        **options: Any,
    ) -> None:
        fields = [field] if field else [model._meta.get_field(name) for name, _ in index.fields_orders]
        if unique and not index.condition and not any(field.null for field in fields):
            index = FullIndex(index)  # type: ignore[assignment]
        super().add_index(model, index, field=field, unique=unique, **options)


class Recorder(DatabaseSchemaEditor):
    """A schema editor that keeps the indexes that it would create."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.indexes: list[IndexModel] = []

    def get_collection(self, name: str) -> Recorder:
        return self

    def create_indexes(self, indexes: list[IndexModel]) -> None:
        self.indexes += indexes


def declared_indexes(connection: BaseDatabaseWrapper, model: type[Model]) -> list[IndexModel]:
    """Return the indexes that the collection of a model should have, besides that of `_id`."""
    recorder = Recorder(connection)
    recorder._create_model_indexes(model)
    return recorder.indexes
