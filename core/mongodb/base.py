"""The `ENGINE` of `settings.DATABASES`."""

import json
from typing import Any

from bson import DBRef
from django_mongodb_backend import base
from django_mongodb_backend.operations import DatabaseOperations as BackendOperations

from core.mongodb import embedded
from core.mongodb.commands import CommandCounter
from core.mongodb.schema import DatabaseSchemaEditor


class DatabaseOperations(BackendOperations):
    """The backend's operations, with our compilers and JSON that may look like a reference."""

    compiler_module = "core.mongodb.compiler"

    def convert_jsonfield_value(self, value: Any, expression: Any, connection: Any) -> str:
        """Return stored JSON as text, which the field parses.

        The driver reads an object with `$ref` and `$id` as a `DBRef`, which is converted back to the object.
        """
        return json.dumps(value, default=DBRef.as_doc)


class DatabaseWrapper(base.DatabaseWrapper):
    """The backend's connection, with the embedded server as its default host."""

    SchemaEditorClass = DatabaseSchemaEditor
    ops_class = DatabaseOperations

    def get_connection_params(self) -> dict[str, Any]:
        """Return the connection parameters. Without a `HOST`, connect to the embedded server and start it if needed."""
        params: dict[str, Any] = super().get_connection_params() | {"event_listeners": [CommandCounter()]}
        return params if params["host"] else {**params, "host": embedded.uri()}
