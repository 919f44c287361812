"""The kinds of errors that MongoDB and its driver report."""

from django.db import DatabaseError
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    PyMongoError,
    WriteConcernError,
)

# MongoDB's error codes for a document that exceeds its size limit: for an insert, and for an update that lengthens it.
TOO_LARGE = 10334
UPDATED_TOO_LARGE = 17419
# The driver's message for a server that it takes for one without sessions.
NO_SESSIONS = "Sessions are not supported"
# MongoDB's error code for a read whose moment lies before a change of the collection, such as a new index.
SNAPSHOT_UNAVAILABLE = 246
# MongoDB's error code for a write in a transaction that conflicts with an unfinished one.
WRITE_CONFLICT = 112


def database_cause(exc: BaseException) -> PyMongoError | None:
    """Return the driver's error, also if Django wrapped it, or None for any other exception."""
    if isinstance(exc, DatabaseError):
        return exc.__cause__ if isinstance(exc.__cause__, PyMongoError) else None
    return exc if isinstance(exc, PyMongoError) else None


def is_document_too_large(exc: BaseException) -> bool:
    """Return whether a document exceeds MongoDB's limit: the driver refuses a single one, the server one of several."""
    return isinstance(exc, DocumentTooLarge) or getattr(database_cause(exc), "code", None) == TOO_LARGE


def is_write_conflict(exc: BaseException) -> bool:
    """Return whether another transaction, which is unfinished, has written the same document."""
    return getattr(database_cause(exc), "code", None) == WRITE_CONFLICT


def is_transient(exc: BaseException) -> bool:
    """Return whether a transaction failed by a write conflict or a change of primary, and may be repeated."""
    cause = database_cause(exc)
    return bool(cause and cause.has_error_label("TransientTransactionError"))


def is_unconfirmed(cause: PyMongoError | None) -> bool:
    """Return whether inserts succeeded, but the majority did not confirm them in time."""
    details = (cause.details or {}) if isinstance(cause, BulkWriteError) else {}
    return bool(details.get("writeConcernErrors")) and not details.get("writeErrors")


def is_of_starting_server(cause: PyMongoError | None) -> bool:
    """Return whether the driver refused a transaction because the server has no role in its replica set.

    A server that has just started has none for a moment. The driver takes such a server for one without sessions.
    """
    return isinstance(cause, ConfigurationError) and str(cause).startswith(NO_SESSIONS)


def is_database_unavailable(exc: BaseException) -> bool:
    """Return whether a retry may succeed.

    There is no primary, a time limit was over, the result of a commit is unknown, a write conflict outlasted the
    retries, or the collection has just changed.
    """
    cause = database_cause(exc)
    return (
        isinstance(cause, ConnectionFailure | ExecutionTimeout | WriteConcernError)
        or is_of_starting_server(cause)
        or getattr(cause, "code", None) == SNAPSHOT_UNAVAILABLE
        or is_unconfirmed(cause)
        or is_transient(exc)
        or bool(cause and cause.has_error_label("UnknownTransactionCommitResult"))
    )
