"""The OpenAPI document, and responses that match it."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from core.api import openapi_view
from core.api.openapi_view import document
from drifts.models import Drift
from tests.caller import Caller
from tests.live import LiveServer

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


def test_the_document_is_openapi_3_1_and_served_to_anyone(live: LiveServer) -> None:
    response = requests.get(f"{live.api}/openapi.json", timeout=10)
    document = response.json()
    assert document["openapi"].startswith("3.1")
    assert set(document["components"]["securitySchemes"]) == {"bearer", "session"}
    assert all(path.startswith("/api/v1/") for path in document["paths"])
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in document["tags"]}


def components() -> dict[str, Any]:
    schemas: dict[str, Any] = json.loads(document())["components"]["schemas"]
    return schemas


def test_a_partial_request_has_no_defaults() -> None:
    """A generated client sends each default. It would replace the stored value."""
    patched = {name: schema for name, schema in components().items() if name.startswith("Patched")}
    assert patched.keys() == {"PatchedDriftRequest", "PatchedExperimentRequest", "PatchedSharingRequest"}
    for schema in patched.values():
        assert "required" not in schema
        assert not [name for name, field in schema["properties"].items() if "default" in field]


def test_a_replacement_has_no_defaults_of_fields_that_it_keeps_or_must_state() -> None:
    defaults = {
        name: {field for field, facts in components()[name]["properties"].items() if "default" in facts}
        for name in ("DriftRequest", "ExperimentRequest")
    }
    assert defaults == {"DriftRequest": set(), "ExperimentRequest": {"public"}}


def test_null_clears_fields_of_requests_and_is_in_no_response() -> None:
    cleared = {"Experiment": {"description", "tags", "config"}, "Drift": {"parameters", "tags"}}
    for name, fields in cleared.items():
        for schema in (f"{name}Request", f"Patched{name}Request"):
            properties = components()[schema]["properties"]
            assert fields <= {field for field, facts in properties.items() if "null" in facts.get("type", [])}, schema
        assert not [field for field in fields if "null" in components()[name]["properties"][field]["type"]]


def test_a_response_requires_all_of_its_fields() -> None:
    """But for `errors`, which only a 422 has, and a count that only rows have whose request asks for it."""
    optional = {"Problem": {"errors"}, "StatisticsRow": {"unsupported"}}
    responses = {name: schema for name, schema in components().items() if not name.endswith("Request")}
    for name, schema in responses.items():
        fields = schema.get("properties", {})
        assert set(schema.get("required", [])) == fields.keys() - optional.get(name, set()), name
        assert not [field for field, facts in fields.items() if "default" in facts], name
    assert {"Drift", "Experiment", "Permission", "User"} <= responses.keys()


def test_every_example_of_a_request_succeeds(admin: Caller, drift: Drift) -> None:
    sent = 0
    for path, operations in json.loads(document())["paths"].items():
        for method, operation in operations.items():
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                for example in content.get("examples", {}).values():
                    address = path.removeprefix("/api/v1").format(experiment_id=drift.experiment_id, drift_id=drift.id)
                    response = admin.request(method.upper(), address, example["value"], content_type=media_type)
                    assert response.status_code == 200, (path, response.content)
                    sent += 1
    assert sent == 10


def test_a_search_needs_no_body() -> None:
    bodies = {
        path: operation["requestBody"]["required"]
        for path, operations in json.loads(document())["paths"].items()
        for operation in operations.values()
        if "requestBody" in operation
    }
    assert {path for path, is_required in bodies.items() if not is_required} == {
        path for path in bodies if path.endswith("/search")
    }


def test_a_new_worker_serves_the_document_to_concurrent_requests(testrun_uid: str, worker_id: str) -> None:
    """The library that generates it loads its extensions at the first request, which is not thread-safe."""
    server = LiveServer(MONGODB_NAME=f"openapi_{testrun_uid[:8]}_{worker_id}")
    server.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            responses = list(pool.map(lambda _: requests.get(f"{server.api}/openapi.json", timeout=30), range(16)))
    finally:
        server.stop()
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1


def test_the_document_is_made_once_and_not_sent_again_to_a_client_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Client()
    first = visitor.get("/api/v1/openapi.json")

    def generate_again(*args: Any, **options: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(SchemaGenerator, "get_schema", generate_again)
    monkeypatch.setattr(openapi_view, "json_of", generate_again)
    again = visitor.get("/api/latest/openapi.json", headers={"Host": "127.0.0.1"})
    assert again.content == first.content
    assert again.headers["ETag"] == first.headers["ETag"]
    known = visitor.get("/api/v1/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_generation_has_no_warnings(live: LiveServer) -> None:
    live.manage("spectacular", "--validate", "--fail-on-warn", "--file", "/dev/null")


def test_generated_requests_find_no_server_error_and_no_undocumented_response(live: LiveServer, tmp_path: Path) -> None:
    token = live.manage("token", "fuzzer@example.org", "--entitlement", "admins")
    run = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{live.api}/openapi.json"),
            *("--header", f"Authorization: Bearer {token}", "--checks", CHECKS),
            *("--max-examples", "10", "--generation-deterministic"),
            *("--continue-on-failure", "--warnings", "off", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    generated = re.search(r"([\d,]+) generated", run.stdout)
    assert run.returncode == 0, run.stdout
    assert generated, run.stdout
    assert int(generated[1].replace(",", "")) >= 1000, run.stdout
