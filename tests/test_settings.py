"""Settings with which the service refuses to start."""

import os
import runpy
import secrets
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from pytest_django import Settings

from driftwatch import checks
from tests.live import GUNICORN, ROOT

PRODUCTION = {
    "DRIFTWATCH_ENV": "production",
    "SECRET_KEY": "a-long-random-string-of-this-test-alone",
    "ALLOWED_HOSTS": "drift.example.org",
    "RATE_LIMIT_LOGIN": "10/minute",
}
CLIENT = {"OIDC_RP_CLIENT_ID": "drift-watch", "OIDC_RP_CLIENT_SECRET": "a secret"}
ISSUER = '[{"issuer": "https://login.example.org", "audience": ["drift"], "entitlements": "groups"}]'
TRACES = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}

WEAK = {
    "django-insecure-k2v^8w#1ql0c!x7z$m9d@e4r&t5y*u6i": "is a placeholder",
    "CHANGE-ME please, before this service is started": "is a placeholder",
    "my-secret-key-of-the-drift-watch-service": "is a placeholder",
    "x" * 64: "repeats a pattern",
    "abcabd" * 8: "repeats a pattern",
    "Drift Watch 1/" * 3: "repeats a pattern",
    "abcdefghijklmnopqrstuvwxyz123456": "repeats a pattern",
    "k2v^8w#1ql0c!x7z$m9d@e4r&t5y*u6": "is shorter than 32 characters",
}


