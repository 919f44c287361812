"""Query compilers whose sorts can use an index, and whose writes of one document are retried."""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models.sql.constants import MULTI
from django_mongodb_backend import compiler
from django_mongodb_backend.compiler import SQLAggregateCompiler, SQLInsertCompiler
from django_mongodb_backend.query import MongoQuery

from core.mongodb.documents import with_django_errors
from core.mongodb.match import Mql

__all__ = [
    "SQLAggregateCompiler",
    "SQLCompiler",
    "SQLDeleteCompiler",
    "SQLInsertCompiler",
    "SQLUpdateCompiler",
]


class SortedFirstQuery(MongoQuery):
    """The backend's query, which sorts before it leaves out columns: MongoDB cannot sort by an index afterwards."""

    project_fields: Mql | None

    def get_pipeline(self) -> list[Mql]:
        """Return the pipeline, with a selection of plain columns as its last stage."""
        columns = self.project_fields
        if not columns or self.subquery_lookup or any(value != 1 for value in columns.values()):
            return list(super().get_pipeline())
        self.project_fields = None
        try:
            return [*super().get_pipeline(), {"$project": columns}]
        finally:
            self.project_fields = columns


class SQLCompiler(compiler.SQLCompiler):
    """The backend's compiler, without stages that keep a sort from using an index."""

    query_class = SortedFirstQuery

    def build_query(self, columns: Any = None) -> MongoQuery:
        """Build the query without stages such as `{"$addFields": {"name": "$name"}}`.

        The backend adds one for each plain column of an `order_by()`. It changes no document, but MongoDB cannot
        sort by an index after it: a page of ten examined 101,000 documents.
        """
        if self.query.deferred_loading[0]:
            # The backend reads deferred fields too, and Django drops them afterwards.
            columns = self.columns
        query = super().build_query(columns)
        if query.extra_fields:
            query.extra_fields = {name: value for name, value in query.extra_fields.items() if value != f"${name}"}
        return query


class SQLUpdateCompiler(compiler.SQLUpdateCompiler, SQLCompiler):
    """The backend's compiler, which changes one document by `update_one`: the driver retries it after a failover."""

    @with_django_errors
    def update(self, criteria: Mql, pipeline: list[Mql]) -> int:
        """Update the matching documents and return their number."""
        update = self.collection.update_one if names_one(criteria) else self.collection.update_many
        return int(update(criteria, pipeline, session=self.connection.session).matched_count)


class SQLDeleteCompiler(compiler.SQLDeleteCompiler, SQLCompiler):
    """The backend's compiler, which deletes one document by `delete_one`: the driver retries it after a failover."""

    def execute_sql(self, result_type: str = MULTI) -> int:
        """Delete the matching documents and return their number."""
        try:
            query = self.build_query()
        except EmptyResultSet:
            return 0
        return self.delete_one(query.match_mql) if names_one(query.match_mql) else int(query.delete())

    @with_django_errors
    def delete_one(self, criteria: Mql) -> int:
        """Delete the document that the criteria name, and return 1, or 0 if there is none."""
        return int(self.collection.delete_one(criteria, session=self.connection.session).deleted_count)


def names_one(match: Mql) -> bool:
    """Return whether a match document names one id, and therefore matches at most one document."""
    match match.get("_id"):
        case None:
            return any(names_one(condition) for condition in match.get("$and", ()))
        case {"$in": [_]}:
            return True
        case dict():
            return False
        case _:
            return True
