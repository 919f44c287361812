"""Health checks for operators and orchestrators."""

import datetime
import logging
import threading
import time
from typing import Any

import pymongo
from django.conf import settings
from django.db import DatabaseError
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from pymongo.errors import PyMongoError

from core import timestamps
from core.api.error_pages import read_only
from core.api.exceptions import RETRY_SECONDS
from core.mongodb.documents import mongodb

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
# Responses within this time share one check, so that requests of `/readyz` cost the database little.
CACHE_SECONDS = 1.0
# The difference between the clocks of this machine and of the database that the order of runs tolerates.
MAX_CLOCK_DIFFERENCE = datetime.timedelta(seconds=1)
# The threads of a process that wait for a check at once.
MAX_WAITING = 4
CHECKS = ("mongodb", "clock", "migrations")
OK, UNKNOWN = "ok", "unknown"


@read_only
def livez(request: HttpRequest) -> JsonResponse:
    """Return 200 and the version as long as the process can respond."""
    return JsonResponse({"status": "ok", "version": settings.VERSION})


@read_only
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if this process can serve requests, else 503 with the problem of each check."""
    checks = readiness.checks()
    ready = set(checks.values()) == {OK}
    return JsonResponse(
        {"status": "ok" if ready else "unavailable", "checks": checks},
        status=200 if ready else 503,
        headers={} if ready else {"Retry-After": RETRY_SECONDS},
    )


class Readiness:
    """The checks of readiness, made by one thread at a time and shared by the requests of a second.

    A check waits for the database. Requests beyond a few get the last result, so that they hold no threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        self.clear()

    def clear(self) -> None:
        """Forget the last result."""
        self._checks = dict.fromkeys(CHECKS, UNKNOWN)
        self._expires_at = 0.0

    def checks(self) -> dict[str, str]:
        """Return the result of each check: `ok`, the problem, or `unknown`."""
        if self._is_expired() and self._waiting.acquire(blocking=False):
            try:
                with self._lock:
                    if self._is_expired():
                        self._checks = checked()
                        self._expires_at = time.monotonic() + CACHE_SECONDS
            finally:
                self._waiting.release()
        return self._checks

    def _is_expired(self) -> bool:
        return time.monotonic() >= self._expires_at


readiness = Readiness()


def checked() -> dict[str, str]:
    """Check that MongoDB's primary responds and belongs to a replica set, the clocks agree, and migrations are applied.

    Return the result of each check.
    """
    checks = dict.fromkeys(CHECKS, UNKNOWN)
    with pymongo.timeout(CHECK_SECONDS):
        try:
            asked_at = timestamps.now()
            hello = mongodb().database.command("hello")
        except (DatabaseError, PyMongoError) as error:
            return {**checks, "mongodb": problem_of(error, "the primary is not reachable")}
        checks["mongodb"] = replica_set_problem(hello) or OK
        checks["clock"] = clock_problem(hello, asked_at, timestamps.now()) or OK
        try:
            checks["migrations"] = OK if migrations_are_applied() else "run `manage.py migrate`"
        except (DatabaseError, PyMongoError) as error:
            checks["migrations"] = problem_of(error, "they cannot be read")
    return checks


def problem_of(error: Exception, problem: str) -> str:
    """Log the error that the problem has as its cause, and return the problem."""
    log.warning("Not ready, %s: %s", problem, error.__cause__ or error)
    return problem


def replica_set_problem(hello: dict[str, Any]) -> str | None:
    """Return why MongoDB cannot run transactions, or None. `hello` is its response to that command."""
    if "setName" in hello or hello.get("msg") == "isdbgrid":
        return None
    return "the server belongs to no replica set, which transactions need: start it with --replSet, and initiate it"


def clock_problem(hello: dict[str, Any], asked_at: datetime.datetime, answered_at: datetime.datetime) -> str | None:
    """Return how far this machine's clock is from the database's, or None if it is within the tolerance."""
    of_database = hello["localTime"].replace(tzinfo=datetime.UTC)
    ahead, behind = asked_at - of_database, of_database - answered_at
    if max(ahead, behind) <= MAX_CLOCK_DIFFERENCE:
        return None
    seconds = max(ahead, behind).total_seconds()
    return f"this machine's clock is {seconds:.1f} s {'ahead of' if ahead > behind else 'behind'} the database's"


def migrations_are_applied() -> bool:
    executor = MigrationExecutor(mongodb())
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def service_version(request: HttpRequest) -> dict[str, str]:
    """Return the version for the footer of each page (a template context processor)."""
    return {"service_version": settings.VERSION}
