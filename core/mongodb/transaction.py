"""Transactions that retry after write conflicts."""

import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import DatabaseError
from django_mongodb_backend.query import wrap_database_errors
from pymongo.client_session import ClientSession
from pymongo.errors import ConnectionFailure, PyMongoError

from core.mongodb.documents import mongodb

P = ParamSpec("P")
T = TypeVar("T")
# By default the driver retries for two minutes, which is too long for a request.
RETRY_SECONDS = 10


def in_transaction(work: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that each call runs in one transaction; `on_commit` hooks run after the commit.

    A call inside another transaction joins it.

    One call may run the function more than once: the driver repeats it after a write conflict or a
    change of primary (https://github.com/mongodb/specifications, "Convenient API for Transactions").
    The function must therefore read its data itself, and change no variables outside. The backend's `atomic`
    does not retry, and reuses a dead session after a failed commit.
    Raises Django's database errors, such as `IntegrityError`.
    """

    @wraps(work)
    def transaction(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(lambda: work(*args, **kwargs))

    return transaction


def run(work: Callable[[], T]) -> T:
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
            # The driver retries its own exceptions only.
            failure = error.__cause__ if isinstance(error.__cause__, PyMongoError) else error
            raise failure from None
        finally:
            connection.session = None
            connection.in_atomic_block_mongo = False

    connection.ensure_connection()
    with connection.connection.start_session() as session:
        result = wrap_database_errors(session.with_transaction)(attempt)
    # The connection's own method refuses to run inside Django's `atomic`, which has no effect on MongoDB.
    hooks, connection.run_on_commit = connection.run_on_commit, []
    for _, hook, _ in hooks:
        hook()
    return result
