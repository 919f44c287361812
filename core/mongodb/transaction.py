"""Transactions that survive the conflicts MongoDB asks its clients to retry."""

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError
from django_mongodb_backend.query import wrap_database_errors
from pymongo.client_session import ClientSession
from pymongo.errors import ConnectionFailure, PyMongoError

from core.mongodb.documents import mongodb

T = TypeVar("T")
# The driver would go on for two minutes, and a request with it.
RETRY_SECONDS = 10


def in_transaction(work: Callable[[], T]) -> T:
    """Run `work` in one transaction and return what it returns; `on_commit` hooks run after it.

    Inside another call it just runs, as a part of that one's transaction.

    `work` may run more than once: the driver starts it anew after a write conflict or a change
    of primary (https://github.com/mongodb/specifications, "Convenient API for Transactions").
    The backend's own `atomic` does neither, and keeps a dead session after a failed commit.
    Raises what Django raises elsewhere, such as `IntegrityError`.
    """
    connection = mongodb()
    if connection.in_atomic_block_mongo:
        return work()
    deadline = time.monotonic() + RETRY_SECONDS
    failure: Exception | None = None

    def attempt(session: ClientSession) -> T:
        nonlocal failure
        if failure and time.monotonic() > deadline:
            raise ConnectionFailure(f"The transaction did not succeed within {RETRY_SECONDS} s.") from failure
        connection.session = session
        connection.in_atomic_block_mongo = True
        connection.run_on_commit = []
        try:
            return work()
        except DatabaseError as error:
            # The driver knows what may be retried by its own exceptions only.
            failure = error.__cause__ if isinstance(error.__cause__, PyMongoError) else error
            raise failure from None
        finally:
            connection.session = None
            connection.in_atomic_block_mongo = False

    connection.ensure_connection()
    with connection.connection.start_session() as session:
        result = wrap_database_errors(session.with_transaction)(attempt)
    # Not the connection's own method: it refuses inside Django's `atomic`, which means nothing on MongoDB.
    hooks, connection.run_on_commit = connection.run_on_commit, []
    for _, hook, _ in hooks:
        hook()
    return result
