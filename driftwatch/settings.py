"""All settings, from environment variables. A `_FILE` suffix reads the value from a file.

The README lists them. `driftwatch/checks.py` refuses malformed and unsafe values.
"""

import datetime
import os
import tomllib
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from corsheaders.defaults import default_headers
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from environs import EnvError, FileAwareEnv

from core.var_dir import created_once, usable


def explained(method: Callable[..., Any], form: str = "another value") -> Any:
    """Return a reader of variables that raises `ImproperlyConfigured` with what to set."""

    def read(env: FileAwareEnv, name: str, *args: Any, **options: Any) -> Any:
        try:
            return method(env, name, *args, **options)
        except EnvError as error:
            raise ImproperlyConfigured(f"{name} is {env.str(name)!r}. Set {form}.") from error
        except ValueError as error:
            path = os.environ[f"{name}_FILE"]
            raise ImproperlyConfigured(f"{name}_FILE is {path!r}. Set the path of a readable file.") from error

    return read


class Environment(FileAwareEnv):
    """Environment variables, or the files that they name."""

    str = explained(FileAwareEnv.str)
    path = explained(FileAwareEnv.path)
    list = explained(FileAwareEnv.list)
    int = explained(FileAwareEnv.int, "a whole number")
    float = explained(FileAwareEnv.float, "a number")
    bool = explained(FileAwareEnv.bool, "true or false")
    json = explained(FileAwareEnv.json, "a JSON list")


def one_of(choices: Iterable[str], name: str, value: str) -> str:
    """Return the value if it is one of the choices. Raises `ImproperlyConfigured` otherwise."""
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}. Set one of: {', '.join(filter(None, choices))}.")
    return value


env = Environment(strip_whitespace=True)

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]
VAR_DIR = env.path("VAR_DIR", BASE_DIR / "var")

# Environment

DRIFTWATCH_ENV = env.str("DRIFTWATCH_ENV", "development")
PRODUCTION = DRIFTWATCH_ENV == "production"
DEBUG = env.bool("DEBUG", False)


def items(name: str, default: Sequence[str] = ()) -> list[str]:
    """Return the items of a list that commas separate, without blanks around them.

    Empty items are left out: an empty secret would be known to everybody, for example.
    """
    return [*filter(None, map(str.strip, env.list(name, default=list(default))))]


def default_secret() -> str:
    """Return the secret of this checkout, created at first use. It keeps sessions and tokens valid over restarts."""
    if PRODUCTION:
        raise ImproperlyConfigured("SECRET_KEY is not set. Set a random string of at least 32 characters.")
    with usable(VAR_DIR):
        return created_once(VAR_DIR / "secret_key", get_random_secret_key)


SECRET_KEY = env.str("SECRET_KEY", "") or default_secret()
SECRET_KEY_FALLBACKS = items("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = items("ALLOWED_HOSTS", [] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = items("CSRF_TRUSTED_ORIGINS")
CORS_ALLOWED_ORIGINS = items("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_HEADERS = [
    *default_headers,
    "if-match",
    "if-none-match",
    "if-range",
    "range",
    "idempotency-key",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = [
    "X-Pagination",
    "Link",
    "WWW-Authenticate",
    "Content-Disposition",
    "Content-Range",
    "Retry-After",
    "ETag",
    "Idempotent-Replayed",
    "X-Request-ID",
]

# Application

INSTALLED_APPS = [
    "driftwatch.apps.AdminConfig",
    "driftwatch.apps.AuthConfig",
    "driftwatch.apps.ContentTypesConfig",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "core",
    "audit",
    "accounts",
    "experiments",
    "drifts",
    "files",
    "transfer",
    "pages",
    "driftwatch.apps.DriftWatchConfig",
]
MIDDLEWARE = [
    "core.client.CurrentRequestMiddleware",
    "core.request_log.RequestLogMiddleware",
    "core.default_headers.DefaultHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    *(["corsheaders.middleware.CorsMiddleware"] if CORS_ALLOWED_ORIGINS else []),
    # The middleware above neither waits for the database nor reads the body.
    "driftwatch.operations.OperationsMiddleware",
    "core.capacity.CapacityMiddleware",
    "core.body_limit.BodyLimitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.SessionIdentityMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# Traces, sent to a collector if its address is set. Nothing imports OpenTelemetry otherwise (driftwatch/tracing.py).
OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", "")
OTEL_EXPORTER_OTLP_HEADERS = env.str("OTEL_EXPORTER_OTLP_HEADERS", "")
OTEL_EXPORTER_OTLP_PROTOCOL = env.str("OTEL_EXPORTER_OTLP_PROTOCOL", "") or "http/protobuf"
OTEL_TRACES_SAMPLER = env.str("OTEL_TRACES_SAMPLER", "") or "parentbased_traceidratio"
OTEL_TRACES_SAMPLER_ARG = env.str("OTEL_TRACES_SAMPLER_ARG", "") or "0.1"
if OTEL_EXPORTER_OTLP_ENDPOINT:
    MIDDLEWARE.insert(0, "driftwatch.tracing.TraceMiddleware")
ROOT_URLCONF = "driftwatch.urls"
WSGI_APPLICATION = "driftwatch.wsgi.application"
APPEND_SLASH = False
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "driftwatch.health.service_version",
            ],
        },
    },
]
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "driftwatch.formats"

