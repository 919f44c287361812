"""Pages of what a search finds: by number, or by a cursor that goes on where another page ended."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import bson
from django.core.signing import BadSignature, Signer

from core.api.exceptions import InvalidQuery
from core.api.totals import Total, total_of
from core.mongodb.documents import Document
from core.mongodb.order import Order
from core.mongodb.querysets import FilterableQuerySet

SALT = "driftwatch.cursor"
FOREIGN = "It is no cursor of this service. Send next_cursor as the page before gave it."
OF_ANOTHER_SEARCH = (
    "It belongs to another search. Send it to the address and with the filter, sort_by and order_by that it came from."
)


class BSON:
    """What a cursor holds, with times and all other values as MongoDB keeps them."""

    def dumps(self, value: Any) -> bytes:
        return bson.encode(value)

    def loads(self, data: bytes) -> Any:
        return bson.decode(data)


def signer() -> Signer:
    """Its separator, like all else in a cursor, stands for itself in an address."""
    return Signer(salt=SALT, sep=".")


def sealed(position: list[Any], search: bytes) -> str:
    """A cursor: the position of a page's last document, and a digest of the search that it belongs to."""
    return signer().sign_object({"at": position, "of": search}, serializer=BSON)


def opened(cursor: str, search: bytes) -> list[Any]:
    """The position of a cursor of this search. Raises `InvalidQuery`."""
    try:
        content = signer().unsign_object(cursor, serializer=BSON)
    except BadSignature:
        raise InvalidQuery({"cursor": [FOREIGN]}) from None
    if content["of"] != search:
        raise InvalidQuery({"cursor": [OF_ANOTHER_SEARCH]})
    position: list[Any] = content["at"]
    return position


def digest(search: Any) -> bytes:
    """A digest of anything that JSON can hold."""
    return hashlib.blake2b(json.dumps(search, sort_keys=True).encode(), digest_size=8).digest()


@dataclass(frozen=True)
class Page:
    """Some documents of a search. `number` is None for a page that a cursor led to."""

    documents: list[Document]
    size: int
    number: int | None
    total: Total
    next_cursor: str | None

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
        }

    def _neighbours(self, last: int) -> dict[str, int]:
        """The number of this page, and those of the pages beside it that exist."""
        if self.number is None:
            return {}
        previous = min(self.number - 1, last)
        return {
            "page": self.number,
            **({"previous_page": previous} if previous else {}),
            **({"next_page": self.number + 1} if self.next_cursor else {}),
        }

    def links(self, address: str, search: Mapping[str, Any]) -> str:
        """The content of the Link header (RFC 8288): where to send the same filter for other pages.

        `search` holds the query parameters that they have in common.
        """
        pagination = self.pagination
        # A cursor's characters stand for themselves in an address.
        targets = {"first": ""}
        if self.next_cursor:
            targets["next"] = f"&cursor={self.next_cursor}"
        if "previous_page" in pagination:
            targets["prev"] = f"&page={pagination['previous_page']}"
        if self.number is not None and self.total.is_exact:
            targets["last"] = f"&page={pagination['last_page']}"
        same = f"{address}?{urlencode(search)}"
        return ", ".join(f'<{same}{target}>; rel="{relation}"' for relation, target in targets.items())


@dataclass(frozen=True)
class Search:
    """What is looked through, and in which order; `digest` tells it from other searches.

    A page looks for one document more than it shows: that tells whether there is a next page.
    """

    queryset: FilterableQuerySet[Any]
    order: Order
    digest: bytes

    def page(self, number: int, size: int) -> Page:
        start = (number - 1) * size
        found = self.queryset.sorted_slice(self.order, size + 1, start=start)
        seen = start + len(found) if found else 0
        if len(found) <= size and (found or not start):
            return Page(found, size, number, Total(seen, is_exact=True), None)
        return Page(found[:size], size, number, total_of(self.queryset).at_least(seen), self._cursor(found, size))

    def page_after(self, cursor: str, size: int) -> Page:
        """The page after the one that gave the cursor. Raises `InvalidQuery`."""
        found = self.queryset.sorted_slice(self.order, size + 1, after=opened(cursor, self.digest))
        return Page(found[:size], size, None, total_of(self.queryset), self._cursor(found, size))

    def _cursor(self, found: list[Document], size: int) -> str | None:
        return sealed(self.order.position(*found[size - 1 : size + 1]), self.digest) if len(found) > size else None
