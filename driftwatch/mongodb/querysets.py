"""What every queryset of the service can do."""

from typing import Self

from django.db.models import QuerySet

from driftwatch.mongodb.match import Match, Mql


class FilterableQuerySet(QuerySet):
    def matching(self, document: Mql) -> Self:
        """The documents that a translated filter matches (`driftwatch.filters.translate`)."""
        return self.filter(Match(document)) if document else self.all()
