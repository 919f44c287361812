"""Clients that other projects' tools generate from the OpenAPI document.

Such a client sends each default of the document, and relies on the fields that a response must have.
"""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core.api.openapi_view import document
from tests.conftest import RUN
from tests.crowd import RemoteUser
from tests.live import LiveServer
from tests.node import BIN, NODE

PACKAGE = "drift_watch_client"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The OpenAPI document in a file."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(document())
    return path


@pytest.fixture(scope="module")
def python_client(described: Path) -> Iterator[ModuleType]:
    """The package that openapi-python-client generates."""
    settings = described.with_name("settings.yml")
    settings.write_text("post_hooks: []\n")
    target = described.with_name("client")
    subprocess.run(
        [
            *(Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", described),
            *("--config", settings, "--output-path", target),
        ],
        check=True,
        capture_output=True,
    )
    sys.path.insert(0, str(target))
    yield importlib.import_module(PACKAGE)
    sys.path.remove(str(target))


def test_a_patch_by_a_generated_python_client_changes_one_field(
    python_client: ModuleType, live: LiveServer, remote_user: RemoteUser
) -> None:
    token = remote_user.authorization["Authorization"].removeprefix("Bearer ")

    def call(operation: str, **parameters: Any) -> Any:
        with python_client.AuthenticatedClient(base_url=live.url, token=token) as client:
            return importlib.import_module(f"{PACKAGE}.api.{operation}").sync(client=client, **parameters)

    models = importlib.import_module(f"{PACKAGE}.models")
    name = remote_user.new_experiment().rpartition("/")[2]
    path = f"/experiment/{name}"
    remote_user.call("PATCH", path, {"public": True, "tags": ["a"], "config": {"b": 1}, "description": "before"})
    run = remote_user.call("POST", f"{path}/drift", {**RUN, "parameters": {"c": 2}, "detector": "KS"}).json()
    before = remote_user.call("GET", path).json()

    ids = {"experiment_id": name, "drift_id": run["id"]}
    change = models.PatchedDriftRequest(tags=["weekly"])
    changed = call("drift.drift_partial_update", **ids, body=change)
    after = remote_user.call("GET", f"{path}/drift/{run['id']}").json()
    assert change.to_dict() == {"tags": ["weekly"]}
    assert (changed.tags, str(changed.verdict)) == (["weekly"], "drift")
    assert after == run | {"tags": ["weekly"], "updated_at": after["updated_at"]}

    call(
        "experiment.experiment_partial_update",
        experiment_id=name,
        body=models.PatchedExperimentRequest(description="x"),
    )
    described = remote_user.call("GET", path).json()
    assert described == before | {"description": "x", "updated_at": described["updated_at"]}

    replacement = models.ExperimentRequest(name=described["name"], public=True)
    call("experiment.experiment_update", experiment_id=name, body=replacement)
    replaced = remote_user.call("GET", path).json()
    assert replaced == described | {"updated_at": replaced["updated_at"]}

    everything = models.DriftSearchBody()
    assert [found.id for found in call("drift.drift_search", experiment_id=name, body=everything)] == [changed.id]
    # Other tests expect no public experiment on this server.
    assert remote_user.call("DELETE", path).status_code == 204


@pytest.mark.skipif(not NODE, reason="needs Node.js and tests/node/node_modules")
def test_the_types_of_a_typescript_client_require_what_a_response_always_holds(described: Path) -> None:
    directory = described.with_name("typescript")
    directory.mkdir()
    # The check skips declaration files, so that the generated file is not one.
    shutil.copy(BIN.parent.parent / "client.ts", directory)
    options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--skipLibCheck"]
    commands: list[list[str | Path]] = [
        [BIN / "openapi-typescript", described, "--output", directory / "api.ts"],
        [BIN / "tsc", *options, directory / "client.ts"],
    ]
    for command in commands:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
