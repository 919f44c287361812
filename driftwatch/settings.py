"""All settings, from environment variables; a `_FILE` suffix reads the value from a file.

The README has the table. `driftwatch/checks.py` refuses what is malformed or unsafe.
"""

import datetime
from pathlib import Path

from corsheaders.defaults import default_headers
from django.core.management.utils import get_random_secret_key
from environs import FileAwareEnv

env = FileAwareEnv(strip_whitespace=True)

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = env.path("VAR_DIR", BASE_DIR / "var")

# Environment

DRIFTWATCH_ENV = env.str("DRIFTWATCH_ENV", "development")
PRODUCTION = DRIFTWATCH_ENV == "production"
DEBUG = env.bool("DEBUG", False)


def development_secret() -> str:
    """The secret of this checkout, made on first use, so that sessions and tokens outlive a restart."""
    file = VAR_DIR / "secret_key"
    VAR_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(get_random_secret_key())
    return file.read_text()


SECRET_KEY = env.str("SECRET_KEY") if PRODUCTION else env.str("SECRET_KEY", "") or development_secret()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
CORS_ALLOWED_ORIGINS: list[str] = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_ALLOW_HEADERS = [*default_headers]
CORS_EXPOSE_HEADERS = ["X-Pagination", "WWW-Authenticate", "Retry-After"]

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
    "driftwatch.apps.DriftWatchConfig",
    "accounts",
    "audit",
    "experiments",
    "drifts",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "driftwatch.api.errors.DatabaseAwayMiddleware",
    "audit.source.SourceMiddleware",
]
ROOT_URLCONF = "driftwatch.urls"
WSGI_APPLICATION = "driftwatch.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False

# Static files are served from the packages they come in: there is no step before a start.
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

# Database. An empty MONGODB_URI starts the embedded server (driftwatch/mongodb/embedded.py).

MONGODB_URI = env.str("MONGODB_URI", "")
DATABASES = {
    "default": {
        "ENGINE": "driftwatch.mongodb",
        "HOST": MONGODB_URI,
        "NAME": env.str("MONGODB_NAME", "driftwatch"),
        "OPTIONS": {
            "appname": "driftwatch",
            "retryWrites": True,
            "serverSelectionTimeoutMS": 2_000,
            "connectTimeoutMS": 2_000,
            "w": "majority",
        },
    }
}
DEFAULT_AUTO_FIELD = "django_mongodb_backend.fields.ObjectIdAutoField"
# The backend's ids are not the integers that these apps' own migrations make.
MIGRATION_MODULES = {name: f"driftwatch.migrations.{name}" for name in ("admin", "auth", "contenttypes")}

# Identities

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.LocalAccountBackend"]
# A subject is unique at its issuer only; password login looks among local accounts, where it is unique.
SILENCED_SYSTEM_CHECKS = ["auth.W004"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
OIDC_ISSUERS = env.json("OIDC_ISSUERS", [])
OIDC_USER_ENTITLEMENTS = env.json("OIDC_USER_ENTITLEMENTS", [])
OIDC_ADMIN_ENTITLEMENTS = env.json("OIDC_ADMIN_ENTITLEMENTS", [])
# Seconds: an answer from an issuer, the life of its keys here, and the least time between two fetches.
OIDC_TIMEOUT = 3.0
OIDC_KEYS_LIFETIME = 3600.0
OIDC_REFETCH_INTERVAL = env.float("OIDC_REFETCH_INTERVAL", 30.0)
LOCAL_ISSUER = "driftwatch"
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "ISSUER": LOCAL_ISSUER,
    "ACCESS_TOKEN_LIFETIME": datetime.timedelta(days=30),
    "USER_ID_CLAIM": "user_id",
}

# Audit trail

AUDIT_DAYS = env.float("AUDIT_DAYS", 365)
# How many proxies stand in front and add to X-Forwarded-For; with none, the header is anybody's word.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", 0)

# API

# Bytes of a request body.
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("MAX_BODY_BYTES", 2_000_000)
# Seconds that MongoDB may spend on one search.
SEARCH_TIME_LIMIT = env.float("SEARCH_TIME_LIMIT", 5.0)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["experiments.permissions.AccessRule"],
    "DEFAULT_PARSER_CLASSES": ["driftwatch.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "driftwatch.api.openapi.ResourceSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "driftwatch.api.errors.answer",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "UNAUTHENTICATED_TOKEN": "accounts.identity.Identity",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Drift Watch",
    "DESCRIPTION": "Stores, queries and manages the results of drift detection on machine-learning models. "
    "`/api/latest` is an alias of the newest version.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "PREPROCESSING_HOOKS": ["driftwatch.api.openapi.without_alias"],
    "SERVE_AUTHENTICATION": [],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": True, "displayRequestDuration": True},
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "JobStatus": "drifts.verdict.JobStatus",
        "Verdict": "drifts.verdict.Verdict",
        "Level": "experiments.models.Level",
    },
}

# Serving

PORT = env.int("PORT", 8000)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "console": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "{asctime}{levelname}{name}{message}",
            "style": "{",
        },
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": env.str("LOG_FORMAT", "json" if PRODUCTION else "console"),
        },
    },
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO").upper()},
    "loggers": {"django": {"handlers": ["stderr"], "propagate": False}},
}
