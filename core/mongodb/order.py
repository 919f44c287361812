"""Orders of documents, and what comes after one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Self

from core.mongodb.documents import Document
from core.mongodb.match import Mql


@dataclass(frozen=True)
class Order:
    """By the columns of `keys`, all in one direction. The last one is `_id`: no two documents are equal."""

    keys: tuple[str, ...]
    is_descending: bool

    @classmethod
    def by(cls, column: str, *, is_descending: bool) -> Self:
        """By a column; ties are broken by time, then by id."""
        return cls(tuple(dict.fromkeys((column, "created_at", "_id"))), is_descending)

    @property
    def sort(self) -> Mql:
        return dict.fromkeys(self.keys, -1 if self.is_descending else 1)

    def position(self, document: Document, following: Document | None = None) -> list[Any]:
        """Where a document stands, by the values of its keys: of as many as tell it from the `following` one.

        To go on from there, fewer ranges are to be read than from where all keys are told.
        """
        values = [document.get(key) for key in self.keys]
        if following is None:
            return values
        agreeing = takewhile(lambda key: document.get(key) == following.get(key), self.keys)
        return values[: len(list(agreeing)) + 1]

    def after(self, position: Sequence[Any]) -> list[Mql]:
        """What comes after a position, as match documents of which each is a range of an index.

        The nearest comes first: what equals the position in all keys that it tells but the last, then in
        all but the last two, and so on. None of them overlap.
        """
        ranges: list[Mql] = []
        equal: Mql = {}
        for key, value in zip(self.keys, position, strict=False):
            ranges[:0] = [{**equal, key: condition} for condition in self._beyond(key, value)]
            equal[key] = value
        return ranges

    def _beyond(self, key: str, value: Any) -> list[Any]:
        """Conditions on one key. Null sorts before every value, and is neither less nor greater than one."""
        if not self.is_descending:
            return [{"$ne": None} if value is None else {"$gt": value}]
        if value is None:
            return []
        # Times and ids are never null.
        return [{"$lt": value}, None] if key in self.keys[:-2] else [{"$lt": value}]
