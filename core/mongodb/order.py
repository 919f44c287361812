"""Sort orders, and the ranges of documents after a position in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Self

from core.mongodb.match import Mql


@dataclass(frozen=True)
class Order:
    """A sort by the columns `keys`, all in one direction. The last is `_id`, so the order is total."""

    keys: tuple[str, ...]
    is_descending: bool

    @classmethod
    def by(cls, column: str, *, is_descending: bool) -> Self:
        """Return the order by a column. Ties are broken by creation time, then by id."""
        return cls(tuple(dict.fromkeys((column, "created_at", "_id"))), is_descending)

    @property
    def sort(self) -> Mql:
        """The specification for `$sort`."""
        return dict.fromkeys(self.keys, -1 if self.is_descending else 1)

    def position(self, document: Mapping[str, Any], following: Mapping[str, Any] | None = None) -> list[Any]:
        """Return the position of a document: the values of its keys.

        If `following` is given, only the keys up to the first that differs are included. Fewer keys mean fewer
        ranges to read after the position.
        """
        values = [document.get(key) for key in self.keys]
        if following is None:
            return values
        agreeing = takewhile(lambda key: document.get(key) == following.get(key), self.keys)
        return values[: len(list(agreeing)) + 1]

    def after(self, position: Sequence[Any]) -> list[Mql]:
        """Return match documents of the documents after a position; each is one range of an index.

        The ranges do not overlap, and the nearest is first: documents that equal the position in all its keys
        but the last, then in all but the last two, and so on.
        """
        ranges: list[Mql] = []
        equal: Mql = {}
        for key, value in zip(self.keys, position, strict=False):
            ranges[:0] = [{**equal, key: condition} for condition in self._beyond(key, value)]
            equal[key] = value
        return ranges

    def _beyond(self, key: str, value: Any) -> list[Any]:
        """Return the conditions on one key. Null sorts before all values, but `$lt` and `$gt` never match it."""
        if not self.is_descending:
            return [{"$ne": None} if value is None else {"$gt": value}]
        if value is None:
            return []
        # Times and ids are never null.
        return [{"$lt": value}, None] if key in self.keys[:-2] else [{"$lt": value}]


NEWEST_FIRST = Order.by("created_at", is_descending=True)
