"""gunicorn, as `manage.py serve` and the container run it. https://docs.gunicorn.org/en/stable/settings.html"""

import os
from typing import Any

port = os.environ.get("PORT", "8000")
# In development the service is for this machine alone.
bind = f"0.0.0.0:{port}" if os.environ.get("DRIFTWATCH_ENV") == "production" else f"127.0.0.1:{port}"
cores = sorted(os.sched_getaffinity(0))
workers = int(os.environ.get("WEB_CONCURRENCY", len(cores)))
pins_workers = os.environ.get("PIN_WORKERS", "true").lower() != "false"
worker_class = "gthread"
threads = 4
timeout = 60
graceful_timeout = 20
keepalive = 5
# Room for tokens that are too large: the service refuses them in its own words.
limit_request_line = 8_190
limit_request_field_size = 65_000
loglevel = os.environ.get("LOG_LEVEL", "info").lower()
control_socket_disable = True


def pre_fork(server: Any, worker: Any) -> None:
    """Choose a core for a new worker: one that has the fewest."""
    taken = [other.core for other in server.WORKERS.values()]
    worker.core = min(cores, key=taken.count)


def post_fork(server: Any, worker: Any) -> None:
    """Keep each worker on a core of its own, where there is a worker for each core and `PIN_WORKERS` is not false.

    The threads of a worker share one interpreter, so that one runs at a time; where they move from core to core, the
    caches of the other core are cold. In the benchmark 1.1 to 1.3 times as many runs are stored a second this way,
    and 1.15 to 1.2 times as many read. Fewer workers, or more, share the machine with something else: the kernel
    places them.
    """
    if pins_workers and workers == len(cores):
        os.sched_setaffinity(0, {worker.core})
