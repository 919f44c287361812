"""The cache: whether Redis responds, how fast, and its version."""

import time

from django.conf import settings

from driftwatch.checks import problem_of_cache_address
from driftwatch.doctor.finding import Finding, State

ADVICE = (
    "Start Redis, or correct CACHE_URL. The service works on without the cache, slower. With an empty CACHE_URL, each "
    "process has a cache of its own."
)


def server() -> Finding:
    """Ask Redis for its version."""
    if not settings.CACHE_URL:
        return Finding("cache", State.OK, "in each process, because CACHE_URL is not set")
    if problem_of_cache_address(settings.CACHE_URL) is not None:
        return Finding("cache", State.PROBLEM, "CACHE_URL is not an address of Redis", ADVICE)
    # The library takes 26 MB, and a quarter of a second at the start of each command.
    from redis import Redis, RedisError  # noqa: PLC0415

    options = {**settings.CACHE_IN_REDIS["OPTIONS"]}
    del options["serializer"]
    started_at = time.perf_counter()
    try:
        with Redis.from_url(settings.CACHE_URL, **options) as client:
            version = client.info("server")["redis_version"]
    except (RedisError, OSError, ValueError, LookupError, TypeError) as error:
        return Finding("cache", State.WARNING, f"Redis does not respond: {error}", ADVICE)
    return Finding("cache", State.OK, f"Redis {version} responds in {(time.perf_counter() - started_at) * 1000:.1f} ms")
