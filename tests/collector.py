"""A collector of traces: it takes the requests of the OTLP exporter over real HTTP, and keeps their spans."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"


@dataclass(frozen=True)
class Received:
    """One span, with the attributes of its process."""

    span: Span
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def is_of_server(self) -> bool:
        return self.span.kind == Span.SPAN_KIND_SERVER


class Collector:
    """A collector that responds with `status`, or, while it `hangs`, accepts requests and does not respond."""

    def __init__(self) -> None:
        self.status = 200
        self.hangs = False
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self._ends = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()

    def spans(self) -> list[Received]:
        """Return all spans until now."""
        return [
            Received(span, values(span.attributes), values(of_process.resource.attributes))
            for body in list(self.bodies)
            for of_process in ExportTraceServiceRequest.FromString(body).resource_spans
            for of_scope in of_process.scope_spans
            for span in of_scope.spans
        ]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == PATH
                collector.headers.append(dict(self.headers))
                collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                if collector.hangs:
                    collector._ends.wait()
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Keep requests out of the tests' output."""

        return Handler


def values(attributes: Any) -> dict[str, Any]:
    return {pair.key: value_of(pair) for pair in attributes}


def value_of(pair: KeyValue) -> Any:
    return getattr(pair.value, str(pair.value.WhichOneof("value")))
