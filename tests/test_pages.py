"""Responses outside the API: the root, health checks, the documentation, and errors."""

import re
import tomllib
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.conf import settings
from pytest_django import Settings

from driftwatch import health
from tests.caller import Client

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def visitor() -> Client:
    return Client(raise_request_exception=False)


def test_browsers_get_a_page_and_other_clients_an_empty_response(visitor: Client) -> None:
    page = visitor.get("/", headers=HTML)
    assert page.status_code == 200
    assert "Drift Watch" in page.content.decode()
    assert visitor.get("/").status_code == 204


def test_the_liveness_check_succeeds(visitor: Client) -> None:
    assert visitor.get("/livez").json() == {"status": "ok", "version": settings.VERSION}


def test_the_process_the_api_and_the_pages_show_the_version_of_the_project(visitor: Client) -> None:
    version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
    assert visitor.get("/livez").json()["version"] == version
    assert visitor.get("/api/v1/openapi.json").json()["info"]["version"] == version
    for path, status in {"/": 200, "/login": 200, "/nothing": 404}.items():
        page = visitor.get(path, headers=HTML)
        assert page.status_code == status
        assert f"Drift Watch {version}</footer>" in page.content.decode()
    assert f"## {version} - " in Path("CHANGELOG.md").read_text()
    assert f"Drift Watch {version}" in Path("README.md").read_text()


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_each_page_of_the_documentation_is_listed(index: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", Path(index).read_text())
    listed = {(Path(index).parent / link).resolve() for link in links}
    pages = {page.resolve() for page in Path("docs").glob("*.md")}
    assert pages - {Path("docs/README.md").resolve()} <= listed


def test_the_service_is_ready_with_a_primary_and_all_migrations(
    visitor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = visitor.get("/readyz")
    assert response.status_code == 200
    assert response.json()["status"] == "ok"
    assert {check["status"] for check in response.json()["checks"].values()} == {"ok"}

    health.readiness.forget()
    monkeypatch.setattr(health, "migrations_are_applied", lambda: False)
    response = visitor.get("/readyz")
    assert response.status_code == 503
    checks = response.json()["checks"]
    assert [name for name, check in checks.items() if check["status"] != "ok"] == ["migrations"]
    assert checks["migrations"]["problem"] == "run `manage.py migrate`"


def test_the_documentation_loads_its_assets_from_the_service(visitor: Client) -> None:
    page = visitor.get("/api/v1/docs", headers=HTML).content.decode()
    assert "swagger-ui" in page
    assert "http://" not in page
    assert "https://" not in page
    asset = visitor.get("/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js")
    assert asset.status_code == 200
    asset.close()


@pytest.mark.parametrize("path", ["/nothing", "/experiments/none"])
def test_an_error_page_shows_the_status_and_what_happened(visitor: Client, path: str) -> None:
    page = visitor.get(path, headers=HTML)
    assert page.status_code == 404
    assert re.search(r"<p[^>]*>404</p>\s*<h1>Page not found</h1>", page.content.decode())


def test_a_page_that_takes_no_form_says_that_nothing_was_changed() -> None:
    visitor = Client(enforce_csrf_checks=True)
    page = visitor.post("/", headers=HTML)
    assert (page.status_code, page.headers["Allow"]) == (405, "GET, HEAD")
    assert "<h1>This page cannot be opened</h1>" in page.content.decode()
    assert "Nothing was changed." in page.content.decode()
    assert visitor.post("/").json()["message"] == "POST is not allowed here. Use GET or HEAD."


def test_a_form_without_its_csrf_token_leads_back_to_the_form() -> None:
    form, browser = {"username": "a", "password": "b"}, Client(enforce_csrf_checks=True)
    assert "send the form again" in browser.post("/login", form).json()["message"]
    page = browser.post("/login", form, headers=HTML)
    assert page.status_code == 403
    assert re.search(r"<p[^>]*>403</p>\s*<h1>This form has expired</h1>", page.content.decode())
    assert "reload the page, and send the form again" in page.content.decode()


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/api/v1/experiment/search/"])
def test_an_unknown_address_gets_a_json_response(visitor: Client, path: str) -> None:
    response = visitor.get(path)
    assert response.status_code == 404
    assert response.json()["code"] == 404
    assert "/api/v1/docs" in response.json()["message"]


def test_a_browser_gets_a_page_for_an_unknown_address_outside_the_api(visitor: Client) -> None:
    assert visitor.get("/nothing", headers=HTML).headers["Content-Type"].startswith("text/html")
    assert visitor.get("/api/v1/nothing", headers=HTML).json()["status"] == "Not Found"


def test_an_unknown_host_is_refused_in_json(visitor: Client, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["drift.example.org"]
    response = visitor.post("/api/v1/user", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert response.json()["status"] == "Bad Request"
    page = visitor.get("/", headers={"Host": "evil.example", **HTML})
    assert page.status_code == 400
    assert "<h1>The request is not valid</h1>" in page.content.decode()
    assert "This address is not valid. Go back, or open the list again." in page.content.decode()


def test_a_form_that_is_too_large_is_refused_with_a_sentence(visitor: Client, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000
    form = {"username": "x" * 1_000}
    refused = visitor.post("/login", urlencode(form), "application/x-www-form-urlencoded", headers=HTML)
    assert refused.status_code == 413
    assert "The form holds more than 1,000 bytes. Go back and shorten it, or use the API." in refused.content.decode()
