"""MongoDB match documents as conditions of querysets."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from django.db.models import Lookup, Value

Mql: TypeAlias = dict[str, Any]
# Matches no document.
NOTHING: Mql = {"_id": {"$exists": False}}


class Match(Lookup):
    """A match document for `.filter()`, which combines with `Q` and other filters.

    MongoDB receives it unchanged. It must come from this code base or from the filter language, never
    directly from a client.
    """

    lookup_name = "match"
    prepare_rhs = False

    def __init__(self, document: Mql) -> None:
        super().__init__(Value(True), document)

    def resolve_expression(self, *args: Any, **kwargs: Any) -> "Match":
        return self

    def as_mql(self, compiler: Any, connection: Any, as_expr: bool = False) -> Mql:
        if as_expr:
            raise NotImplementedError("A match document is a condition, it has no value.")
        return self.rhs


class MatchAny(Match):
    """Matches documents that any of the alternatives matches.

    Unlike a `Match` of their `$or`, it promises that each alternative has an index for every sort. MongoDB can
    then merge the sorted reads of these indexes.
    """

    def __init__(self, alternatives: Sequence[Mql]) -> None:
        super().__init__({"$or": list(alternatives)})
