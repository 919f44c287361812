"""Security headers, and the settings of production."""

import os
import subprocess
import sys

import pytest
import requests
from django.test import Client
from pytest_django import Settings

from driftwatch import settings as driftwatch_settings
from tests.live import ROOT, LiveServer, gunicorn_configuration

HTML = {"Accept": "text/html"}
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "driftwatch.settings",
    "DRIFTWATCH_ENV": "production",
    "SECRET_KEY": "a long random string of this test alone: 0123456789 abcdefghij",
    "ALLOWED_HOSTS": "drift.example.org",
    "MONGODB_URI": "mongodb://database.example.org/?replicaSet=rs",
    "RATE_LIMIT_LOGIN": "10/minute",
    "OIDC_RP_ISSUER": "https://login.example.org",
    "OIDC_RP_CLIENT_ID": "drift-watch",
    "OIDC_RP_CLIENT_SECRET": "a secret of the client and the provider",
    "OIDC_RP_ENTITLEMENTS": "groups",
}
# Send a request under the production settings in a separate process, which needs neither a database nor a provider.
ASK = """
import django; django.setup()
from django.test import Client
from django.conf import settings
client = Client()
print(client.get("/login", headers={"host": "drift.example.org"}).headers["Location"])
print(client.get("/livez", headers={"host": "drift.example.org"}).status_code)
page = client.get("/login", headers={"host": "drift.example.org", "x-forwarded-proto": "https"})
print(page.status_code)
print(page.headers.get("Strict-Transport-Security"))
cookie = page.cookies["csrftoken"]
print(cookie["secure"], cookie["samesite"], settings.SESSION_COOKIE_SECURE, settings.SESSION_COOKIE_SAMESITE)
"""


def run(*arguments: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **PRODUCTION, **environment},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout


def test_djangos_deployment_check_passes_in_production() -> None:
    assert "no issues" in run("manage.py", "check", "--deploy", "--fail-level", "WARNING")


def test_production_accepts_https_only_from_an_explicitly_trusted_proxy() -> None:
    printed = run("-c", ASK, LOG_LEVEL="ERROR", SECURE_PROXY_SSL_HEADER="X-Forwarded-Proto", TRUSTED_PROXIES="1")
    *_, redirect, alive, status, hsts, cookies = printed.splitlines()
    assert redirect == "https://drift.example.org/login"
    assert alive == status == "200"
    assert hsts == "max-age=31536000; includeSubDomains"
    assert cookies == "True Lax True Lax"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Protocol": "ssl"},
        {"X-Forwarded-Ssl": "on"},
        {"SCRIPT_NAME": "/api"},
    ],
)
def test_a_client_on_this_machine_chooses_no_scheme_or_path(live: LiveServer, headers: dict[str, str]) -> None:
    response = requests.post(f"{live.api}/experiment/search", headers=headers, json={}, timeout=10)
    assert response.headers["Link"].startswith(f"<{live.api}/experiment/search?")


def test_the_operator_may_let_gunicorn_read_the_headers_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driftwatch_settings, "FORWARDED_ALLOW_IPS", "10.0.0.0/8")
    configuration = gunicorn_configuration()
    assert configuration["forwarded_allow_ips"] == "10.0.0.0/8"
    assert not {"secure_scheme_headers", "forwarder_headers"} & configuration.keys()


@pytest.mark.parametrize("path", ["/", "/login", "/api/v1/docs", "/api/v1/openapi.json", "/nothing", "/admin/login/"])
def test_every_response_has_security_headers(path: str) -> None:
    headers = Client().get(path, headers=HTML).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/login", "/api/v1/docs", "/admin/login/?next=/admin/"])
def test_pages_hold_no_inline_script_or_style(path: str) -> None:
    page = Client().get(path, headers=HTML, follow=True).content.decode()
    assert "<style" not in page
    assert "style=" not in page
    assert page.count("<script") == page.count("<script src=")


def test_cors_admits_only_configured_origins(settings: Settings) -> None:
    def allowed() -> str | None:
        return (
            Client()
            .get("/api/v1/openapi.json", headers={"Origin": "https://pages.example"})
            .headers.get("Access-Control-Allow-Origin")
        )

    assert allowed() is None
    settings.CORS_ALLOWED_ORIGINS = ["https://pages.example"]
    assert allowed() == "https://pages.example"


def test_cors_never_allows_a_session(settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://pages.example"]
    headers = Client().get("/api/v1/openapi.json", headers={"Origin": "https://pages.example"}).headers
    assert "Access-Control-Allow-Credentials" not in headers


# A request of a page of another origin.
ASK_FOR_CORS = """
import django; django.setup()
from django.test import Client
headers = {"host": "second.example.org", "x-forwarded-proto": "https", "origin": "https://second.example"}
response = Client().get("/livez", headers=headers)
print(response.status_code, response.headers.get("Access-Control-Allow-Origin"))
"""


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [("", None), ("https://first.example, https://second.example", "https://second.example")],
    ids=["none", "two"],
)
def test_blanks_in_lists_of_hosts_and_origins_are_no_part_of_them(origins: str, allowed: str | None) -> None:
    printed = run(
        *("-c", ASK_FOR_CORS),
        LOG_LEVEL="ERROR",
        SECURE_PROXY_SSL_HEADER="X-Forwarded-Proto",
        TRUSTED_PROXIES="1",
        ALLOWED_HOSTS="first.example.org, second.example.org",
        CORS_ALLOWED_ORIGINS=origins,
    )
    assert printed.splitlines()[-1] == f"200 {allowed}"
