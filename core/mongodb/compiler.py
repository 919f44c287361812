"""Query compilers whose sorts can use an index."""

from typing import Any

from django_mongodb_backend import compiler
from django_mongodb_backend.compiler import (
    SQLAggregateCompiler,
    SQLDeleteCompiler,
    SQLInsertCompiler,
    SQLUpdateCompiler,
)
from django_mongodb_backend.query import MongoQuery

__all__ = [
    "SQLAggregateCompiler",
    "SQLCompiler",
    "SQLDeleteCompiler",
    "SQLInsertCompiler",
    "SQLUpdateCompiler",
]


class SQLCompiler(compiler.SQLCompiler):
    """The backend's compiler, without stages that keep a sort from using an index."""

    def build_query(self, columns: Any = None) -> MongoQuery:
        """Build the query without stages such as `{"$addFields": {"name": "$name"}}`.

        The backend adds one for each plain column of an `order_by()`. It changes no document, but MongoDB cannot
        sort by an index after it: a page of ten examined 101,000 documents.
        """
        query = super().build_query(columns)
        if query.extra_fields:
            query.extra_fields = {name: value for name, value in query.extra_fields.items() if value != f"${name}"}
        return query
