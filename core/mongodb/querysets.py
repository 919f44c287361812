"""What every queryset of the service can do."""

import uuid
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from django.db.models import Model, QuerySet
from django.db.models.sql.where import AND
from django.utils.functional import cached_property

from core.mongodb.documents import Document, aggregate, find_one, instance_of
from core.mongodb.match import Match, MatchAny, Mql
from core.mongodb.order import Order

M_co = TypeVar("M_co", bound=Model, covariant=True)


class FilterableQuerySet(QuerySet[M_co]):
    def by_id(self, pk: uuid.UUID) -> M_co | None:
        """The one of all that has this id, or None; for models whose ids are UUIDs."""
        document = find_one(self.model, {"_id": pk.hex})
        return instance_of(self.model, document) if document else None

    def matching(self, document: Mql) -> Self:
        """The documents that a match document matches, such as a translated filter."""
        return self.where(Match(document)) if document else self.all()

    def where(self, condition: Match) -> Self:
        """What `filter` makes of a condition that names no fields for Django to look up."""
        matching = self.all()
        matching.query.where.add(condition, AND)
        return matching

    def match_document(self, *more: Mql) -> Mql:
        """What the queryset filters by, and more conditions, as one match document.

        MongoDB merges sorted reads of several indexes for an `$or` at the root alone: the
        conditions are repeated in each of the alternatives of a `MatchAny`.
        """
        alternatives, conditions = self._compiled
        matches = [both(alternative, *more, *conditions) for alternative in alternatives]
        return matches[0] if len(matches) == 1 else {"$or": matches}

    @cached_property
    def _compiled(self) -> tuple[list[Mql], list[Mql]]:
        """What the queryset filters by: alternatives, of which any is to match, and conditions that all are to."""
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

    def aggregated(self, *stages: Mql) -> list[Document]:
        """What aggregation stages make of the documents."""
        return aggregate(self.model, [{"$match": self.match_document()}, *stages])

    def sorted_slice(
        self, order: Order, limit: int, *, start: int = 0, after: Sequence[Any] | None = None
    ) -> list[Document]:
        """At most `limit` stored documents in this order, from the `start`th on, or after a position.

        What comes after a position is read by one range of an index after the other, whatever is
        before it. One query for them all is planned worse: MongoDB 6 then reads all that
        matches, and sorts that.
        """
        end: list[Mql] = [{"$sort": order.sort}, {"$limit": limit}]
        if after is None:
            end[1:1] = [{"$skip": start}] if start else []
            return self.aggregated(*end)
        first, *others = ([{"$match": self.match_document(each)}, *end] for each in order.after(after))
        unions = [{"$unionWith": {"coll": self.model._meta.db_table, "pipeline": other}} for other in others]
        return aggregate(self.model, [*first, *unions, *(end if unions else [])])

    def count_up_to(self, limit: int) -> int:
        """How many there are, or `limit` if there are more."""
        match = self.match_document()
        # Where nothing is asked for, the index of ids spares MongoDB the documents, which may be large.
        hint = {} if match else {"hint": "_id_"}
        counted = aggregate(self.model, [{"$match": match}, {"$limit": limit}, {"$count": "number"}], **hint)
        return counted[0]["number"] if counted else 0


def both(*conditions: Mql) -> Mql:
    """The conjunction of several match documents."""
    parts = [condition for condition in conditions if condition]
    return {"$and": parts} if len(parts) > 1 else parts[0] if parts else {}
