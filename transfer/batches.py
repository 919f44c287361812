"""Batches of documents that are small enough for memory."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class Stored(Protocol):
    """A document with its BSON."""

    @property
    def raw(self) -> bytes | memoryview: ...


S = TypeVar("S", bound=Stored)


def batches(documents: Iterable[S], most: int, most_bytes: int) -> Iterator[list[S]]:
    """Yield the documents in lists of at most `most`, and of at most `most_bytes` unless one alone has more."""
    batch: list[S] = []
    size = 0
    for document in documents:
        length = len(document.raw)
        if batch and (len(batch) == most or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += length
    if batch:
        yield batch