# Static files are served from their packages, without `collectstatic`.
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

# Database. With an empty MONGODB_URI the embedded server starts (core/mongodb/embedded.py).

MONGODB_URI = env.str("MONGODB_URI", "")
DATABASES = {
    "default": {
        "ENGINE": "core.mongodb",
        "HOST": MONGODB_URI,
        "NAME": env.str("MONGODB_NAME", "driftwatch"),
        "OPTIONS": {
            "appname": "driftwatch",
            "retryWrites": True,
            # Readers would otherwise see writes that a failover rolls back.
            "readConcernLevel": "majority",
            "w": "majority",
            # The limit of one operation, with the wait for a primary and for the majority. An operation on many
            # documents sets its own limit. Without a heartbeat for about three seconds, the driver breaks it off.
            "timeoutMS": 2_000,
            "serverSelectionTimeoutMS": 2_000,
            "connectTimeoutMS": 2_000,
            "heartbeatFrequencyMS": 1_000,
        },
    }
}
DEFAULT_AUTO_FIELD = "django_mongodb_backend.fields.ObjectIdAutoField"
# The backend's ids are no integers, unlike in these apps' own migrations.
MIGRATION_MODULES = {name: f"core.migrations.{name}" for name in ("admin", "auth", "contenttypes")}

# Cache: what it holds, and what happens without Redis, is in core/cache.py.

CACHE_URL = env.str("CACHE_URL", "")
CACHE_IN_REDIS: dict[str, Any] = {
    "BACKEND": "django.core.cache.backends.redis.RedisCache",
    # A list: Django would divide a string at commas and semicolons, which a password may have.
    "LOCATION": [CACHE_URL],
    "OPTIONS": {
        "serializer": "core.cache.PlainSerializer",
        # Seconds. A request waits for so long at most, once, before Redis counts as away.
        "socket_connect_timeout": 0.2,
        "socket_timeout": 0.2,
        # The library would otherwise send up to four commands at the start of each connection.
        "protocol": 2,
        "driver_info": None,
    },
}
CACHE_IN_PROCESS: dict[str, Any] = {
    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
    # Half of the entries are values, of at most 100 kB.
    "OPTIONS": {"MAX_ENTRIES": 400},
}
CACHES = {"default": {**(CACHE_IN_REDIS if CACHE_URL else CACHE_IN_PROCESS), "KEY_PREFIX": "driftwatch"}}

# Identities

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.LocalAccountBackend", "accounts.backends.ProviderBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "home"
# auth.W004: a subject is unique per issuer only. Password login searches local accounts, where it is unique.
# security.W021: HSTS preload concerns a whole domain, which is for its owner to decide.
SILENCED_SYSTEM_CHECKS = ["auth.W004", "security.W021"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
OIDC_ISSUERS = env.json("OIDC_ISSUERS", [])
OIDC_USER_ENTITLEMENTS = env.json("OIDC_USER_ENTITLEMENTS", [])
OIDC_ADMIN_ENTITLEMENTS = env.json("OIDC_ADMIN_ENTITLEMENTS", [])
# Seconds: the time limit of an issuer for the check of one token, the lifetime of its cached keys, the same while the
# issuer is unavailable, and the shortest time between two fetches.
OIDC_TIMEOUT = 2.5
OIDC_KEYS_LIFETIME = 3600.0
OIDC_KEYS_MAX_AGE = 86_400.0
OIDC_REFETCH_INTERVAL = env.float("OIDC_REFETCH_INTERVAL", 30.0)
LOCAL_ISSUER = "driftwatch"
# Tokens of an owner who was not seen for this many days are refused; 0 for no limit.
TOKEN_OWNER_DAYS = env.int("TOKEN_OWNER_DAYS", 90)
# The difference of clocks, in seconds, that every check of a token's times allows.
TOKEN_LEEWAY_SECONDS = 30

# Browser login, off without an issuer. Endpoints come from its discovery document (accounts/provider.py).
OIDC_RP_ISSUER = env.str("OIDC_RP_ISSUER", "")
OIDC_RP_CLIENT_ID = env.str("OIDC_RP_CLIENT_ID", "")
OIDC_RP_CLIENT_SECRET = env.str("OIDC_RP_CLIENT_SECRET", "")
# Empty for what the provider offers.
OIDC_RP_AUTH_METHOD = one_of(
    ("client_secret_basic", "client_secret_post", ""), "OIDC_RP_AUTH_METHOD", env.str("OIDC_RP_AUTH_METHOD", "")
)
OIDC_RP_SCOPES = env.str("OIDC_RP_SCOPES", "openid email")
# The claim path of the entitlements, if the issuer is not in OIDC_ISSUERS.
OIDC_RP_ENTITLEMENTS = env.str("OIDC_RP_ENTITLEMENTS", "")
OIDC_USE_PKCE = True
OIDC_STORE_ID_TOKEN = True
OIDC_AUTHENTICATION_CALLBACK_URL = "login-callback"
# The lifetime of a login's claims in a session. Then a silent login at the provider renews them.
SESSION_RENEWAL_SECONDS = env.int("SESSION_RENEWAL_SECONDS", 900)

SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": datetime.timedelta(minutes=10),
}

