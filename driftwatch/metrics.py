"""`/metrics`: the metrics of the service for Prometheus.

The counts of all processes of gunicorn (`core/metrics.py`), and the state that the database has.
"""

import ipaddress
import logging
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import pymongo
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from pymongo.errors import PyMongoError

from core.api.error_pages import read_only, refusal
from core.client import bears_token, peer_address
from core.models import BackgroundTask
from core.shared import Shared
from drifts import schema
from drifts.overdue import MAX_OVERDUE, MAX_RUNNING, overdue_count, running_count
from driftwatch.health import DEGRADED, RED, checks

log = logging.getLogger(__name__)

# The time limit of the questions to the database. Without a response, the other metrics are shown.
QUESTION_SECONDS = 1.0
# Requests within this time share one response, so that they cost the database little.
SHARED_SECONDS = 1.0
# The connections to the metrics of `manage.py work` at once.
MAX_CONNECTIONS = 16
# Headers of proxies. A request with one of them does not come directly.
FORWARDING = ("Forwarded", "Via", "X-Real-Ip")
FOR_WHOM = (
    "Metrics are for this machine, for METRICS_NETWORKS and for bearers of METRICS_TOKEN, "
    "in a request that no proxy has forwarded. Send Authorization: Bearer <METRICS_TOKEN>, or ask the operator."
)
NOT_OURS = "This is not METRICS_TOKEN. Ask the operator for it, or send no token from this machine."


@read_only
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics in the text format of Prometheus, or of OpenMetrics if the client accepts that."""
    if bears_token(request):
        if not has_metrics_token(request):
            response = refusal(request, 401, NOT_OURS)
            response["WWW-Authenticate"] = 'Bearer realm="Drift Watch metrics"'
            return response
    elif not is_from_operator(request):
        return refusal(request, 403, FOR_WHOM)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry()), content_type)


def has_metrics_token(request: HttpRequest) -> bool:
    """Return whether the request has the token of `METRICS_TOKEN`. None fits an empty setting."""
    token = request.headers["Authorization"][len("bearer") :].strip()
    return bool(settings.METRICS_TOKEN) and constant_time_compare(token, settings.METRICS_TOKEN)


def is_from_operator(request: HttpRequest) -> bool:
    """Return whether the request comes directly, from this machine or from `METRICS_NETWORKS`."""
    if any(name in FORWARDING or name.startswith("X-Forwarded-") for name in request.headers):
        return False
    peer = peer_address(request)
    if peer is None:
        return False
    address = ipaddress.ip_address(peer)
    return address.is_loopback or any(address in ipaddress.ip_network(each) for each in settings.METRICS_NETWORKS)


def registry() -> CollectorRegistry:
    """Return the registry of all metrics. A process alone has those of Python and of the process too.

    If the directory of the counts is removed, the registry has no counts.
    """
    found = CollectorRegistry()
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        found.register(REGISTRY)
    elif Path(directory).is_dir():
        MultiProcessCollector(found)  # type: ignore[no-untyped-call]
    found.register(state)
    return found


class State(Collector):
    """The metrics that are read from the database. The requests of a second share them."""

    def __init__(self) -> None:
        self.shared = Shared[list[Metric]](current_state, [], SHARED_SECONDS)

    def describe(self) -> list[Metric]:
        """Return no metrics: their registration must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the build and the state of the service."""
        labels = {"version": settings.VERSION, "python": platform.python_version(), "schema": schema.current()}
        build = GaugeMetricFamily("driftwatch_build_info", "The running release. Always 1.", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build
        ready = GaugeMetricFamily("driftwatch_ready", "1 for each check that leaves /readyz green.", labels=["check"])
        found = checks()
        for name, check in found.items():
            ready.add_metric([name], check["status"] not in RED)
        yield ready
        is_cache_away = found.get("cache", {}).get("status") == DEGRADED
        text = "0 while the cache in Redis does not respond, else 1."
        yield GaugeMetricFamily("driftwatch_cache_up", text, float(not is_cache_away))
        yield from self.shared.get()


def current_state() -> list[Metric]:
    """Return the metrics of the database, without those that it does not answer in time."""
    tasks = answer(task_metrics)
    # A count may take long although the database responds.
    runs = answer(run_metrics) if tasks else []
    text = "1 if the database answers questions for these metrics."
    return [GaugeMetricFamily("driftwatch_database_up", text, float(bool(tasks))), *tasks, *runs]


def answer(question: Callable[[], list[Metric]]) -> list[Metric]:
    """Return the metrics; none if the database does not respond within `QUESTION_SECONDS`."""
    try:
        with pymongo.timeout(QUESTION_SECONDS):
            return question()
    except (DatabaseError, PyMongoError) as error:
        log.warning("Metrics of the database are left out: %s", error.__cause__ or error)
        return []


def run_metrics() -> list[Metric]:
    """Return the numbers of runs that are not over, in the whole service."""
    return [
        GaugeMetricFamily("driftwatch_runs_running", f"Running runs, up to {MAX_RUNNING:,}.", value=running_count()),
        GaugeMetricFamily(
            "driftwatch_runs_overdue",
            f"Running runs whose time-out is over and that no task has made Failed yet, up to {MAX_OVERDUE:,}.",
            value=overdue_count(),
        ),
    ]


def task_metrics() -> list[Metric]:
    """Return the metrics of background tasks, which all processes share. Their times are of the database's clock."""
    name, label = "driftwatch_background_task", ["task"]
    succeeded = GaugeMetricFamily(f"{name}_last_success_timestamp_seconds", "The last success.", labels=label)
    duration = GaugeMetricFamily(f"{name}_duration_seconds", "Seconds of the last run that ended.", labels=label)
    failures = CounterMetricFamily(f"{name}_failures", "Runs that failed.", labels=label)
    in_a_row = GaugeMetricFamily(f"{name}_failures_in_a_row", "Runs that failed since the last success.", labels=label)
    for task in BackgroundTask.objects.all():
        if task.succeeded_at:
            succeeded.add_metric([task.name], task.succeeded_at.timestamp())
        if task.duration is not None:
            duration.add_metric([task.name], task.duration)
        failures.add_metric([task.name], task.failures)
        in_a_row.add_metric([task.name], task.failures_in_a_row)
    return [succeeded, duration, failures, in_a_row]


state = State()


class MetricsServer(ThreadingWSGIServer):
    """Serves a few connections at once, and closes those beyond: others must not take the memory of the process."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*args, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a thread if one is free."""
        if self.free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a failure, unless it is of the connection."""
        if not isinstance(sys.exception(), OSError):
            log.exception("Error handling a request for metrics")


class QuietHandler(WSGIRequestHandler):
    """Closes a connection that sends nothing for some seconds, and logs no request."""

    timeout = 5

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


def serve_metrics(host: str, port: int) -> WSGIServer:
    """Serve `/metrics` of this process alone, in a thread. Raises `OSError` if the port is not free."""
    server = make_server(host, port, application, MetricsServer, QuietHandler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Respond to a request of the metrics of `manage.py work` (PEP 3333)."""
    request = WSGIRequest(environ)
    is_known = request.path_info == "/metrics"
    response = metrics(request) if is_known else refusal(request, 404, "This port has /metrics alone.")
    start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
    return [response.content]
