"""The contents of files, in GridFS: a document in `run_files.files` for each, and its bytes in `run_files.chunks`.

The format is that of https://github.com/mongodb/specifications (GridFS), so that every driver reads it. The writer of
PyMongo holds up to 48 MB of a content in memory, and writes the document last: an upload that is killed leaves bytes
that nothing names. This one holds 2 MB, and writes the document first. GridFS takes no part in transactions: a content
counts once a `RunFile` has its id, and `sweep.py` removes the others.
"""

import hashlib
import logging
from collections.abc import Iterator

import pymongo
from bson import Int64
from django.db import DatabaseError
from pymongo import ASCENDING, IndexModel
from pymongo.collection import Collection
from uuid_utils.compat import uuid7

from core import timestamps
from core.mongodb.documents import WORK_SECONDS, Document, mongodb, with_django_errors

log = logging.getLogger(__name__)

FILES, CHUNKS = "run_files.files", "run_files.chunks"
# The indexes that GridFS asks for.
INDEXES = {
    FILES: [IndexModel([("filename", ASCENDING), ("uploadDate", ASCENDING)], name="filename_1_uploadDate_1")],
    CHUNKS: [IndexModel([("files_id", ASCENDING), ("n", ASCENDING)], name="files_id_1_n_1", unique=True)],
}
CHUNK_BYTES = 255 * 1024
WRITTEN_AT_ONCE = 8 * CHUNK_BYTES
READ_AT_ONCE = 8


class ContentMissing(Exception):
    """Raised if bytes of a content are not stored: the file was deleted meanwhile."""


def files() -> Collection[Document]:
    """Return the collection of the documents of GridFS."""
    return mongodb().database[FILES]


def chunks() -> Collection[Document]:
    """Return the collection of the bytes."""
    return mongodb().database[CHUNKS]


class ContentWriter:
    """Writes a new content, with the id `id`. `size` is its number of bytes so far."""

    def __init__(self) -> None:
        self.id = uuid7()
        self.size = 0
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self._chunks = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Add bytes. Raises Django's database errors."""
        self.size += len(data)
        self._digest.update(data)
        self._pending += data
        if len(self._pending) >= WRITTEN_AT_ONCE:
            self._store(WRITTEN_AT_ONCE)

    @with_django_errors
    def close(self, name: str) -> None:
        """Store the rest, and complete the document."""
        while self._pending:
            self._store(WRITTEN_AT_ONCE)
        known = {"length": Int64(self.size), "uploadDate": timestamps.now(), "filename": name}
        files().update_one({"_id": self.id.hex}, {"$set": known})

    def discard(self) -> None:
        """Remove what is stored."""
        if self._chunks:
            discard_content(self.id.hex)

    @with_django_errors
    def _store(self, size: int) -> None:
        with pymongo.timeout(WORK_SECONDS):
            if not self._chunks:
                begun = {"length": Int64(0), "chunkSize": CHUNK_BYTES, "uploadDate": timestamps.now()}
                files().insert_one({"_id": self.id.hex, **begun})
            with memoryview(self._pending)[:size] as data:
                pieces = [bytes(data[start : start + CHUNK_BYTES]) for start in range(0, len(data), CHUNK_BYTES)]
            stored = [
                {"files_id": self.id.hex, "n": number, "data": piece}
                for number, piece in enumerate(pieces, self._chunks)
            ]
            chunks().insert_many(stored)
        self._chunks += len(pieces)
        del self._pending[:size]


def discard_content(content_id: str) -> None:
    """Remove a content that no file names. If the database fails meanwhile, `sweep.py` removes it later."""
    try:
        delete_content(content_id)
    except DatabaseError as error:
        log.warning("Content %s is left for the sweep: %s", content_id, error.__cause__ or error)


@with_django_errors
def delete_content(content_id: str) -> None:
    """Remove a content. The document goes last: until then, `sweep.py` finds what an interruption has left."""
    with pymongo.timeout(WORK_SECONDS):
        chunks().delete_many({"files_id": content_id})
        files().delete_one({"_id": content_id})


def pieces_of(content_id: str, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to before `end`, about 2 MB at a time. Raises `ContentMissing`.

    Each piece is read by a query of its own, so that a slow client holds no cursor of the database.
    """
    size = chunk_size_of(content_id)
    while start < end:
        first, last = start // size, (end - 1) // size
        data = bytes_of(content_id, first, min(last, first + READ_AT_ONCE - 1))
        piece = data[start - first * size : end - first * size]
        if not piece:
            raise ContentMissing
        yield piece
        start += len(piece)


@with_django_errors
def chunk_size_of(content_id: str) -> int:
    found = files().find_one({"_id": content_id}, {"chunkSize": 1})
    if found is None:
        raise ContentMissing
    return int(found["chunkSize"])


@with_django_errors
def bytes_of(content_id: str, first: int, last: int) -> bytes:
    """Return the bytes of these chunks, up to the first one that is missing."""
    found = chunks().find({"files_id": content_id, "n": {"$gte": first, "$lte": last}}, {"n": 1, "data": 1})
    stored = list(found.sort("n", ASCENDING))
    return b"".join(chunk["data"] for number, chunk in enumerate(stored, first) if chunk["n"] == number)
