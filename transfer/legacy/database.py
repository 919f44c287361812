"""The predecessor's database: its collections, read in batches."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import bson
import pymongo
from bson.codec_options import DEFAULT_CODEC_OPTIONS, DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import ConfigurationError, ConnectionFailure, InvalidURI, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from core.mongodb.documents import Document
from transfer.batches import batches
from transfer.legacy.documents import Unusable

PREFIX = "app."
USERS, EXPERIMENTS = f"{PREFIX}users", f"{PREFIX}experiments"
# The most documents of a batch, and the most bytes of BSON, apart from its first document.
BATCH_SIZE = 1_000
BATCH_BYTES = 8_000_000
SECONDS_TO_CONNECT = 5
# A time that Python does not have must not make a document unreadable.
OPTIONS = DEFAULT_CODEC_OPTIONS.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
LENIENT = OPTIONS.with_options(unicode_decode_error_handler="backslashreplace")
# The driver's time-outs and its view of the servers.
DETAILS = re.compile(r" \(configured timeouts:[^)]*\)|, Timeout: .*", re.DOTALL)


class Unreadable(Exception):
    """Raised if the predecessor's database cannot be read. The message says what to do, and shows no password."""


class LegacyDatabase:
    """The predecessor's database at a MongoDB address that names it, such as `mongodb://host/name`."""

    def __init__(self, uri: str) -> None:
        with explained_errors():
            name = parse_uri(uri)["database"]
            if not name:
                raise Unreadable("The address names no database. Append its name: mongodb://host/name.")
            self.client: MongoClient[RawBSONDocument] = MongoClient(
                uri, document_class=RawBSONDocument, tz_aware=False, appname="driftwatch import_legacy"
            )
            self.database: Database[RawBSONDocument] = self.client[name]

    def __enter__(self) -> Self:
        """Connect. Raises `Unreadable` for a database that is not the predecessor's."""
        try:
            self.collections = self.list_collections()
        except Unreadable:
            self.client.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()

    @property
    def name(self) -> str:
        return self.database.name

    def list_collections(self) -> list[str]:
        """List the names of the collections. Raises `Unreadable` if they are not the predecessor's."""
        with explained_errors(), pymongo.timeout(SECONDS_TO_CONNECT):
            names = sorted(self.database.list_collection_names())
        if EXPERIMENTS in names:
            return names
        raise Unreadable(
            f"The database {self.name!r} has no collection {EXPERIMENTS}, so it is not the predecessor's. "
            "Correct the name in the address."
        )

    def count(self, collection: str) -> int:
        """The number of documents in a collection; 0 if there is no such collection."""
        with explained_errors():
            return self.database[collection].count_documents({})

    def documents(self, collection: str) -> Iterator[RawBSONDocument]:
        """Read the documents of a collection in the order of their ids."""
        with explained_errors(), self.database[collection].find(batch_size=BATCH_SIZE).sort("_id", 1) as found:
            yield from found

    def batches(self, collection: str) -> Iterator[list[RawBSONDocument]]:
        """Read the documents of a collection in batches of bounded size."""
        return batches(self.documents(collection), BATCH_SIZE, BATCH_BYTES)


def decoded(document: RawBSONDocument) -> Document:
    """Decode a document. Raises `Unusable` if it is damaged."""
    try:
        return bson.decode(document.raw, OPTIONS)
    except (BSONError, ValueError) as error:
        raise Unusable(f"it cannot be read ({error})") from error


def id_in(document: RawBSONDocument) -> Any:
    """Return the id of a document as far as it can be read, for messages."""
    try:
        return bson.decode(document.raw, LENIENT).get("_id")
    except (BSONError, ValueError):
        return None


@contextmanager
def explained_errors() -> Iterator[None]:
    """Turn the errors of the predecessor's database into `Unreadable`, to tell them from those of the service's own."""
    try:
        yield
    except (PyMongoError, ValueError) as error:
        raise Unreadable(sentence(error)) from error


def sentence(error: Exception) -> str:
    reason = DETAILS.sub("", str(error)).rstrip(".")
    match error:
        case OperationFailure(code=18 | 8000):
            return "The predecessor's MongoDB refuses the user name or the password in the address. Correct them."
        case OperationFailure(code=13):
            return "The user in the address may not read the predecessor's database. Give it the role read."
        case InvalidURI() | ValueError():
            # The driver may quote a password that is not escaped: it takes a part of it for a port.
            return "This is no address of a MongoDB. Write mongodb://host/name, and escape a user name and a password."
        case ConfigurationError():
            return f"The address cannot be used: {reason}. Correct it."
        case ConnectionFailure():
            return (
                f"The predecessor's MongoDB does not respond ({reason}). Check the address, and that the server runs."
            )
        case _:
            return f"The predecessor's MongoDB reports an error: {reason}."
