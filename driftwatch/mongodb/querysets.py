"""What every queryset of the service can do."""

from typing import Self, TypeVar

from django.db.models import Model, QuerySet

from driftwatch.mongodb.match import Match, Mql

M_co = TypeVar("M_co", bound=Model, covariant=True)


class FilterableQuerySet(QuerySet[M_co]):
    def matching(self, document: Mql) -> Self:
        """The documents that a match document matches, such as a translated filter."""
        return self.filter(Match(document)) if document else self.all()
