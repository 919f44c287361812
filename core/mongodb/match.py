"""A MongoDB match document as a condition of a queryset."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from django.db.models import Lookup, Value

Mql: TypeAlias = dict[str, Any]


class Match(Lookup):
    """Puts a match document into `.filter()`, where it combines with `Q` and with other filters.

    The document reaches MongoDB as it is: it comes from this code base or from the filter
    language, never straight from a client.
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
    """Matches what one of several documents matches.

    Unlike a `Match` of their `$or` it says that each has an index of its own, in every order
    that is asked for: they are then read side by side, and merged as they come.
    """

    def __init__(self, alternatives: Sequence[Mql]) -> None:
        super().__init__({"$or": list(alternatives)})
