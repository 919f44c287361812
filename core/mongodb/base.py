"""The `ENGINE` of `settings.DATABASES`."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import pymongo
from bson import DBRef
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.functional import cached_property
from django_mongodb_backend import base
from django_mongodb_backend.operations import DatabaseOperations as BackendOperations
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from core.mongodb import embedded
from core.mongodb.schema import DatabaseSchemaEditor


class DatabaseOperations(BackendOperations):
    compiler_module = "core.mongodb.compiler"

    def convert_jsonfield_value(self, value: Any, expression: Any, connection: Any) -> str:
        """Stored JSON as text, which the field parses.

        The driver takes an object with `$ref` and `$id` for a reference to a document; it goes
        back to the object that was sent.
        """
        return json.dumps(value, default=DBRef.as_doc)


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = DatabaseSchemaEditor
    ops_class = DatabaseOperations

    def init_connection_state(self) -> None:
        super().init_connection_state()
        self.__dict__.pop("collection", None)

    @cached_property
    def collection(self) -> Callable[[str], Collection[dict[str, Any]]]:
        """The collection of a name. Each is made once for a connection: for the driver that is no small matter."""
        return cache(self.database.get_collection)

    def get_connection_params(self) -> dict[str, Any]:
        """With no `HOST` the embedded server is the host: found where it runs, else started for this process."""
        params: dict[str, Any] = super().get_connection_params()
        return params if params["host"] else {**params, "host": embedded.uri()}


def primary_answers(seconds: float = 2) -> bool:
    """Whether the primary is there and answers within that time."""
    try:
        with pymongo.timeout(seconds):
            mongodb().database.command("ping")
    except PyMongoError:
        return False
    return True


def mongodb() -> DatabaseWrapper:
    """This thread's connection, for what only MongoDB has: sessions, commands, collections."""
    return cast(DatabaseWrapper, connections[DEFAULT_DB_ALIAS])
