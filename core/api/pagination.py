"""Pages of search results, by page number or by a cursor that continues after another page."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

import bson
from django.core.signing import BadSignature, Signer
from django.utils.functional import cached_property

from core.api.exceptions import InvalidQuery
from core.mongodb.documents import Document
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.mongodb.querysets import FilterableQuerySet
from core.totals import Total, total_of

SALT = "driftwatch.cursor"
INVALID_CURSOR = "This is not a cursor of this service. Send next_cursor exactly as the previous response gave it."
CURSOR_OF_ANOTHER_SEARCH = (
    "This cursor belongs to another search. Send it to the same address, with the same filter, sort_by and order_by."
)


class BSONSerializer:
    """Serializes the content of a cursor as BSON, which preserves times and MongoDB's other types."""

    def dumps(self, value: Any) -> bytes:
        return bson.encode(value)

    def loads(self, data: bytes) -> Any:
        return bson.decode(data)


def signer() -> Signer:
    # The separator needs no escaping in a URL.
    return Signer(salt=SALT, sep=".")


def encode_cursor(position: list[Any], search: bytes) -> str:
    """Return a signed cursor of the position of a page's last document and the digest of its search."""
    return signer().sign_object({"at": position, "of": search}, serializer=BSONSerializer)


def decode_cursor(cursor: str, search: bytes) -> list[Any]:
    """Return the position of a cursor. Raises `InvalidQuery` unless the cursor belongs to this search."""
    try:
        content = signer().unsign_object(cursor, serializer=BSONSerializer)
    except BadSignature:
        raise InvalidQuery({"cursor": [INVALID_CURSOR]}) from None
    if content["of"] != search:
        raise InvalidQuery({"cursor": [CURSOR_OF_ANOTHER_SEARCH]})
    position: list[Any] = content["at"]
    return position


def search_digest(search: Any) -> bytes:
    """Return a digest of the parameters of a search, which are JSON values."""
    return hashlib.blake2b(json.dumps(search, sort_keys=True).encode(), digest_size=8).digest()


@dataclass(frozen=True)
class Page:
    """One page of a search. `number` is None for a page reached by a cursor.

    A page is `truncated` if it ended before `size` documents, because they are large. Its cursor continues after the
    last one shown. The page of the next number begins `size` documents after this one, and would skip the others.
    """

    documents: list[Document]
    size: int
    number: int | None
    total: Total
    next_cursor: str | None
    truncated: bool = False

    @cached_property
    def pagination(self) -> dict[str, Any]:
        """The content of the X-Pagination header."""
        total_pages = -(-self.total.number // self.size)
        last = max(total_pages, 1)
        return {
            "total": self.total.number,
            "total_is_exact": self.total.is_exact,
            "total_pages": total_pages,
            "first_page": 1,
            "last_page": last,
            **self._neighbours(last),
            **({"next_cursor": self.next_cursor} if self.next_cursor else {}),
            **({"truncated": True} if self.truncated else {}),
        }

    def _neighbours(self, last: int) -> dict[str, int]:
        """The numbers of this page and of the previous and next pages that exist."""
        if self.number is None:
            return {}
        previous = min(self.number - 1, last)
        return {
            "page": self.number,
            **({"previous_page": previous} if previous else {}),
            **({"next_page": self.number + 1} if self.next_cursor and not self.truncated else {}),
        }

    def links(self, address: str, search: Mapping[str, Any]) -> str:
        """Return the content of the Link header (RFC 8288): the URLs of other pages of the same filter.

        `search` holds the query parameters common to all pages.
        """
        pagination = self.pagination
        # A cursor needs no escaping in a URL.
        targets = {"first": ""}
        if self.next_cursor:
            targets["next"] = f"&cursor={self.next_cursor}"
        if "previous_page" in pagination:
            targets["prev"] = f"&page={pagination['previous_page']}"
        if self.number is not None and self.total.is_exact:
            targets["last"] = f"&page={pagination['last_page']}"
        same = f"{address}?{urlencode(search)}"
        return ", ".join(f'<{same}{target}>; rel="{relation}"' for relation, target in targets.items())


class Pages(Protocol):
    """A search that is read in pages."""

    def page(self, number: int, size: int) -> Page:
        """Return the page of this number, counted from 1."""

    def page_after(self, cursor: str, size: int) -> Page:
        """Return the page after the one that the cursor came from. Raises `InvalidQuery`."""


@dataclass(frozen=True)
class Search:
    """A query and its order. `digest` identifies the search in cursors; `shape` changes each document.

    Each page reads one document more than it shows, to learn whether there is a next page.
    """

    queryset: FilterableQuerySet[Any]
    order: Order
    digest: bytes
    shape: Sequence[Mql] = ()

    def page(self, number: int, size: int) -> Page:
        """Return the page of this number, counted from 1."""
        start = (number - 1) * size
        found, is_cut = self.queryset.sorted_slice(self.order, size + 1, start=start, shape=self.shape)
        seen = start + len(found) + is_cut if found else 0
        if len(found) <= size and not is_cut and (found or not start):
            return Page(found, size, number, Total(seen), None)
        return self._page(found, is_cut, size, number, total_of(self.queryset).at_least(seen))

    def page_after(self, cursor: str, size: int) -> Page:
        """Return the page after the one that the cursor came from. Raises `InvalidQuery`."""
        after = decode_cursor(cursor, self.digest)
        found, is_cut = self.queryset.sorted_slice(self.order, size + 1, after=after, shape=self.shape)
        return self._page(found, is_cut, size, None, total_of(self.queryset))

    def _page(self, found: list[Document], is_cut: bool, size: int, number: int | None, total: Total) -> Page:
        shown, following = found[:size], next(iter(found[size:]), None)
        has_next = is_cut or following is not None
        cursor = encode_cursor(self.order.position(shown[-1], following), self.digest) if has_next else None
        return Page(shown, size, number, total, cursor, truncated=is_cut and len(shown) < size)
