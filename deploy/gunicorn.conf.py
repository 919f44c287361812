"""Settings of gunicorn for `manage.py serve` and for production. https://docs.gunicorn.org/en/stable/settings.html"""

import os
from typing import Any

port = os.environ.get("PORT", "8000")
# In development, only this machine reaches the service.
bind = f"0.0.0.0:{port}" if os.environ.get("DRIFTWATCH_ENV") == "production" else f"127.0.0.1:{port}"
cores = sorted(os.sched_getaffinity(0))
workers = int(os.environ.get("WEB_CONCURRENCY", len(cores)))
pins_workers = os.environ.get("PIN_WORKERS", "true").lower() != "false"
worker_class = "gthread"
threads = 4
timeout = 60
graceful_timeout = 20
keepalive = 5
# gunicorn accepts tokens that are too large, so that the service can refuse them with its own message.
limit_request_line = 8_190
limit_request_field_size = 65_000
loglevel = os.environ.get("LOG_LEVEL", "info").lower()
control_socket_disable = True


def pre_fork(server: Any, worker: Any) -> None:
    """Give a new worker the core with the fewest workers."""
    taken = [other.core for other in server.WORKERS.values()]
    worker.core = min(cores, key=taken.count)


def post_fork(server: Any, worker: Any) -> None:
    """Pin each worker to its own core if there is one worker for each core and `PIN_WORKERS` is not false.

    Only one thread of a worker runs at a time, because they share an interpreter. A thread that moves to another core
    finds cold caches there. In the benchmark, pinned workers store 1.1 to 1.3 times as many runs per second, and read
    1.15 to 1.2 times as many. With any other number of workers, the kernel places them.
    """
    if pins_workers and workers == len(cores):
        os.sched_setaffinity(0, {worker.core})
