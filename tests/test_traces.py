"""Traces: requests across the service, MongoDB and OpenID providers, as a collector receives them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import psutil
import pytest
import requests

from tests.collector import Collector, Received
from tests.crowd import RemoteUser, unique
from tests.live import ROOT, LiveServer
from tests.provider import Provider

PATIENCE = 30
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
# A program that prints the modules of OpenTelemetry which loading the service imports, and the number of its threads.
LOADED = """
import json, sys, threading
import driftwatch.wsgi, driftwatch.management.commands.work
print(json.dumps([[name for name in sys.modules if name.startswith("opentelemetry")], threading.active_count()]))
"""


class Issuer(Provider):
    """A provider whose keys have an address with a query. It keeps the headers of all requests."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        super().__init__()

    def response(self, path: str, authorization: str) -> dict[str, Any] | str | int:
        response = super().response(path.partition("?")[0], authorization)
        if isinstance(response, dict) and "jwks_uri" in response:
            response["jwks_uri"] += "?query"
        return response

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider, base = self, super()._handler()

        class Handler(base):  # type: ignore[valid-type, misc]
            def reply(self, response: Any) -> None:
                provider.headers.append({name.lower(): value for name, value in self.headers.items()})
                super().reply(response)

        return Handler


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """A provider whose keys the service has not cached."""
    server = Issuer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def unavailable() -> Provider:
    """A trusted provider that does not respond."""
    server = Provider()
    server.stop()
    return server


@pytest.fixture(scope="module")
def traced(
    collector: Collector,
    issuer: Issuer,
    unavailable: Provider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveServer]:
    """The service, which traces each request. A file has the collector's headers."""
    headers = tmp_path_factory.mktemp("secrets") / "headers"
    headers.write_text("authorization=Basic secret\n")
    issuers = [
        {"issuer": each.issuer, "audience": ["driftwatch"], "entitlements": "realm_access/roles"}
        for each in (issuer, unavailable)
    ]
    with service(
        collector,
        OIDC_ISSUERS=json.dumps(issuers),
        OTEL_TRACES_SAMPLER="parentbased_always_on",
        OTEL_EXPORTER_OTLP_HEADERS_FILE=str(headers),
        LOG_FORMAT="json",
    ) as live:
        yield live


@contextmanager
def service(collector: Collector, **environment: str) -> Iterator[LiveServer]:
    """The service with one worker, which sends spans almost at once."""
    live = LiveServer(
        MONGODB_NAME=unique("traces")[:30],
        OIDC_USER_ENTITLEMENTS="[]",
        WEB_CONCURRENCY="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="50",
        **environment,
    )
    live.start()
    try:
        yield live
    finally:
        live.stop()


def get(live: LiveServer, path: str, **headers: str) -> requests.Response:
    return requests.get(live.url + path, headers=headers, timeout=PATIENCE)


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def trace_of(collector: Collector, response: requests.Response) -> tuple[Received, list[Received]]:
    """Wait for the span of a request; return it, and the others of its trace, which are sent before it."""

    def found() -> list[Received]:
        spans, request_id = collector.spans(), response.headers["X-Request-ID"]
        return [each for each in spans if each.attributes.get("driftwatch.request_id") == request_id]

    (root,) = eventually(found)
    return root, [each for each in collector.spans() if each.trace_id == root.trace_id and each != root]


def test_a_trace_follows_a_request_to_mongodb_and_to_the_issuer(
    traced: LiveServer, collector: Collector, issuer: Issuer
) -> None:
    # The first request that the service gets with a token.
    response = RemoteUser(traced.api, issuer.token(unique("ada"))).call(
        "POST", "/user", headers={"baggage": "name=ada"}
    )
    assert response.status_code == 201
    root, others = trace_of(collector, response)
    assert root.is_of_server
    assert root.span.name == "POST /api/v1/user"
    assert root.attributes["http.route"] == root.attributes["url.path"] == "/api/v1/user"
    assert root.attributes["http.response.status_code"] == 201
    assert {each.span.parent_span_id for each in others} == {root.span.span_id}
    commands = [each.attributes for each in others if each.attributes.get("db.system.name") == "mongodb"]
    assert {"find", "insert"} <= {command["db.query.text"] for command in commands}
    assert traced.environment["MONGODB_NAME"] in {command["db.namespace"] for command in commands}
    fetched = {each.attributes["url.full"] for each in others if "url.full" in each.attributes}
    assert fetched == {f"{issuer.issuer}/.well-known/openid-configuration", f"{issuer.issuer}/keys"}
    assert [headers["traceparent"].split("-")[1] for headers in issuer.headers] == [root.trace_id] * 2
    assert not any("baggage" in headers for headers in issuer.headers)


def test_a_trace_names_its_process(traced: LiveServer, collector: Collector) -> None:
    root, _ = trace_of(collector, get(traced, "/none"))
    (worker,) = psutil.Process(traced.process.pid).children()
    assert root.resource["service.name"] == "driftwatch"
    assert root.resource["service.instance.id"].endswith(f"-{worker.pid}")
    assert collector.headers[-1]["authorization"] == "Basic secret"


def test_the_log_names_the_trace_of_a_request(traced: LiveServer, collector: Collector) -> None:
    root, _ = trace_of(collector, get(traced, "/none"))
    lines = [json.loads(line) for line in traced.log.read_text().splitlines()]
    ids = {line.get("request_id"): line.get("trace_id") for line in lines if line["logger"] == "core.request_log"}
    assert ids[root.attributes["driftwatch.request_id"]] == root.trace_id


