"""Model instances straight from documents, past the compiler of Django's queries.

The requests that are made all day are known in advance: they ask MongoDB in its own words, and only
what comes back becomes model instances. Compiling the same queryset anew took longer than running it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

from bson import DBRef
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Field, JSONField, Model
from django_mongodb_backend.query import wrap_database_errors
from pymongo.collection import Collection

from driftwatch.mongodb.base import mongodb
from driftwatch.mongodb.match import Mql

M = TypeVar("M", bound=Model)
P = ParamSpec("P")
T = TypeVar("T")
Document: TypeAlias = dict[str, Any]
Convert: TypeAlias = Callable[[Any], Any]


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


def instances_of(model: type[M], documents: Iterable[Document]) -> Iterator[M]:
    """An instance for each stored document, equal to the one that a queryset makes of it."""
    names, readers = layout(model)
    for document in documents:
        values = [read(document) for read in readers]
        yield model.from_db(DEFAULT_DB_ALIAS, names, values)


def instance_of(model: type[M], document: Document) -> M:
    return next(instances_of(model, [document]))


@cache
def layout(model: type[Model]) -> tuple[tuple[str, ...], tuple[Convert, ...]]:
    """The attributes of a model, and how each is read from a document."""
    fields = model._meta.concrete_fields
    return tuple(field.attname for field in fields), tuple(map(reader_of, fields))


def reader_of(field: Field[Any, Any]) -> Convert:
    column, converters = str(field.column), converters_of(field)

    def read(document: Mapping[str, Any]) -> Any:
        value = document.get(column)
        for convert in converters:
            value = convert(value)
        return value

    return read


def converters_of(field: Field[Any, Any]) -> list[Convert]:
    """From the stored form of a value to the model's: the backend's, but for JSON, which is what it is already."""
    if isinstance(field, JSONField):
        return [without_references]
    connection = mongodb()
    column = field.get_col(field.model._meta.db_table)
    converters = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]
    return [partial(converter, expression=column, connection=connection) for converter in converters]


def without_references(value: Any) -> Any:
    """The driver takes an object with `$ref` and `$id` for a reference; it goes back to what was sent."""
    match value:
        case dict():
            return {key: without_references(item) for key, item in value.items()}
        case list():
            return [without_references(item) for item in value]
        case DBRef():
            return without_references(dict(value.as_doc()))
        case _:
            return value
