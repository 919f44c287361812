"""Health checks for operators and orchestrators."""

from django.conf import settings
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

from core.api.error_pages import read_only
from core.api.exceptions import RETRY_SECONDS
from core.mongodb.documents import is_primary_reachable, mongodb


@read_only
def livez(request: HttpRequest) -> JsonResponse:
    """Return 200 and the version as long as the process can respond."""
    return JsonResponse({"status": "ok", "version": settings.VERSION})


@read_only
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if MongoDB's primary is reachable and all migrations are applied, else 503."""
    reachable = is_primary_reachable()
    checks = {
        "mongodb": "ok" if reachable else "the primary is not reachable",
        "migrations": ("ok" if migrations_are_applied() else "run `manage.py migrate`") if reachable else "unknown",
    }
    ready = set(checks.values()) == {"ok"}
    return JsonResponse(
        {"status": "ok" if ready else "unavailable", "checks": checks},
        status=200 if ready else 503,
        headers={} if ready else {"Retry-After": RETRY_SECONDS},
    )


def migrations_are_applied() -> bool:
    executor = MigrationExecutor(mongodb())
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def service_version(request: HttpRequest) -> dict[str, str]:
    """Return the version for the footer of each page (a template context processor)."""
    return {"service_version": settings.VERSION}
