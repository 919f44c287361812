"""Health checks for operators and orchestrators."""

import datetime
import logging
import time
from typing import Any, TypeAlias

import pymongo
from django.conf import settings
from django.db import DatabaseError
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from pymongo.errors import PyMongoError

from core import cache, timestamps
from core.api.error_pages import read_only
from core.api.exceptions import RETRY_SECONDS
from core.mongodb.documents import mongodb
from core.shared import Shared
from driftwatch.draining import is_draining

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
# Responses within this time share one check, so that requests of `/readyz` cost the database little.
CACHE_SECONDS = 1.0
# The difference between the clocks of this machine and of the database that the order of runs tolerates.
MAX_CLOCK_DIFFERENCE = datetime.timedelta(seconds=1)
# The checks that ask the database.
CHECKS = ("mongodb", "clock", "migrations")
OK, FAILED, UNKNOWN, DEGRADED = "ok", "failed", "unknown", "degraded"
# A part in another state does not keep the process from serving.
RED = {FAILED, UNKNOWN}
# The result of one check: its `status`, its duration in `ms`, and what else it has found.
Check: TypeAlias = dict[str, Any]
NOT_CHECKED: Check = {"status": UNKNOWN, "ms": None}


@read_only
def livez(request: HttpRequest) -> JsonResponse:
    """Return 200 and the version as long as the process can respond."""
    return JsonResponse({"status": "ok", "version": settings.VERSION})


@read_only
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if this process can serve requests, else 503 with the problem of each check."""
    found = checks()
    ready = RED.isdisjoint(check["status"] for check in found.values())
    return JsonResponse(
        {"status": "ok" if ready else "unavailable", "checks": found},
        status=200 if ready else 503,
        headers={} if ready else {"Retry-After": RETRY_SECONDS},
    )


def checks() -> dict[str, Check]:
    """Return the result of each check of `/readyz`."""
    return {**readiness.get(), **cache_check.get(), "serving": serving()}


def serving() -> Check:
    """Check that the process does not stop soon."""
    return result(time.perf_counter(), "the service stops" if is_draining() else None)


class Readiness(Shared[dict[str, Check]]):
    """The checks that ask the database, shared by the requests of a second."""

    def __init__(self) -> None:
        super().__init__(self._checked, dict.fromkeys(CHECKS, NOT_CHECKED), CACHE_SECONDS)

    def forget(self) -> None:
        """Forget the last results, and that migrations are applied."""
        super().forget()
        self._is_migrated = False

    def _checked(self) -> dict[str, Check]:
        """Check that the primary responds and belongs to a replica set, clocks agree, and migrations are applied."""
        checks = dict.fromkeys(CHECKS, NOT_CHECKED)
        with pymongo.timeout(CHECK_SECONDS):
            started_at, asked_at = time.perf_counter(), timestamps.now()
            try:
                hello = mongodb().database.command("hello")
            except (DatabaseError, PyMongoError) as error:
                problem = problem_of(error, "the primary is not reachable")
                return {**checks, "mongodb": result(started_at, problem)}
            difference = clock_difference(hello, asked_at, timestamps.now())
            checks["mongodb"] = result(started_at, replica_set_problem(hello))
            checks["clock"] = result(started_at, clock_problem(difference)) | {
                "difference_ms": difference // datetime.timedelta(milliseconds=1)
            }
            started_at = time.perf_counter()
            checks["migrations"] = result(started_at, self._migration_problem())
        return checks

    def _migration_problem(self) -> str | None:
        """Return why the database does not fit this release, or None.

        Migrations that are applied stay so while the process runs, so that the database is not asked again.
        """
        try:
            self._is_migrated = self._is_migrated or migrations_are_applied()
        except (DatabaseError, PyMongoError) as error:
            return problem_of(error, "the migrations cannot be read")
        return None if self._is_migrated else "run `manage.py migrate`"


readiness = Readiness()


def checked_cache() -> dict[str, Check]:
    """Check that the cache in Redis responds, if there is one. The service works without it, slower."""
    if not settings.CACHE_URL:
        return {}
    started_at = time.perf_counter()
    problem = cache.store.problem()
    check = result(started_at, problem and "the cache does not respond")
    return {"cache": {**check, "status": DEGRADED} if problem else check}


cache_check = Shared[dict[str, Check]](checked_cache, {}, CACHE_SECONDS)


def result(started_at: float, problem: str | None) -> Check:
    """Return the result of a check that began at this time of `time.perf_counter`."""
    check = {"status": FAILED if problem else OK, "ms": round((time.perf_counter() - started_at) * 1000, 1)}
    return {**check, "problem": problem} if problem else check


def problem_of(error: Exception, problem: str) -> str:
    """Log the error that the problem has as its cause, and return the problem."""
    log.warning("Not ready, %s: %s", problem, error.__cause__ or error)
    return problem


def replica_set_problem(hello: dict[str, Any]) -> str | None:
    """Return why MongoDB cannot run transactions, or None. `hello` is its response to that command."""
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        return "the server belongs to no replica set, which transactions need: start it with --replSet, and initiate it"
    # The driver sends commands to any member with `directConnection`.
    return None if hello["isWritablePrimary"] else "the server is not the primary: name all members in MONGODB_URI"


def clock_difference(
    hello: dict[str, Any], asked_at: datetime.datetime, answered_at: datetime.datetime
) -> datetime.timedelta:
    """Return how far this machine's clock is ahead of the database's at least, or behind it if negative.

    The database read its clock between the two times, so that a smaller difference cannot be told from its delay.
    """
    of_database = hello["localTime"].replace(tzinfo=datetime.UTC)
    return max(asked_at - of_database, datetime.timedelta()) or min(answered_at - of_database, datetime.timedelta())


def clock_problem(difference: datetime.timedelta) -> str | None:
    """Return by how much this machine's clock is wrong, or None if that is within the tolerance."""
    if abs(difference) <= MAX_CLOCK_DIFFERENCE:
        return None
    direction = "ahead of" if difference > datetime.timedelta() else "behind"
    return f"this machine's clock is {abs(difference).total_seconds():.1f} s {direction} the database's"


def migrations_are_applied() -> bool:
    executor = MigrationExecutor(mongodb())
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def service_version(request: HttpRequest) -> dict[str, str]:
    """Return the version for the footer of each page (a template context processor)."""
    return {"service_version": settings.VERSION}
