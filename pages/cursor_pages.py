"""Pages of a table, each with the cursors of the next and the previous one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from core.api.pagination import Search, encode_cursor, search_digest
from core.mongodb.documents import Document
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.mongodb.querysets import FilterableQuerySet
from core.totals import Total


@dataclass(frozen=True)
class CursorPage:
    """The documents of a page, and the total of all pages.

    The next page begins after the cursor `after`, and the previous one ends before `before`. Without such a page, the
    cursor is empty.
    """

    documents: list[Document]
    total: Total
    after: str = ""
    before: str = ""

    @classmethod
    def empty(cls) -> Self:
        return cls([], Total(0))


@dataclass(frozen=True)
class CursorPages:
    """A search whose pages lead to each other. `name` has its parameters; `shape` changes each document."""

    queryset: FilterableQuerySet[Any]
    order: Order
    name: Sequence[Any]
    shape: Sequence[Mql] = ()

    def page(self, size: int, after: str, before: str) -> CursorPage:
        """The page after or before a cursor, or without both the first one.

        Raises `InvalidQuery` for a cursor of another search. A previous page is found like a next page, in the
        opposite order.
        """
        order, reverse = self.order, Order(self.order.keys, not self.order.is_descending)
        forwards, backwards = search_digest([*self.name, order.sort]), search_digest([*self.name, reverse.sort])
        if before:
            page = Search(self.queryset, reverse, backwards, self.shape).page_after(before, size)
            documents = page.documents[::-1]
            has_next, has_previous = True, page.next_cursor is not None
        else:
            search = Search(self.queryset, order, forwards, self.shape)
            page = search.page_after(after, size) if after else search.page(1, size)
            documents = page.documents
            has_next, has_previous = page.next_cursor is not None, bool(after)
        if not documents:
            return CursorPage([], page.total)
        return CursorPage(
            documents,
            page.total,
            after=encode_cursor(order.position(documents[-1]), forwards) if has_next else "",
            before=encode_cursor(reverse.position(documents[0]), backwards) if has_previous else "",
        )
