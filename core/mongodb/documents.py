"""The connection to MongoDB, and model instances made from stored documents.

Hot queries are written in MongoDB's own language and bypass querysets, because compiling a queryset takes longer
than running it. The backend's `raw_aggregate` makes instances too, but a page of ten runs takes 0.23 ms with it
and 0.02 ms here, and `raw_aggregate` cannot use documents that are already read.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import bson
import pymongo
from bson import DBRef
from bson.codec_options import DEFAULT_CODEC_OPTIONS, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import DateTimeField, Field, JSONField, Model, UUIDField
from django.db.models.base import ModelState
from django_mongodb_backend.fields import EmbeddedModelArrayField
from django_mongodb_backend.query import wrap_database_errors
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from core.mongodb.base import DatabaseWrapper
from core.mongodb.match import Mql
from core.turns import in_turn

M = TypeVar("M", bound=Model)
P = ParamSpec("P")
T = TypeVar("T")
Document: TypeAlias = dict[str, Any]
D = TypeVar("D", bound=Mapping[str, Any])
Convert: TypeAlias = Callable[[Any], Any]
SCALARS = frozenset({str, int, float, bool, type(None)})
# The time limit of one operation on many documents, and of a ping.
WORK_SECONDS = 30
PING_SECONDS = 0.5
# A raw document with a time that Python does not have is read like any other. Decoding it fails.
RAW = DEFAULT_CODEC_OPTIONS.with_options(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
SNAPSHOT = ReadConcern("snapshot")
# Bytes of BSON that take 10 ms or more to decode.
LARGE = 1_000_000


def mongodb() -> DatabaseWrapper:
    """Return this thread's connection, for sessions, commands and collections, which Django does not offer."""
    return cast(DatabaseWrapper, connections[DEFAULT_DB_ALIAS])


def is_primary_responding() -> bool:
    """Return whether the primary responds within `PING_SECONDS`."""
    try:
        with pymongo.timeout(PING_SECONDS):
            mongodb().database.command("ping")
    except PyMongoError:
        return False
    return True


def require_primary() -> None:
    """Wait for a primary unless one is known. Raises the driver's error after the time limit of one operation."""
    if not mongodb().database.client.topology_description.has_writable_server():
        mongodb().database.command("ping")


# A decorator: the function raises Django's database errors in place of the driver's.
with_django_errors: Callable[[Callable[P, T]], Callable[P, T]] = wrap_database_errors


def collection_of(model: type[Model]) -> Collection[Document]:
    """Return the collection of a model. Its methods run outside the current transaction unless given its session."""
    return mongodb().database[model._meta.db_table]


def of_one_moment(collection: Collection[D], is_needed: bool) -> Collection[D]:
    """Return the collection, for a query that must read the state of one moment if that is needed.

    A longer query otherwise reads several states. It misses a document, or finds it twice, whose key in the index
    changes meanwhile. In a transaction, all queries read the state of one moment.
    """
    return collection.with_options(read_concern=SNAPSHOT) if is_needed and not mongodb().session else collection


@with_django_errors
def aggregate(
    model: type[Model], pipeline: list[Mql], *, needs_one_moment: bool = False, **options: Any
) -> list[Document]:
    """Run a pipeline on the model's collection, in the current transaction if there is one.

    The documents must be small: `aggregate_within` and `aggregate_one` are for others. Raises Django's database errors,
    as a queryset does.
    """
    collection = of_one_moment(collection_of(model), needs_one_moment)
    return list(collection.aggregate(pipeline, session=mongodb().session, **options))


def aggregate_within(model: type[Model], pipeline: list[Mql], room: int, **options: Any) -> tuple[list[Document], bool]:
    """Run a pipeline like `aggregate`, until its documents exceed `room` bytes of BSON. The first is always returned.

    Return also whether documents were left out. These are not decoded, which costs far more than reading them.
    """
    taken, is_cut = raw_within(model, pipeline, room, **options)
    return decoded([document.raw for document in taken]), is_cut


@with_django_errors
def raw_within(
    model: type[Model], pipeline: list[Mql], room: int, *, needs_one_moment: bool = False, **options: Any
) -> tuple[list[RawBSONDocument], bool]:
    """Return the same as `aggregate_within`, as stored: decoding turns some objects into references."""
    taken: list[RawBSONDocument] = []
    is_cut = False
    collection = of_one_moment(raw_collection_of(model), needs_one_moment)
    with collection.aggregate(pipeline, session=mongodb().session, **options) as found:
        for document in found:
            room -= len(document.raw)
            if is_cut := room < 0 and bool(taken):
                break
            taken.append(document)
    return taken, is_cut


def aggregate_one(model: type[Model], pipeline: list[Mql]) -> Document | None:
    """Return the only document of a pipeline, which may be large, or None."""
    found, _ = aggregate_within(model, pipeline, 0)
    return found[0] if found else None


def find_one(model: type[Model], match: Mql, **options: Any) -> Document | None:
    """Return one stored document that matches, or None."""
    found = find_raw(model, match, **options)
    return None if found is None else decoded([found.raw])[0]


