"""The connection to MongoDB, and model instances straight from documents, past the compiler of Django's queries.

The requests that are made all day are known in advance: they ask MongoDB in its own words, and only
what comes back becomes model instances. Compiling the same queryset anew took longer than running it.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import pymongo
from bson import DBRef
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import DateTimeField, Field, JSONField, Model, UUIDField
from django.db.models.base import ModelState
from django_mongodb_backend.fields import EmbeddedModelArrayField
from django_mongodb_backend.query import wrap_database_errors
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from core.mongodb.base import DatabaseWrapper
from core.mongodb.match import Mql

M = TypeVar("M", bound=Model)
P = ParamSpec("P")
T = TypeVar("T")
Document: TypeAlias = dict[str, Any]
Convert: TypeAlias = Callable[[Any], Any]
SCALARS = frozenset({str, int, float, bool})


def mongodb() -> DatabaseWrapper:
    """This thread's connection, for what only MongoDB has: sessions, commands, collections."""
    return cast(DatabaseWrapper, connections[DEFAULT_DB_ALIAS])


def is_primary_reachable(seconds: float = 2) -> bool:
    """Whether the primary is there and answers within that time."""
    try:
        with pymongo.timeout(seconds):
            mongodb().database.command("ping")
    except PyMongoError:
        return False
    return True


# Has a function raise Django's database errors in place of the driver's.
with_django_errors: Callable[[Callable[P, T]], Callable[P, T]] = wrap_database_errors


def collection_of(model: type[Model]) -> Collection[Document]:
    return mongodb().database[model._meta.db_table]


@with_django_errors
def aggregate(model: type[Model], pipeline: list[Mql], **options: Any) -> list[Document]:
    """What a pipeline makes of the model's collection, as a part of the transaction at hand if there is one.

    Raises what a queryset raises.
    """
    return list(collection_of(model).aggregate(pipeline, session=mongodb().session, **options))


@with_django_errors
def find_one(model: type[Model], match: Mql, **options: Any) -> Document | None:
    """One stored document that matches, or None."""
    return collection_of(model).find_one(match, session=mongodb().session, **options)


@with_django_errors
def insert_one(model: type[Model], document: Document) -> None:
    collection_of(model).insert_one(document, session=mongodb().session)


@with_django_errors
def insert_many(model: type[Model], documents: list[Document]) -> None:
    """Call it in a transaction: outside of one, those before the one that fails are kept."""
    collection_of(model).insert_many(documents, session=mongodb().session)


@with_django_errors
def delete_one(model: type[Model], match: Mql) -> bool:
    """Delete one stored document and nothing that refers to it. Return whether there was one."""
    return collection_of(model).delete_one(match, session=mongodb().session).deleted_count == 1


def instances_of(model: type[M], documents: Iterable[Document]) -> Iterator[M]:
    """An instance for each stored document, equal to the one that a queryset makes of it."""
    columns, conversions = layout(model)
    for document in documents:
        values = {name: document.get(column) for name, column in columns}
        for name, convert in conversions:
            if (value := values[name]) is not None:
                values[name] = convert(value)
        # What `from_db` does for fields that are all there and nobody watches being set.
        instance = model.__new__(model)
        instance._state = state = ModelState()
        state.adding, state.db = False, DEFAULT_DB_ALIAS
        vars(instance).update(values)
        yield instance


def instance_of(model: type[M], document: Document) -> M:
    return next(instances_of(model, [document]))


@cache
def layout(model: type[Model]) -> tuple[list[tuple[str, str]], list[tuple[str, Convert]]]:
    """The attributes of a model with the columns that hold them, and how those are read that are stored otherwise."""
    fields = model._meta.concrete_fields
    conversions = [(field.attname, convert) for field in fields for convert in converters_of(field)]
    return [(field.attname, str(field.column)) for field in fields], conversions


def converters_of(field: Field[Any, Any]) -> list[Convert]:
    """From the stored form of a value to the model's: the backend's, or what does the same at once."""
    if type(field) in CONVERTERS:
        return [CONVERTERS[type(field)]]
    if isinstance(field, EmbeddedModelArrayField):
        return [lambda stored: list(instances_of(field.embedded_model, stored))]
    connection = mongodb()
    column = field.get_col(field.model._meta.db_table)
    converters = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]
    return [partial(converter, expression=column, connection=connection) for converter in converters]


def without_references(value: Any) -> Any:
    """The driver takes an object with `$ref` and `$id` for a reference; it goes back to what was sent."""
    match value:
        case dict():
            return {key: item if type(item) in SCALARS else without_references(item) for key, item in value.items()}
        case list():
            return [without_references(item) for item in value]
        case DBRef():
            return without_references(dict(value.as_doc()))
        case _:
            return value


CONVERTERS: dict[type[Field[Any, Any]], Convert] = {
    DateTimeField: lambda stored: stored.replace(tzinfo=datetime.UTC),
    JSONField: without_references,
    UUIDField: lambda stored: uuid.UUID(int=int(stored, 16)),
}
