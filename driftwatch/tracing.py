"""Traces of requests and background tasks, with their commands to MongoDB and requests to OpenID providers.

OpenTelemetry sends them to a collector. Nothing imports this module unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

OpenTelemetry's own middleware for Django is not used. It takes 80 to 130 µs of an empty request that is not sampled,
against 10 to 25 µs here. It records the query of the address. As the outermost middleware, it refuses a wrong Host
header before any other, also of health checks, without a request id or a line in the log.
"""

import dataclasses
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id
from opentelemetry.util.http import sanitize_method

from core.background import Task
from core.client import REQUEST_ID, trace_id
from core.request_log import NO_ROUTE, route_of

# The time that a process which ends gives the collector.
STOP_SECONDS = 1.0
# The time in which each kind of problem with the collector is logged once.
QUIET_SECONDS = 600.0
# The loggers that report each batch which the collector does not take.
NOISY_LOGGERS = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")
# The loggers that quote headers of clients which are malformed.
QUOTING_LOGGERS = (
    "opentelemetry.baggage.propagation",
    "opentelemetry.trace.propagation.tracecontext",
    "opentelemetry.trace.span",
)
# Settings that a file or a default may give, and that OpenTelemetry reads from the environment.
VARIABLES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
)

# The tracer of the provider that `start` sets later.
tracer = trace.get_tracer("driftwatch")


def start() -> None:
    """Start to trace in this process. It must not fork afterwards, nor have connected to MongoDB before."""
    os.environ |= {name: getattr(settings, name) for name in VARIABLES}
    # The instrumentations otherwise use names from before HTTP and databases had stable ones.
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http,database"
    for name in NOISY_LOGGERS:
        logging.getLogger(name).addFilter(Seldom())
    for name in QUOTING_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
    provider.sampler = RequestsAndTasks(provider.sampler)
    provider.add_span_processor(BatchSpanProcessor(Exporter()))
    trace.set_tracer_provider(provider)
    PymongoInstrumentor().instrument()
    RequestsInstrumentor().instrument()


def stop() -> None:
    """Send the spans that wait, for at most `STOP_SECONDS`. OpenTelemetry itself waits 30 s for a slow collector."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)


def resource() -> Resource:
    """Return the description of this process, which OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may change."""
    own = {
        "service.name": "driftwatch",
        "service.version": settings.VERSION,
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    return Resource.create({**own, **OTELResourceDetector().detect().attributes})


class TraceMiddleware:
    """Traces requests, as the outermost middleware: all lines of the log belong to the trace."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in settings.OPERATIONS:
            return self.get_response(request)
        with recorded(method_of(request), SpanKind.SERVER, propagate.extract(request.headers)) as span:
            response = self.get_response(request)
            if span.is_recording():
                describe(span, request, response)
            return response


def describe(span: Span, request: HttpRequest, response: HttpResponseBase) -> None:
    """Name the span by the route, and add the attributes of a request: https://opentelemetry.io/docs/specs/semconv/http/."""
    method, status = method_of(request), response.status_code
    span.set_attributes(
        {
            "http.request.method": method,
            "http.response.status_code": status,
            "driftwatch.request_id": response.headers[REQUEST_ID],
            "url.scheme": request.scheme or "",
        }
    )
    if (route := route_of(request)) != NO_ROUTE:
        span.update_name(f"{method} {route}")
        # Another path is any text of the client.
        span.set_attributes({"http.route": route, "url.path": request.path})
    if status >= 500:
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", str(status))


def method_of(request: HttpRequest) -> str:
    """Return the method, which a client may invent, as one of a bounded number of names."""
    return sanitize_method(request.method or "")


def traced(task: Task) -> Task:
    """Return the task with a trace of each run."""

    def run(should_stop: Callable[[], bool]) -> None:
        with recorded(f"task {task.name}", SpanKind.INTERNAL):
            task.run(should_stop)

    return dataclasses.replace(task, run=run)


@contextmanager
def recorded(name: str, kind: SpanKind, parent: Context | None = None) -> Iterator[Span]:
    """Record the block as a span. The lines that it logs have the id of its trace, unless the trace is not sampled."""
    with tracer.start_as_current_span(name, parent, kind) as span:
        token = trace_id.set(format_trace_id(span.get_span_context().trace_id) if span.is_recording() else None)
        try:
            yield span
        finally:
            trace_id.reset(token)


class RequestsAndTasks(Sampler):
    """Leaves out the commands of health checks and of tasks that look for work, which belong to no trace.

    The configured sampler decides about all other spans.
    """

    def __init__(self, configured: Sampler) -> None:
        self.configured = configured

    def should_sample(  # noqa: PLR0913, PLR0917 - the base class's parameters
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        if kind is SpanKind.CLIENT and not trace.get_current_span(parent_context).get_span_context().is_valid:
            return SamplingResult(Decision.DROP)
        return self.configured.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"RequestsAndTasks({self.configured.get_description()})"


class Exporter(OTLPSpanExporter):
    """Sends spans to the collector, without data of clients."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return super().export([without_client_data(span) for span in spans])


def without_client_data(span: ReadableSpan) -> ReadableSpan:
    """Return the span without queries of addresses and without the texts of errors, which may quote stored documents.

    The log has these texts, with the id of the trace.
    """
    attributes = dict(span.attributes or {})
    if "url.full" in attributes:
        attributes["url.full"] = str(attributes["url.full"]).partition("?")[0]
    return ReadableSpan(
        span.name,
        span.context,
        span.parent,
        span.resource,
        attributes,
        [without_text(event) for event in span.events],
        span.links,
        span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def without_text(event: Event) -> Event:
    kept = {name: value for name, value in (event.attributes or {}).items() if name == "exception.type"}
    return Event(event.name, kept, event.timestamp)


class Seldom(logging.Filter):
    """Lets each kind of line pass once in `QUIET_SECONDS`, so that a collector which is away does not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self.logged_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = str(record.msg), time.monotonic()
        if now - self.logged_at.get(kind, float("-inf")) < QUIET_SECONDS:
            return False
        self.logged_at[kind] = now
        return True
