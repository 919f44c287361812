"""What every queryset of the service can do."""

import uuid
from typing import Any, Self, TypeVar

from django.db.models import Model, QuerySet

from driftwatch.mongodb.documents import aggregate, find_one, instance_of
from driftwatch.mongodb.match import Match, Mql

M_co = TypeVar("M_co", bound=Model, covariant=True)


class FilterableQuerySet(QuerySet[M_co]):
    def by_id(self, pk: uuid.UUID) -> M_co | None:
        """The one of all that has this id, or None; for models whose ids are UUIDs."""
        document = find_one(self.model, {"_id": pk.hex})
        return instance_of(self.model, document) if document else None

    def matching(self, document: Mql) -> Self:
        """The documents that a match document matches, such as a translated filter."""
        return self.filter(Match(document)) if document else self.all()

    def aggregated(self, *stages: Mql) -> list[dict[str, Any]]:
        """What aggregation stages make of the documents."""
        compiler: Any = self.order_by().query.get_compiler(self.db)
        compiler.pre_sql_setup()
        return aggregate(self.model, [*compiler.build_query().get_pipeline(), *stages])