def problems(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> list[str]:
    """The errors of `manage.py check` with their hints. This process reads the settings: a new one takes seconds."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        values = runpy.run_path(str(ROOT / "driftwatch" / "settings.py"))
    except ImproperlyConfigured as error:
        return [str(error)]
    monkeypatch.setattr(checks, "settings", SimpleNamespace(**values))
    return [f"{problem.msg} {problem.hint}" for problem in checks.check_settings()]


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="development"),
        pytest.param({**PRODUCTION, "OIDC_ISSUERS": ISSUER}, id="production"),
        pytest.param(
            {**PRODUCTION, "OIDC_ISSUERS": '[{"issuer": "https://a.example", "audience": "any"}]'},
            id="an issuer for any audience in production",
        ),
        pytest.param(
            {**PRODUCTION, "SECURE_PROXY_SSL_HEADER": "X-Forwarded-Proto", "TRUSTED_PROXIES": "1"}, id="a proxy"
        ),
        pytest.param({**PRODUCTION, "CSRF_TRUSTED_ORIGINS": "https://*.example.org"}, id="subdomains"),
        pytest.param(
            {"METRICS_TOKEN": "0123456789abcdef", "METRICS_NETWORKS": "10.0.0.0/8, fd00::/8", "LOG_REQUEST_SHARE": "0"},
            id="metrics and logs",
        ),
        pytest.param({"RETENTION_DAYS": "36500"}, id="retention"),
        pytest.param({"RETENTION_DAYS": ""}, id="no retention"),
        pytest.param({"RATE_LIMIT": "", "RATE_LIMIT_LOGIN": "199/hour"}, id="limits"),
        pytest.param({"OIDC_ISSUERS": ISSUER}, id="an issuer"),
        pytest.param({"OIDC_RP_ISSUER": "https://login.example.org", **CLIENT}, id="browser login"),
        pytest.param({"OIDC_ISSUERS": '[{"issuer": "http://127.0.0.1:9000"}]'}, id="an issuer on this machine"),
        pytest.param(
            {
                "OIDC_ISSUERS": '[{"issuer": "https://a.example", "audience": "any", "email": "upn", '
                '"trust_email": true, "object_keys": true}]',
                "OIDC_RP_AUTH_METHOD": "client_secret_post",
            },
            id="a special issuer",
        ),
        pytest.param({**TRACES, "OTEL_TRACES_SAMPLER": "always_on"}, id="all traces"),
        pytest.param({**TRACES, "OTEL_TRACES_SAMPLER": "", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, id="some traces"),
        pytest.param({"OTEL_TRACES_SAMPLER": "xray", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, id="no traces"),
        pytest.param({"MONGODB_URI": "mongodb+srv://u:p%2Fw@nowhere.invalid/?w=majority"}, id="a name to look up"),
        pytest.param({"MONGODB_URI": "mongodb://a,b:27018/?replicaSet=x&compressors=zstd,zlib"}, id="a replica set"),
        pytest.param({"CACHE_URL": "redis://:a%40b;c,d@cache.example.org/3"}, id="Redis"),
        pytest.param({"CACHE_URL": "rediss://user:p@[::1]:6380?ssl_ca_certs=/etc/ca.pem"}, id="Redis with TLS"),
        pytest.param({"CACHE_URL": "unix:///run/redis.sock?db=1&password=p"}, id="Redis at a socket"),
    ],
)
def test_valid_settings_pass(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    assert problems(monkeypatch, environment) == []


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DRIFTWATCH_ENV": "staging"}, "DRIFTWATCH_ENV is 'staging'"),
        ({"OIDC_ISSUERS": "[{"}, "OIDC_ISSUERS is '[{'. Set a JSON list."),
        ({"OIDC_ISSUERS": '{"issuer": "https://login.example.org"}'}, "OIDC_ISSUERS is not a valid list"),
        ({"OIDC_ISSUERS": '[{"issuer": "http://login.example.org"}]'}, "OIDC_ISSUERS is not a valid list"),
        (
            {"OIDC_ISSUERS": '[{"issuer": "https://a.example", "audience": "drift"}]'},
            "OIDC_ISSUERS is not a valid list",
        ),
        ({"OIDC_ISSUERS": '[{"issuer": "https://a.example", "aud": ["drift"]}]'}, "OIDC_ISSUERS is not a valid list"),
        ({"OIDC_ISSUERS": '[{"issuer": "http://["}]'}, "OIDC_ISSUERS is not a valid list"),
        ({"OIDC_ISSUERS": '[{"audience": ["drift"]}]'}, "OIDC_ISSUERS is not a valid list"),
        ({"OIDC_ISSUERS": '[{"issuer": "https://a.example", "trust_email": "yes"}]'}, "trust_email and object_keys"),
        ({"OIDC_ISSUERS": '[{"issuer": "https://a.example", "email": "upn"}]'}, "email, which needs trust_email"),
        ({"OIDC_RP_AUTH_METHOD": "basic"}, "OIDC_RP_AUTH_METHOD is 'basic'. Set one of: client_secret_basic, client_"),
        (
            {**PRODUCTION, "OIDC_ISSUERS": '[{"issuer": "https://a.example"}]'},
            "OIDC_ISSUERS trusts https://a.example without an audience.",
        ),
        (
            {**PRODUCTION, "OIDC_ISSUERS": '[{"issuer": "https://a.example", "audience": []}]'},
            "OIDC_ISSUERS trusts https://a.example without an audience.",
        ),
        ({"OIDC_ADMIN_ENTITLEMENTS": '"admins"'}, "OIDC_ADMIN_ENTITLEMENTS is not a JSON list"),
        ({"OIDC_USER_ENTITLEMENTS": "[1]"}, "OIDC_USER_ENTITLEMENTS is not a JSON list"),
        ({"OIDC_RP_ISSUER": "http://login.example.org", **CLIENT}, "OIDC_RP_ISSUER is not an https address"),
        ({"OIDC_RP_ISSUER": "https://login.example.org"}, "OIDC_RP_ISSUER is set without a client id and secret"),
        ({"SESSION_RENEWAL_SECONDS": "3600"}, "SESSION_RENEWAL_SECONDS is 3600"),
        ({"RATE_LIMIT": "many"}, "RATE_LIMIT is 'many', which is not a rate"),
        ({"RATE_LIMIT_LOGIN": "200/hour"}, "RATE_LIMIT_LOGIN is '200/hour', which is too high"),
        ({"VAR_DIR": "/proc/none", "SECRET_KEY": ""}, "VAR_DIR is '/proc/none', which cannot be used: "),
        ({"PORT": "65536"}, "PORT is 65536."),
        ({"DRAIN_SECONDS": "-1"}, "DRAIN_SECONDS is -1."),
        ({"RATE_LIMIT_LOGIN": "0/minute"}, "RATE_LIMIT_LOGIN is '0/minute', which is not a rate"),
        ({"TRUSTED_PROXIES": "-1"}, "TRUSTED_PROXIES is negative"),
        ({**PRODUCTION, "SECRET_KEY": "short"}, "SECRET_KEY is shorter"),
        *(({**PRODUCTION, "SECRET_KEY": secret}, f"SECRET_KEY {weakness}.") for secret, weakness in WEAK.items()),
        *(
            ({**PRODUCTION, name: f"https://drift.example.org,{origin}"}, f"{name} has '{origin}'")
            for name in ("CSRF_TRUSTED_ORIGINS", "CORS_ALLOWED_ORIGINS")
            for origin in ("https://*", "https://*.org", "https://*:8443", "https://*example.org")
        ),
        ({**PRODUCTION, "RATE_LIMIT_LOGIN": ""}, "RATE_LIMIT_LOGIN is empty"),
        ({**PRODUCTION, "SECURE_PROXY_SSL_HEADER": "X-Forwarded-Proto"}, "TRUSTED_PROXIES is 0"),
        ({**PRODUCTION, "ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS is empty or holds the wildcard"),
        ({**PRODUCTION, "ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS is empty"),
        ({**PRODUCTION, "DEBUG": "true"}, "DEBUG is on"),
        ({**PRODUCTION, "MONGODB_URI": ""}, "MONGODB_URI is not set"),
        ({"DRIFTWATCH_ENV": "production", "SECRET_KEY_FILE": "/nowhere"}, "SECRET_KEY_FILE is '/nowhere'"),
        ({**PRODUCTION, "SECRET_KEY": ""}, "SECRET_KEY is not set. Set a random string"),
        ({"PORT": "abc"}, "PORT is 'abc'. Set a whole number."),
        ({"SEARCH_TIME_LIMIT": "long"}, "SEARCH_TIME_LIMIT is 'long'. Set a number."),
        ({"SAMPLE_DATA": "maybe"}, "SAMPLE_DATA is 'maybe'. Set true or false."),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL is 'LOUD'. Set one of: "),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT is 'xml'. Set one of: console, json."),
        ({"SEARCH_TIME_LIMIT": "-1"}, "SEARCH_TIME_LIMIT is -1."),
        ({"SEARCH_TIME_LIMIT_ANONYMOUS": "0"}, "SEARCH_TIME_LIMIT_ANONYMOUS is 0."),
        ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY is 0."),
        ({"THREADS": "15"}, "THREADS is 15."),
        ({"KEEPALIVE": "-1"}, "KEEPALIVE is -1."),
        ({"MAX_BODY_BYTES": "-1"}, "MAX_BODY_BYTES is -1."),
        ({"MAX_BULK_BYTES": "0"}, "MAX_BULK_BYTES is 0."),
        ({"MAX_FILE_BYTES": "0"}, "MAX_FILE_BYTES is 0."),
        ({"MAX_FILES_BYTES": "-1"}, "MAX_FILES_BYTES is -1."),
        ({"MAX_FILES": "1001"}, "MAX_FILES is 1001."),
        ({"AUDIT_DAYS": "0"}, "AUDIT_DAYS is 0."),
        ({"RETENTION_DAYS": "-1"}, "RETENTION_DAYS is -1. Set 1 to 36500, or 0 for none."),
        ({"RETENTION_DAYS": "36501"}, "RETENTION_DAYS is 36501."),
        ({"RETENTION_DAYS": "a month"}, "RETENTION_DAYS is 'a month'. Set a whole number."),
        ({"TOKEN_OWNER_DAYS": "-1"}, "TOKEN_OWNER_DAYS is -1."),
        ({"SECURE_PROXY_SSL_HEADER": "a b"}, "SECURE_PROXY_SSL_HEADER is not the name of a header."),
        ({"METRICS_TOKEN": "short"}, "METRICS_TOKEN has fewer than 16 characters"),
        ({"METRICS_TOKEN": "ein Token, größer als 16"}, "METRICS_TOKEN has fewer than 16 characters, or others"),
        ({"METRICS_NETWORKS": "10.0.0.0/8,here"}, "METRICS_NETWORKS has 'here'"),
        ({"METRICS_NETWORKS": "10.0.0.1/8"}, "METRICS_NETWORKS has '10.0.0.1/8'"),
        ({"WORK_METRICS_PORT": "65536"}, "WORK_METRICS_PORT is 65536."),
        ({"LOG_REQUEST_SHARE": "1.5"}, "LOG_REQUEST_SHARE is 1.5."),
        ({"MONGODB_URI": "database.example.org"}, "MONGODB_URI is not an address of MongoDB."),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https address",
        ),
        ({**TRACES, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'. Set http/protobuf"),
        ({**TRACES, "OTEL_TRACES_SAMPLER": "ratio"}, "OTEL_TRACES_SAMPLER is 'ratio'. Set one of: parentbased_"),
        ({**TRACES, "OTEL_TRACES_SAMPLER_ARG": "10%"}, "OTEL_TRACES_SAMPLER_ARG is '10%'. Set the share"),
        ({**TRACES, "OTEL_TRACES_SAMPLER_ARG": "1.5"}, "OTEL_TRACES_SAMPLER_ARG is '1.5'. Set the share"),
        ({"MONGODB_URI": "mongodb://"}, "Must provide at least one hostname or IP."),
        ({"MONGODB_URI": "mongodb://a:99999"}, "Port must be an integer between 0 and 65535."),
        ({"MONGODB_URI": "mongodb+srv://a:27017"}, "must not include a port number."),
        ({"MONGODB_URI": "mongodb://a,b/?directConnection=true"}, "multiple hosts with directConnection=true."),
        ({"MONGODB_URI": "mongodb://a/?tsl=true"}, "Unknown option: tsl."),
        ({"MONGODB_URI": "mongodb://a/?retryWrites=maybe"}, "must be 'true' or 'false'."),
        ({"MONGODB_URI": "mongodb://a/?tls=true&tlsCAFile=/nowhere"}, "No such file or directory: '/nowhere'."),
        *(
            ({"CACHE_URL": address}, "CACHE_URL is not an address of Redis. Set an address such as redis://")
            for address in (
                "cache.example.org:6379",
                "http://cache.example.org",
                "redis://",
                "redis://cache.example.org:0",
                "redis://cache.example.org:99999",
                "redis://cache.example.org/first",
                "redis://cache.example.org#1",
                "unix://",
                "unix:///run/redis.sock?db=x",
            )
        ),
        ({"CACHE_URL": "redis://cache.example.org?socket_timeout=60"}, "Redis. It takes no options."),
        (
            {"CACHE_URL": "rediss://cache.example.org?ssl_cert_reqs=none"},
            "Its options may be: ssl_ca_certs, ssl_certfile, ssl_keyfile.",
        ),
    ],
)
def test_invalid_settings_are_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], sentence: str
) -> None:
    assert any(sentence in problem for problem in problems(monkeypatch, environment))


A_PATH = {"OIDC_ISSUERS": ISSUER}
NO_PATH = {"OIDC_ISSUERS": '[{"issuer": "https://login.example.org", "audience": ["drift"]}]'}
LOGIN = {"OIDC_RP_ISSUER": "https://login.example.org", **CLIENT}
OTHER_LOGIN = {"OIDC_RP_ISSUER": "https://other.example.org", **CLIENT}


@pytest.mark.parametrize(
    ("environment", "hints"),
    [
        ({}, []),
        (A_PATH, []),
        (NO_PATH, ['"entitlements" for it in OIDC_ISSUERS']),
        ({**NO_PATH, "OIDC_USER_ENTITLEMENTS": "[]"}, []),
        (LOGIN, ["OIDC_RP_ENTITLEMENTS"]),
        ({**LOGIN, "OIDC_RP_ENTITLEMENTS": "groups"}, []),
        ({**LOGIN, **A_PATH}, []),
        ({**LOGIN, **NO_PATH}, ['"entitlements" for it in OIDC_ISSUERS']),
        ({**OTHER_LOGIN, **NO_PATH}, ['"entitlements" for it in OIDC_ISSUERS', "OIDC_RP_ENTITLEMENTS"]),
    ],
)
def test_check_warns_of_issuers_without_a_path_to_required_entitlements(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], hints: list[str]
) -> None:
    assert problems(monkeypatch, environment) == []
    warnings = checks.check_entitlement_paths()
    assert [warning.hint for warning in warnings] == [
        f"Set {hint} to the path of the claim, such as realm_access/roles." for hint in hints
    ]
    assert not any(warning.is_serious() for warning in warnings)


def test_random_secrets_pass() -> None:
    for _ in range(100):
        for secret in (secrets.token_urlsafe(24), secrets.token_hex(16), get_random_secret_key()):
            assert checks.weakness_of(secret) is None


@pytest.mark.parametrize(
    "address",
    ["mongodb://operator:a/secret@host/", "mongodb://operator:a@secret:x@host", "mongodb://operator:secret@h:x"],
)
def test_a_refused_address_of_mongodb_shows_no_password(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    [problem] = problems(monkeypatch, {"MONGODB_URI": address})
    assert "secret" not in problem


@pytest.mark.parametrize(
    "address",
    ["redis://:a/secret@host", "redis://:a?secret=x@host", "redis://:a#secret@host", "redis://:secret@h:x", "secret"],
)
def test_a_refused_address_of_redis_shows_no_password(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    [problem] = problems(monkeypatch, {"CACHE_URL": address})
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"RATE_LIMIT": "many"}, "RATE_LIMIT is 'many', which is not a rate"),
        ({"OIDC_ISSUERS": "[{"}, "OIDC_ISSUERS is '[{'. Set a JSON list."),
    ],
)
@pytest.mark.parametrize("program", [["manage.py", "check"], GUNICORN])
def test_nothing_starts_with_invalid_settings(program: list[str], environment: dict[str, str], sentence: str) -> None:
    result = subprocess.run(
        [sys.executable, *program],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "driftwatch.settings", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_value_can_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PRODUCTION["SECRET_KEY"] + "\n")
    without = {name: value for name, value in PRODUCTION.items() if name != "SECRET_KEY"}
    assert problems(monkeypatch, {**without, "SECRET_KEY_FILE": str(secret)}) == []


def test_each_problem_has_an_id_of_its_own(settings: Settings) -> None:
    settings.DRAIN_SECONDS, settings.METRICS_TOKEN = -1, "short"
    settings.METRICS_NETWORKS, settings.WORK_METRICS_PORT, settings.LOG_REQUEST_SHARE = ["?"], -1, 2
    settings.THREADS, settings.KEEPALIVE, settings.PORT, settings.TRUSTED_PROXIES = 1, -1, 0, -1
    ids = [problem.id for problem in checks.check_settings()]
    assert len(ids) == len({*ids}) == 9
