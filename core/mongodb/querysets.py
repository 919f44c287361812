"""The base class of the service's querysets."""

import uuid
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from django.db.models import Model, QuerySet
from django.db.models.sql.where import AND
from django.utils.functional import cached_property

from core.mongodb.documents import Document, aggregate, aggregate_within, find_one, instance_of
from core.mongodb.indexes import index_serving
from core.mongodb.match import Match, MatchAny, Mql
from core.mongodb.order import Order

# The most bytes of BSON that a page decodes, apart from its first document. Decoding and encoding so many small values
# takes up to half a second, so many numbers a fifth of that.
MAX_PAGE_BYTES = 8_000_000
M_co = TypeVar("M_co", bound=Model, covariant=True)


class FilterableQuerySet(QuerySet[M_co]):
    """A queryset that takes match documents, and reads pages and counts at a bounded cost."""

    # True if each query must read the state of one moment, because other processes change many documents meanwhile.
    needs_one_moment = False

    def by_id(self, pk: uuid.UUID) -> M_co | None:
        """Return the object with this id, or None. Ignores the queryset's filters. For models with UUID ids."""
        document = find_one(self.model, {"_id": pk.hex})
        return instance_of(self.model, document) if document else None

    def matching(self, document: Mql) -> Self:
        """Return the queryset filtered by a match document, such as a translated filter."""
        return self.where(Match(document)) if document else self.all()

    def where(self, condition: Match) -> Self:
        """Return the queryset filtered by a condition, as `filter` does, but without its search for field names."""
        matching = self.all()
        matching.query.where.add(condition, AND)
        return matching

    def match_document(self, *more: Mql) -> Mql:
        """Return the queryset's filters and `more` conditions as one match document.

        The conditions are repeated in each alternative of a `MatchAny`: MongoDB merges sorted reads of several
        indexes only for an `$or` at the root.
        """
        alternatives, conditions = self._compiled
        matches = [both(alternative, *more, *conditions) for alternative in alternatives]
        return matches[0] if len(matches) == 1 else {"$or": matches}

    @cached_property
    def _compiled(self) -> tuple[list[Mql], list[Mql]]:
        """The queryset's filters: alternatives, of which one must match, and conditions, which must all match."""
        alternatives: list[Mql] = [{}]
        conditions: list[Mql] = []
        children: list[Any] = self.query.where.children
        for child in children:
            if isinstance(child, MatchAny):
                alternatives = [both(one, other) for one in alternatives for other in child.rhs["$or"]]
            elif isinstance(child, Match):
                conditions.append(child.rhs)
            else:
                compiler = self.query.get_compiler(self.db)
                conditions.append(child.as_mql(compiler, compiler.connection))
        return alternatives, conditions

    def ids(self) -> list[str]:
        """Return the ids of the documents, as stored."""
        return [document["_id"] for document in self.aggregated({"$project": {"_id": 1}})]

    def aggregated(self, *stages: Mql) -> list[Document]:
        """Return the result of aggregation stages on the documents."""
        pipeline = [{"$match": self.match_document()}, *stages]
        return aggregate(self.model, pipeline, needs_one_moment=self.needs_one_moment)

    def bounded(self, *stages: Mql) -> tuple[list[Document], bool]:
        """Return the result of aggregation stages up to `MAX_PAGE_BYTES`, and whether documents were left out."""
        pipeline = [{"$match": self.match_document()}, *stages]
        return self.page_of(pipeline)

    def page_of(self, pipeline: list[Mql], **options: Any) -> tuple[list[Document], bool]:
        """Return the result of a pipeline up to `MAX_PAGE_BYTES`, and whether documents were left out."""
        return aggregate_within(self.model, pipeline, MAX_PAGE_BYTES, needs_one_moment=self.needs_one_moment, **options)

    def sorted_slice(
        self, order: Order, limit: int, *, start: int = 0, after: Sequence[Any] | None = None, shape: Sequence[Mql] = ()
    ) -> tuple[list[Document], bool]:
        """Return at most `limit` stored documents in this order, from index `start` on, or after a position.

        The documents end early at `MAX_PAGE_BYTES`. Return also whether some were left out for that reason. The stages
        `shape` change each document, such as to leave out a large field; the order's keys must remain.

        After a position, one range of an index is read after the other, at a cost that does not depend on the
        position. In a single query for all ranges, MongoDB 6 reads and sorts every match.
        """
        sort: Mql = {"$sort": order.sort}
        end: list[Mql] = [sort, {"$limit": limit}]
        if after is None:
            skip: list[Mql] = [{"$skip": start}] if start else []
            pipeline = [{"$match": self.match_document()}, sort, *skip, {"$limit": limit}, *shape]
            if start and (index := index_serving(self.model, pipeline[0]["$match"], order)):
                return self.page_of(pipeline, hint=index)
        else:
            first, *others = ([{"$match": self.match_document(each)}, *end, *shape] for each in order.after(after))
            unions = [{"$unionWith": {"coll": self.model._meta.db_table, "pipeline": other}} for other in others]
            pipeline = [*first, *unions, *(end if unions else [])]
        return self.page_of(pipeline)

    def count_up_to(self, limit: int) -> int:
        """Return the number of documents, at most `limit`."""
        match = self.match_document()
        # Counting all documents by the index of ids avoids reading them: they may be large.
        hint = {} if match else {"hint": "_id_"}
        pipeline: list[Mql] = [{"$match": match}, {"$limit": limit}, {"$count": "number"}]
        counted = aggregate(self.model, pipeline, needs_one_moment=self.needs_one_moment, **hint)
        return counted[0]["number"] if counted else 0


def both(*conditions: Mql) -> Mql:
    """Return the conjunction of match documents."""
    parts = [condition for condition in conditions if condition]
    return {"$and": parts} if len(parts) > 1 else parts[0] if parts else {}