def test_headers_of_a_trace_that_are_malformed_are_not_in_the_log(traced: LiveServer) -> None:
    parent = f"00-{TRACE}-{PARENT}-01"
    for name, value in (("baggage", "a{}=secret,secret"), ("tracestate", "a{}=secret,secret")):
        assert get(traced, "/none", traceparent=parent, **{name: value}).status_code == 404
    assert get(traced, "/none", traceparent="secret").status_code == 404
    assert "secret" not in traced.log.read_text()


def test_commands_for_a_streamed_response_belong_to_its_trace(
    traced: LiveServer, collector: Collector, issuer: Issuer
) -> None:
    admin = RemoteUser(traced.api, issuer.token(unique("carol"), "admins"))
    assert admin.call("POST", "/user").status_code == 201
    response = admin.call("GET", "/audit/export")
    assert response.status_code == 200
    root, _ = trace_of(collector, response)

    def commands() -> list[Received]:
        _, others = trace_of(collector, response)
        return [each for each in others if each.span.start_time_unix_nano > root.span.end_time_unix_nano]

    eventually(commands)


def test_spans_hold_no_data_of_clients(
    traced: LiveServer, collector: Collector, issuer: Issuer, unavailable: Provider
) -> None:
    token, unverified = issuer.token("subject-of-bob"), unavailable.token("bob")
    bob = RemoteUser(traced.api, token)
    private = {"Cookie": "sessionid=cookie-of-bob", "User-Agent": "agent-of-bob"}
    responses = [
        bob.call("POST", "/user"),
        bob.call("POST", "/experiment", {"name": "name-of-bob"}),
        bob.call("GET", "/user/self?query-of-bob", headers=private),
        RemoteUser(traced.api, unverified).call("GET", "/user/self"),
    ]
    assert [response.status_code for response in responses] == [201, 201, 200, 503]
    traces = [trace_of(collector, response) for response in responses]
    failed = {each.attributes.get("error.type") for root, others in traces for each in (root, *others)} - {None}
    assert failed == {"ConnectionError", "503"}
    for text in ("of-bob", "of_bob", "@example.org", token, unverified, "Connection refused"):
        assert not [body for body in collector.bodies if text.encode() in body], text


def test_health_checks_and_their_commands_are_not_traced(traced: LiveServer, collector: Collector) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        get(traced, path)
    trace_of(collector, get(traced, "/none"))
    beginnings = [each for each in collector.spans() if not each.span.parent_span_id]
    assert all(each.is_of_server for each in beginnings)
    assert not {each.attributes.get("url.path") for each in beginnings} & {
        "/livez",
        "/readyz",
        "/metrics",
    }


def test_a_run_of_a_background_task_is_a_trace(traced: LiveServer, collector: Collector) -> None:
    traced.manage("work", "--once")
    spans = collector.spans()
    tasks = {each.span.span_id: each.span.name for each in spans if each.span.name.startswith("task ")}
    assert {"task purge", "task recompute_runs", "task upgrade_runs"} <= {*tasks.values()}
    assert [each for each in spans if each.span.parent_span_id in tasks]
    # The commands that claim a task belong to no trace.
    assert all(each.span.parent_span_id or each.is_of_server or each.span.span_id in tasks for each in spans)


def test_a_tenth_of_the_requests_is_traced_unless_their_client_decides() -> None:
    collector = Collector()
    with service(collector) as live:
        for number in range(100):
            get(live, f"/experiments/undecided-{number}")
            get(live, f"/experiments/dropped-{number}", traceparent=f"00-{TRACE}-{PARENT}-00")
        sampled, _ = trace_of(collector, get(live, "/sampled", traceparent=f"00-{TRACE}-{PARENT}-01"))
    collector.stop()
    assert (sampled.trace_id, sampled.span.parent_span_id.hex()) == (TRACE, PARENT)
    others = [each.attributes["url.path"] for each in collector.spans() if each.is_of_server and each != sampled]
    assert 0 < len(others) < 50
    assert all(path.startswith("/experiments/undecided-") for path in others)


def test_a_collector_that_fails_harms_no_request_fills_no_log_and_delays_no_end() -> None:
    collector = Collector()
    collector.status = 500
    slow = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3600", "GUNICORN_CMD_ARGS": "--graceful-timeout=60"}
    with service(collector, OTEL_TRACES_SAMPLER="always_on", **slow) as live:
        while len(collector.bodies) < 10:
            assert get(live, "/none").status_code == 404
        assert live.log.read_text().count("Failed to export") == 1
        collector.hangs = True
        until = len(collector.bodies) + 1
        while len(collector.bodies) < until:
            assert get(live, "/none").status_code == 404
        assert get(live, "/none").status_code == 404
        live.process.terminate()
        # OpenTelemetry itself would take 30 s.
        live.process.wait(20)
    collector.stop()


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:4318"])
def test_opentelemetry_is_imported_if_traces_are_on_and_starts_no_thread_before_the_fork(endpoint: str) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "driftwatch.settings",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }
    printed = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout
    modules, threads = json.loads(printed)
    assert bool(modules) == bool(endpoint)
    assert threads == 1
