"""The `ENGINE` of `settings.DATABASES`."""

import json
from typing import Any

from bson import DBRef
from django_mongodb_backend import base
from django_mongodb_backend.operations import DatabaseOperations as BackendOperations

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

    def get_connection_params(self) -> dict[str, Any]:
        """With no `HOST` the embedded server is the host: found where it runs, else started for this process."""
        params: dict[str, Any] = super().get_connection_params()
        return params if params["host"] else {**params, "host": embedded.uri()}