# Audit trail

AUDIT_DAYS = env.float("AUDIT_DAYS", 365)

# Retention

# Runs are removed so many days after `observed_at`, unless their experiment has a shorter time; 0 to keep them.
RETENTION_DAYS = env.int("RETENTION_DAYS", 0) if env.str("RETENTION_DAYS", "") else 0

# Trash

# Deleted experiments can be restored for so many days.
TRASH_DAYS = env.float("TRASH_DAYS", 30)

# API

# Size limits in bytes, of request bodies and of bulk bodies (MAX_BULK_BYTES).
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("MAX_BODY_BYTES", 2_000_000)
# The limit of a form's fields is high, because each entry of a permission list has two. The size limit holds too.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000
MAX_BULK_BYTES = env.int("MAX_BULK_BYTES", 8_000_000)
# The limits of one file, of the files of a run, and of the bytes of all files of an experiment (docs/files.md).
MAX_FILE_BYTES = env.int("MAX_FILE_BYTES", 25_000_000)
MAX_FILES = env.int("MAX_FILES", 20)
MAX_FILES_BYTES = env.int("MAX_FILES_BYTES", 5_000_000_000)
# The time limits of a search in MongoDB, in seconds. Anonymous callers never have more time than others.
SEARCH_TIME_LIMIT = env.float("SEARCH_TIME_LIMIT", 5.0)
SEARCH_TIME_LIMIT_ANONYMOUS = env.float("SEARCH_TIME_LIMIT_ANONYMOUS", 2.0)
# Limits per identity, per address without a token, and of logins per address and per account; "" for no limit.
RATE_LIMIT = env.str("RATE_LIMIT", "120000/minute")
RATE_LIMIT_ANONYMOUS = env.str("RATE_LIMIT_ANONYMOUS", "30000/minute")
RATE_LIMIT_LOGIN = env.str("RATE_LIMIT_LOGIN", "10/minute")
# The number of proxies that append to X-Forwarded-For. With 0 the header is ignored.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", 0)
# The proxies, by address or network, whose headers gunicorn itself reads (deploy/gunicorn.conf.py).
FORWARDED_ALLOW_IPS = env.str("FORWARDED_ALLOW_IPS", "")
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.BearerAuthentication",
        "accounts.sessions.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["core.api.permissions.RequiredLevels"],
    "DEFAULT_PARSER_CLASSES": ["core.api.json_input.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "core.api.responses.IgnoreClientContentNegotiation",
    "DEFAULT_SCHEMA_CLASS": "core.api.openapi.ResourceSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "core.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "UNAUTHENTICATED_TOKEN": "core.identity.Identity",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Drift Watch",
    "DESCRIPTION": "Stores, queries and manages the results of drift detection on machine-learning models. "
    "`/api/latest` is an alias of the newest version.",
    "VERSION": VERSION,
    "LICENSE": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SERVERS": [{"url": "/", "description": "This service"}],
    "PREPROCESSING_HOOKS": ["core.api.openapi.without_alias"],
    "SERVE_AUTHENTICATION": [],
    "TAGS": [
        {"name": "experiment", "description": "Named containers of drift runs, private or public."},
        {"name": "drift", "description": "Drift runs: the results that detectors report."},
        {"name": "file", "description": "Files on runs: reports, pictures and data."},
        {"name": "series", "description": "Runs that are repetitions of one check, with their verdicts."},
        {"name": "access", "description": "Levels on an experiment and the reasons for them, previews, and transfers."},
        {"name": "user", "description": "Registration, and the registered user of the token."},
        {"name": "entitlement", "description": "The groups and roles in the token."},
        {"name": "token", "description": "Access tokens, for pipelines and other programs."},
        {"name": "audit", "description": "The events of the audit trail: who changed what, and when."},
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": True, "displayRequestDuration": True},
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "JobStatus": "drifts.verdict.JobStatus",
        "Verdict": "drifts.verdict.Verdict",
        "Level": "core.identity.Level",
        "TokenState": "accounts.models.service_token.TokenState",
    },
}

