"""Transactions that retry after write conflicts, for a limited time."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

import pymongo
from django.db import DatabaseError
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from core.client import seconds_since_start
from core.mongodb.documents import WORK_SECONDS, mongodb, with_django_errors
from core.mongodb.errors import is_transient

P = ParamSpec("P")
T = TypeVar("T")
# Seconds. The driver's own `with_transaction` retries for two minutes, and a commit waits as long for a majority.
RETRY_SECONDS = 1.5
ABORT_SECONDS = 0.5
LONGEST_PAUSE = 0.2
MIN_SECONDS = 0.01
LEAST_WORK = 1.0


class Limits(NamedTuple):
    """The seconds for the work of a transaction with all its repetitions, and for its commit."""

    work: float
    commit: float


SHORT = Limits(2.5, 1.5)
# The limits of transactions that write many documents.
LONG = Limits(WORK_SECONDS, 4.0)


def in_transaction(work: Callable[P, T], limits: Limits = SHORT) -> Callable[P, T]:
    """Decorate a function so that each call runs in one transaction; `on_commit` hooks run after the commit.

    A call inside another transaction joins it.

    One call may run the function more than once: it is repeated after a write conflict or a change of primary
    (https://github.com/mongodb/specifications, "Convenient API for Transactions").
    The function must therefore read its data itself, and change no variables outside. The backend's `atomic`
    does not retry, and reuses a dead session after a failed commit.
    Raises Django's database errors, such as `IntegrityError`. After an error of the commit, the transaction may be
    stored or not.
    """

    @wraps(work)
    def transaction(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(lambda: work(*args, **kwargs), limits)

    return transaction


def run(work: Callable[[], T], limits: Limits) -> T:
    connection = mongodb()
    if connection.in_atomic_block_mongo:
        return work()
    connection.ensure_connection()
    with connection.connection.start_session() as session:
        result = committed(session, work, limits)
    # The connection's own method refuses to run inside Django's `atomic`, which has no effect on MongoDB.
    hooks, connection.run_on_commit = connection.run_on_commit, []
    for _, hook, _ in hooks:
        hook()
    return result


@with_django_errors
def committed(session: ClientSession, work: Callable[[], T], limits: Limits) -> T:
    """Run the work and commit it, again after a conflict until `RETRY_SECONDS` are over."""
    started = time.monotonic()
    # Earlier operations of the request may have waited for the same election.
    limit = max(min(limits.work, LEAST_WORK), limits.work - seconds_since_start())
    pause = 0.005
    while True:
        try:
            # A limit of 0 would mean none.
            remaining = max(MIN_SECONDS, started + limit - time.monotonic())
            with transaction_of(session), pymongo.timeout(remaining):
                result = work()
            with pymongo.timeout(limits.commit):
                session.commit_transaction()
        except (DatabaseError, PyMongoError) as error:
            if not is_transient(error) or time.monotonic() > started + RETRY_SECONDS:
                raise
            time.sleep(random.uniform(0, pause))  # noqa: S311  # nosec B311 - not a secret
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            return result


@contextmanager
def transaction_of(session: ClientSession) -> Iterator[None]:
    """Start a transaction, which this thread's queries join inside the block. An exception aborts it."""
    connection = mongodb()
    session.start_transaction()
    connection.session = session
    connection.in_atomic_block_mongo = True
    connection.run_on_commit = []
    try:
        yield
    except BaseException:
        with pymongo.timeout(ABORT_SECONDS):
            session.abort_transaction()
        raise
    finally:
        connection.session = None
        connection.in_atomic_block_mongo = False
