"""Settings of gunicorn for `manage.py serve` and for production. https://docs.gunicorn.org/en/stable/settings.html"""

import contextlib
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

try:
    from driftwatch import settings
    from driftwatch.draining import drain_before_stop
except ImproperlyConfigured as error:
    sys.exit(str(error))

# The processes count in files there (core/metrics.py). Child processes and new main processes inherit it.
METRICS_PREFIX = "driftwatch-metrics-"
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix=METRICS_PREFIX)

# In development, only this machine reaches the service.
bind = f"0.0.0.0:{settings.PORT}" if settings.PRODUCTION else f"127.0.0.1:{settings.PORT}"
cores = sorted(os.sched_getaffinity(0))
workers = settings.WEB_CONCURRENCY
worker_class = "driftwatch.worker.Worker"
threads = settings.THREADS
# The application is loaded once, and workers are forked from it: they serve at once, also after a SIGHUP. Nothing that
# is loaded with it may start a thread or connect to the database.
preload_app = True
timeout = 60
graceful_timeout = 20
keepalive = settings.KEEPALIVE
# gunicorn accepts tokens that are too large, so that the service can refuse them with its own message.
limit_request_line = 8_190
limit_request_field_size = 65_000
# Django reads the proxy's headers (SECURE_PROXY_SSL_HEADER, TRUSTED_PROXIES). By default, gunicorn also lets every
# client on this machine or on a Unix socket choose the scheme and the path of its request.
forwarded_allow_ips = settings.FORWARDED_ALLOW_IPS
if not forwarded_allow_ips:
    secure_scheme_headers: dict[str, str] = {}
    forwarder_headers = ""
logger_class = "driftwatch.logs.GunicornLogger"
loglevel = settings.LOG_LEVEL.lower()
# With `--error-logfile`, the lines of the service are in that file too. `--daemon` would drop them otherwise.
capture_output = True
control_socket_disable = True


def when_ready(server: Any) -> None:
    """Drain before a stop, and collect garbage rarely in the workers, which are forked from this process.

    While a worker decodes a large document, no other thread runs. By default, Python collects after 700 new objects,
    and every hundredth collection scans all objects: half a million values take 3 times as long, and 5 to 10 times if
    the loaded application is scanned too. Garbage in cycles stays longer in memory, so requests should leave none
    that is large (`Resource.dispatch`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 50)
    if settings.DRAIN_SECONDS:
        drain_before_stop(server, settings.DRAIN_SECONDS)


def pre_fork(server: Any, worker: Any) -> None:
    """Give a new worker the core with the fewest workers, and a directory to count in if that was removed."""
    with contextlib.suppress(OSError):
        Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).mkdir(mode=0o700)
    taken = [other.core for other in server.WORKERS.values()]
    worker.core = min(cores, key=taken.count)


def post_fork(server: Any, worker: Any) -> None:
    """Start to trace if traces are on, on the core to which the worker is pinned.

    A worker is pinned if there is one for each core and `PIN_WORKERS` is not false.

    Only one thread of a worker runs at a time, because they share an interpreter. A thread that moves to another core
    finds cold caches there. In the benchmark, pinned workers store 1.1 to 1.3 times as many runs per second, and read
    1.15 to 1.2 times as many. With any other number of workers, the kernel places them.
    """
    if settings.PIN_WORKERS and workers == len(cores):
        os.sched_setaffinity(0, {worker.core})
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        # A fork would not copy the thread that sends spans, and that thread stays on the worker's core.
        from driftwatch import tracing  # noqa: PLC0415 - it imports OpenTelemetry, and needs the loaded application

        tracing.start()


def worker_exit(server: Any, worker: Any) -> None:
    """Send the last spans of a worker that ends."""
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        from driftwatch import tracing  # noqa: PLC0415 - as above

        tracing.stop()


def on_exit(server: Any) -> None:
    """Remove the counts, unless another main process goes on with them (SIGUSR2), or this one did not make them."""
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    if directory.name.startswith(METRICS_PREFIX) and not (server.reexec_pid or server.master_pid):
        shutil.rmtree(directory, ignore_errors=True)