# Serving

PORT = env.int("PORT", 8000)
WEB_CONCURRENCY = env.int("WEB_CONCURRENCY", len(os.sched_getaffinity(0)))
THREADS = env.int("THREADS", 64)
# Seconds. Proxies and load balancers commonly keep idle connections for 60 s, and must close them before the service.
KEEPALIVE = env.int("KEEPALIVE", 75)
# The seconds between SIGTERM and the end of serving, in which `/readyz` is red (driftwatch/draining.py).
DRAIN_SECONDS = env.float("DRAIN_SECONDS", 5.0 if PRODUCTION else 0.0)
PIN_WORKERS = env.bool("PIN_WORKERS", True)
# The addresses for operators and their views (driftwatch/operations.py).
OPERATIONS = {
    "/livez": "driftwatch.health.livez",
    "/readyz": "driftwatch.health.readyz",
    "/metrics": "driftwatch.metrics.metrics",
}
# Bearers of the token and these networks may read the metrics, besides this machine.
METRICS_TOKEN = env.str("METRICS_TOKEN", "")
METRICS_NETWORKS = items("METRICS_NETWORKS")
# The port of the metrics of `manage.py work`; 0 for none.
WORK_METRICS_PORT = env.int("WORK_METRICS_PORT", 0)
# Store sample data at the first start of `manage.py serve` in development.
SAMPLE_DATA = env.bool("SAMPLE_DATA", True)

# Browser safety. https://docs.djangoproject.com/en/5.2/topics/security/

CSRF_FAILURE_VIEW = "core.api.error_pages.form_expired"
# Lax, because the session must survive the redirect back from the provider.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
# In the session: the default storage makes a signer of its cookie for each request, also of the API.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", PRODUCTION)
SECURE_REDIRECT_EXEMPT = [f"^{path[1:]}$" for path in OPERATIONS]
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 31_536_000 if PRODUCTION else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_SECONDS > 0
# The header that a proxy sets for https requests. The proxy must remove it from incoming requests.
forwarded_by = env.str("SECURE_PROXY_SSL_HEADER", "").upper().replace("-", "_")
SECURE_PROXY_SSL_HEADER = (f"HTTP_{forwarded_by}", "https") if forwarded_by else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DEFAULT_HEADERS = {
    # Caches store no response (RFC 9111, section 5.2.2.5): nobody can return to a page after a logout, and no cache
    # holds private data or tokens. Static files and the OpenAPI document have a Cache-Control of their own.
    "Cache-Control": "no-store",
    # All content comes from this host, and none is inline. Swagger UI's style sheet has images in data: URLs.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
}

# Logs

LOG_LEVEL = one_of(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "LOG_LEVEL", env.str("LOG_LEVEL", "INFO").upper())
LOG_FORMAT = one_of(("console", "json"), "LOG_FORMAT", env.str("LOG_FORMAT", "json" if PRODUCTION else "console"))
# The share of the successful requests that the log has a line for, from 0 to 1. All others have one.
LOG_REQUEST_SHARE = env.float("LOG_REQUEST_SHARE", 1.0)
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "console": {
            "class": "driftwatch.logs.OneLineFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        },
        "json": {"()": "driftwatch.logs.JSONFormatter"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["context"],
        },
        # A logger without handlers would write to stderr.
        "nowhere": {"class": "logging.NullHandler"},
    },
    "filters": {
        "context": {"()": "driftwatch.logs.ContextFilter"},
        # Each request has its line (core/request_log.py), and each 503 another with its cause (core/api/errors.py).
        "faults": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: getattr(record, "status_code", None) == HTTPStatus.INTERNAL_SERVER_ERROR,
        },
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": ["stderr"], "propagate": False},
        "django.request": {"filters": ["faults"]},
        # A wrong Host header, which anyone can send, is refused and not worth a log entry.
        "django.security.DisallowedHost": {"handlers": ["nowhere"], "propagate": False},
    },
}