@with_django_errors
def find_raw(model: type[Model], match: Mql, **options: Any) -> RawBSONDocument | None:
    """Return one document that matches as it is stored, so that it can be stored again without a change; or None."""
    return raw_collection_of(model).find_one(match, session=mongodb().session, **options)


def raw_collection_of(model: type[Model]) -> Collection[RawBSONDocument]:
    """Return the collection of a model. Its documents are not decoded."""
    return mongodb().database.get_collection(model._meta.db_table, RAW)


def decoded(documents: list[bytes | memoryview]) -> list[Document]:
    """Decode documents, large ones in turn."""
    content = b"".join(documents)
    with in_turn(len(content) > LARGE):
        return bson.decode_all(content)


def upserted(collection: Collection[Document], pk: str, update: list[Mql]) -> Document:
    """Update the document with this id by a pipeline, in one atomic step, or insert it. Return it as it is then."""
    try:
        return upserted_once(collection, pk, update)
    except DuplicateKeyError:
        # Two requests inserted it at once; the second update finds it.
        return upserted_once(collection, pk, update)


def upserted_once(collection: Collection[Document], pk: str, update: list[Mql]) -> Document:
    document: Document | None = collection.find_one_and_update(
        {"_id": pk}, update, upsert=True, return_document=ReturnDocument.AFTER
    )
    assert document is not None
    return document


@with_django_errors
def insert_one(model: type[Model], document: Document) -> None:
    """Insert a document. Raises Django's database errors, such as `IntegrityError`."""
    collection_of(model).insert_one(document, session=mongodb().session)


@with_django_errors
def insert_many(model: type[Model], documents: list[Document]) -> None:
    """Insert documents. Outside a transaction, a failure leaves the documents before it stored."""
    with pymongo.timeout(WORK_SECONDS):
        collection_of(model).insert_many(documents, session=mongodb().session)


@with_django_errors
def update_one(model: type[Model], match: Mql, update: Mql) -> bool:
    """Update one stored document. Return whether there was one that matches."""
    return collection_of(model).update_one(match, update, session=mongodb().session).matched_count == 1


@with_django_errors
def delete_one(model: type[Model], match: Mql) -> bool:
    """Delete one stored document, without those that refer to it. Return whether there was one."""
    return collection_of(model).delete_one(match, session=mongodb().session).deleted_count == 1


def instances_of(model: type[M], documents: Iterable[Document]) -> Iterator[M]:
    """Make an instance of each stored document, equal to the one that a queryset would make."""
    columns, conversions = layout(model)
    # A model whose older records lack fields gives them their values.
    complete = getattr(model, "complete", None)
    for document in documents:
        values = {name: document.get(column) for name, column in columns}
        for name, convert in conversions:
            if (value := values[name]) is not None:
                values[name] = convert(value)
        if complete:
            complete(values)
        # The same as `from_db`, which also handles deferred fields and calls `__init__` with its signals.
        instance = model.__new__(model)
        instance._state = state = ModelState()
        state.adding, state.db = False, DEFAULT_DB_ALIAS
        vars(instance).update(values)
        yield instance


def instance_of(model: type[M], document: Document) -> M:
    """Make an instance of a stored document."""
    return next(instances_of(model, [document]))


@cache
def layout(model: type[Model]) -> tuple[list[tuple[str, str]], list[tuple[str, Convert]]]:
    """Return the pairs of an attribute and its column, and the conversions of attributes that are stored otherwise."""
    fields = model._meta.concrete_fields
    conversions = [(field.attname, convert) for field in fields for convert in converters_of(field)]
    return [(field.attname, str(field.column)) for field in fields], conversions


def converters_of(field: Field[Any, Any]) -> list[Convert]:
    """Return the conversions from a stored value to the model's: the backend's, or a faster equivalent."""
    if type(field) in CONVERTERS:
        return [CONVERTERS[type(field)]]
    if isinstance(field, EmbeddedModelArrayField):
        return [lambda stored: list(instances_of(field.embedded_model, stored))]
    connection = mongodb()
    column = field.get_col(field.model._meta.db_table)
    converters = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]
    return [partial(converter, expression=column, connection=connection) for converter in converters]


def without_references(value: Any) -> Any:
    """Turn references back into objects: the driver takes an object with `$ref` and `$id` for a reference.

    Most values have none, and looking for one takes a tenth of the time of a copy.
    """
    return copied(value) if has_reference(value) else value


def has_reference(value: Any) -> bool:
    containers = [[value]]
    while containers:
        for item in containers.pop():
            if type(item) in SCALARS or not item:
                continue
            if isinstance(item, DBRef):
                return True
            if isinstance(item, dict):
                containers.append(list(item.values()))
            elif isinstance(item, list):
                containers.append(item)
    return False


def copied(value: Any) -> Any:
    match value:
        case dict():
            return {key: copied(item) for key, item in value.items()}
        case list():
            return [copied(item) for item in value]
        case DBRef():
            return copied(dict(value.as_doc()))
        case _:
            return value


CONVERTERS: dict[type[Field[Any, Any]], Convert] = {
    DateTimeField: lambda stored: stored.replace(tzinfo=datetime.UTC),
    JSONField: without_references,
    UUIDField: lambda stored: uuid.UUID(int=int(stored, 16)),
}
