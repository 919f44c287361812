"""System checks that refuse malformed or unsafe settings at each start."""

import ipaddress
import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from accounts.fetching import is_safe_url
from core.api.rate_limits import rate_of
from core.capacity import RESERVED_THREADS
from experiments.run_rules import MAX_RETENTION_DAYS

# The members of an entry of OIDC_ISSUERS, with their types.
ISSUER_MEMBERS: dict[str, type | tuple[type, ...]] = {
    "issuer": str,
    "audience": (list, str),
    "entitlements": str,
    "email": str,
    "trust_email": bool,
    "object_keys": bool,
}
MAX_RENEWAL_SECONDS = 900
MAX_TRASH_DAYS = 36_500
# The shares of searches are one or more from here on (core/api/search_slots.py).
MIN_THREADS = 16
MOST_FILES = 1_000
TRACE_SAMPLERS = (
    "parentbased_traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "traceidratio",
    "always_on",
    "always_off",
)
# The options in an address of Redis, by its scheme.
CACHE_OPTIONS = {
    "redis": frozenset[str](),
    "rediss": frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}),
    "unix": frozenset({"db", "password"}),
}
ENVIRONMENTS = ("development", "production")
MIN_SECRET = 32
MIN_METRICS_TOKEN = 16
# The least number of different characters in a secret, and of different distances between neighbours.
MIN_VARIETY = 8
# Parts of secrets that stand in documentation and templates, without spaces and punctuation.
PLACEHOLDERS = (
    "djangoinsecure",
    "changeme",
    "changethis",
    "replaceme",
    "replacethis",
    "secretkey",
    "supersecret",
    "yoursecret",
    "password",
    "example",
)


@register
def check_settings(**options: Any) -> list[CheckMessage]:
    """Report problems of identities, limits and the database and, in production, of safety."""
    return [
        Error(problem, hint=hint, id=f"driftwatch.{identifier}")
        for identifier, problem, hint in [
            *identity_problems(),
            *limit_problems(),
            *keeping_problems(),
            *serving_problems(),
            *database_problems(),
            *cache_problems(),
            *proxy_problems(),
            *metrics_problems(),
            *(trace_problems() if settings.OTEL_EXPORTER_OTLP_ENDPOINT else []),
            *([*production_problems(), *secret_problems(), *trust_problems()] if settings.PRODUCTION else []),
        ]
    ]


@register
def check_entitlement_paths(**options: Any) -> list[CheckMessage]:
    """Warn of issuers whose users nobody can admit: entitlements are required, and no claim holds them."""
    if not settings.OIDC_USER_ENTITLEMENTS:
        return []
    paths = {entry["issuer"]: entry.get("entitlements") for entry in trusted_issuers()}
    issuers = [(name, '"entitlements" for it in OIDC_ISSUERS') for name, path in paths.items() if not path]
    login = settings.OIDC_RP_ISSUER
    if login and login not in paths and not settings.OIDC_RP_ENTITLEMENTS:
        issuers.append((login, "OIDC_RP_ENTITLEMENTS"))
    return [
        checks.Warning(
            f"OIDC_USER_ENTITLEMENTS is set, but no claim of {name} holds entitlements: its users are not admitted.",
            hint=f"Set {setting} to the path of the claim, such as realm_access/roles.",
            id="driftwatch.W001",
        )
        for name, setting in issuers
    ]


def trusted_issuers() -> list[dict[str, Any]]:
    """Return the valid entries of OIDC_ISSUERS."""
    return (
        [entry for entry in settings.OIDC_ISSUERS if is_issuer(entry)]
        if isinstance(settings.OIDC_ISSUERS, list)
        else []
    )


def identity_problems() -> Iterator[tuple[str, str, str]]:
    if settings.DRIFTWATCH_ENV not in ENVIRONMENTS:
        yield "E001", f"DRIFTWATCH_ENV is {settings.DRIFTWATCH_ENV!r}.", f"Set one of: {', '.join(ENVIRONMENTS)}."
    if not isinstance(settings.OIDC_ISSUERS, list) or not all(map(is_issuer, settings.OIDC_ISSUERS)):
        example = '[{"issuer": "https://…", "audience": ["…"], "entitlements": "realm_access/roles"}]'
        hint = (
            f"Set {example}. Only issuer is required: an https address. http is allowed for a provider on this "
            "machine only. Other members are trust_email and object_keys (true or false) and email, which needs "
            "trust_email. docs/providers.md describes them."
        )
        yield "E002", "OIDC_ISSUERS is not a valid list of trusted issuers.", hint
    if settings.OIDC_RP_ISSUER and not is_safe_url(settings.OIDC_RP_ISSUER):
        yield (
            "E004",
            "OIDC_RP_ISSUER is not an https address.",
            "Use https. http is allowed for a provider on this machine only.",
        )
    if settings.OIDC_RP_ISSUER and not (settings.OIDC_RP_CLIENT_ID and settings.OIDC_RP_CLIENT_SECRET):
        hint = "Register this service at the provider, and set OIDC_RP_CLIENT_ID and OIDC_RP_CLIENT_SECRET."
        yield "E005", "OIDC_RP_ISSUER is set without a client id and secret.", hint
    if not 0 < settings.SESSION_RENEWAL_SECONDS <= MAX_RENEWAL_SECONDS:
        hint = f"Set 1 to {MAX_RENEWAL_SECONDS} seconds. A session keeps a removed right for up to this time."
        yield "E006", f"SESSION_RENEWAL_SECONDS is {settings.SESSION_RENEWAL_SECONDS}.", hint
    if settings.TOKEN_OWNER_DAYS < 0:
        yield "E031", f"TOKEN_OWNER_DAYS is {settings.TOKEN_OWNER_DAYS}.", "Set a number of days, or 0 for no limit."
    for name in ("OIDC_USER_ENTITLEMENTS", "OIDC_ADMIN_ENTITLEMENTS"):
        if not is_list_of_texts(getattr(settings, name)):
            yield "E003", f"{name} is not a JSON list of strings.", 'For example ["urn:group:drift-watch"].'


def limit_problems() -> Iterator[tuple[str, str, str]]:
    for name in ("RATE_LIMIT", "RATE_LIMIT_ANONYMOUS", "RATE_LIMIT_LOGIN"):
        value = getattr(settings, name)
        try:
            rate = rate_of(value)
        except ValueError:
            hint = "Set a number per second, minute, hour or day, such as 600/minute, or an empty value for no limit."
            yield "E020", f"{name} is {value!r}, which is not a rate.", hint
            continue
        if name == "RATE_LIMIT_LOGIN" and rate and not rate.is_exact:
            hint = (
                "Set a number below 200, such as 10/minute. Logins are counted one by one, so that the limit on "
                "guessing passwords is exact."
            )
            yield "E023", f"RATE_LIMIT_LOGIN is {value!r}, which is too high.", hint
    if not 0 < settings.PORT < 65_536:
        yield "E024", f"PORT is {settings.PORT}.", "Set a number from 1 to 65535."
    if settings.TRUSTED_PROXIES < 0:
        yield "E021", "TRUSTED_PROXIES is negative.", "Set the number of proxies in front of the service, 0 or more."
    numbers = {
        "SEARCH_TIME_LIMIT": settings.SEARCH_TIME_LIMIT,
        "SEARCH_TIME_LIMIT_ANONYMOUS": settings.SEARCH_TIME_LIMIT_ANONYMOUS,
        "WEB_CONCURRENCY": settings.WEB_CONCURRENCY,
        "MAX_BODY_BYTES": settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
        "MAX_BULK_BYTES": settings.MAX_BULK_BYTES,
        "MAX_FILE_BYTES": settings.MAX_FILE_BYTES,
        "MAX_FILES_BYTES": settings.MAX_FILES_BYTES,
        "AUDIT_DAYS": settings.AUDIT_DAYS,
    }
    for name, number in numbers.items():
        if number <= 0:
            yield "E022", f"{name} is {number:g}.", "Set a number above 0."


def keeping_problems() -> Iterator[tuple[str, str, str]]:
    if not 0 <= settings.RETENTION_DAYS <= MAX_RETENTION_DAYS:
        yield "E028", f"RETENTION_DAYS is {settings.RETENTION_DAYS}.", f"Set 1 to {MAX_RETENTION_DAYS}, or 0 for none."
    if not 0 < settings.MAX_FILES <= MOST_FILES:
        hint = f"Set a number from 1 to {MOST_FILES}: the list of a run's files has no pages."
        yield "E040", f"MAX_FILES is {settings.MAX_FILES}.", hint
    if not 0 <= settings.TRASH_DAYS <= MAX_TRASH_DAYS:
        hint = f"Set a number of days up to {MAX_TRASH_DAYS:,}, or 0 to remove deleted experiments at once."
        yield "E051", f"TRASH_DAYS is {settings.TRASH_DAYS:g}.", hint


def serving_problems() -> Iterator[tuple[str, str, str]]:
    if settings.THREADS < MIN_THREADS:
        hint = f"Set {MIN_THREADS} or more. {RESERVED_THREADS} of them only answer health checks."
        yield "E026", f"THREADS is {settings.THREADS}.", hint
    if settings.KEEPALIVE < 0:
        hint = "Set more seconds than the proxy keeps idle connections, or 0 to close each after its response."
        yield "E027", f"KEEPALIVE is {settings.KEEPALIVE}.", hint
    if settings.DRAIN_SECONDS < 0:
        hint = "Set the seconds that balancers need to notice a red /readyz, or 0 to stop at once."
        yield "E035", f"DRAIN_SECONDS is {settings.DRAIN_SECONDS:g}.", hint


def database_problems() -> Iterator[tuple[str, str, str]]:
    problem = problem_of_address(settings.MONGODB_URI) if settings.MONGODB_URI else None
    if problem is not None:
        hint = "Set an address such as mongodb://host/?replicaSet=rs0, or an empty value for the embedded server."
        yield "E014", "MONGODB_URI is not an address of MongoDB.", f"{problem}{hint}"


def problem_of_address(address: str) -> str | None:
    """Return the problem of a connection string, or None. The text never has a part of its password.

    The driver parses the string, without a look-up of names. It ignores an option that it does not know, with a
    warning: a misspelt `tls` would be lost.
    """
    if not address.startswith(("mongodb://", "mongodb+srv://")):
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            # A compression that is not installed is left out, and no mistake.
            warnings.filterwarnings("ignore", ".*compression")
            MongoClient[Any](address, connect=False).close()
    except (PyMongoError, ValueError, OSError, UserWarning) as error:
        secrets = re.findall(r"\w+", address.partition("//")[2].rpartition("@")[0])
        shown = re.findall(r"\w+", str(error))
        return "" if set(secrets) & set(shown) else f"{str(error).rstrip('.')}. "
    return None


def cache_problems() -> Iterator[tuple[str, str, str]]:
    problem = problem_of_cache_address(settings.CACHE_URL) if settings.CACHE_URL else None
    if problem is not None:
        hint = (
            "Set an address such as redis://:password@host:6379/0, with rediss for TLS, or unix:///run/redis.sock, or "
            "an empty value for a cache in each process. Encode special characters of a password: %40 for @."
        )
        yield "E050", "CACHE_URL is not an address of Redis.", f"{problem}{hint}"


def problem_of_cache_address(address: str) -> str | None:
    """Return the problem of an address of Redis, or None. The text never has a part of its password.

    The driver would ignore some mistakes, and take time limits from the address.
    """
    try:
        parts = urlsplit(address)
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
        is_address = parts.port is None or parts.port > 0
    except ValueError:
        return ""
    if parts.scheme not in CACHE_OPTIONS:
        return ""
    is_address &= bool(parts.path if parts.scheme == "unix" else parts.hostname)
    database = options.get("db", [""])[0] if parts.scheme == "unix" else parts.path[1:]
    if not is_address or parts.fragment or not re.fullmatch(r"\d{0,4}", database, re.ASCII):
        return ""
    allowed = CACHE_OPTIONS[parts.scheme]
    if not options.keys() <= allowed:
        return f"Its options may be: {', '.join(sorted(allowed))}. " if allowed else "It takes no options. "
    return None


def proxy_problems() -> Iterator[tuple[str, str, str]]:
    header = settings.SECURE_PROXY_SSL_HEADER
    if header and not re.fullmatch(r"HTTP_[A-Z0-9_]+", header[0]):
        yield "E025", "SECURE_PROXY_SSL_HEADER is not the name of a header.", "Set a name such as X-Forwarded-Proto."


def metrics_problems() -> Iterator[tuple[str, str, str]]:
    if 0 < len(settings.METRICS_TOKEN) < MIN_METRICS_TOKEN or not settings.METRICS_TOKEN.isascii():
        hint = "Set a random string, such as that of openssl rand -hex 32, or an empty value for none."
        yield "E039", f"METRICS_TOKEN has fewer than {MIN_METRICS_TOKEN} characters, or others than ASCII.", hint
    for network in settings.METRICS_NETWORKS:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            yield "E036", f"METRICS_NETWORKS has {network!r}: {error}.", "Set networks such as 10.0.0.0/8,fd00::/8."
    if not 0 <= settings.WORK_METRICS_PORT < 65_536:
        yield "E037", f"WORK_METRICS_PORT is {settings.WORK_METRICS_PORT}.", "Set a number to 65535, or 0 for none."
    if not 0 <= settings.LOG_REQUEST_SHARE <= 1:
        yield "E038", f"LOG_REQUEST_SHARE is {settings.LOG_REQUEST_SHARE:g}.", "Set a number from 0 to 1."


def trace_problems() -> Iterator[tuple[str, str, str]]:
    """Report values that OpenTelemetry would replace by others, with one line in the log of each worker."""
    if not re.match("https?://[^/]", settings.OTEL_EXPORTER_OTLP_ENDPOINT):
        hint = "Set the address of a collector, such as http://localhost:4318."
        yield "E040", "OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https address.", hint
    if settings.OTEL_EXPORTER_OTLP_PROTOCOL != "http/protobuf":
        hint = "Set http/protobuf, and the address at which the collector takes it: port 4318 by default."
        yield "E041", f"OTEL_EXPORTER_OTLP_PROTOCOL is {settings.OTEL_EXPORTER_OTLP_PROTOCOL!r}.", hint
    if settings.OTEL_TRACES_SAMPLER not in TRACE_SAMPLERS:
        hint = f"Set one of: {', '.join(TRACE_SAMPLERS)}."
        yield "E042", f"OTEL_TRACES_SAMPLER is {settings.OTEL_TRACES_SAMPLER!r}.", hint
    if not re.fullmatch(r"0(\.\d*)?|1(\.0*)?|\.\d+", settings.OTEL_TRACES_SAMPLER_ARG):
        hint = "Set the share of requests to trace, from 0 to 1."
        yield "E043", f"OTEL_TRACES_SAMPLER_ARG is {settings.OTEL_TRACES_SAMPLER_ARG!r}.", hint


def production_problems() -> Iterator[tuple[str, str, str]]:
    for entry in trusted_issuers():
        if not entry.get("audience"):
            hint = (
                'Set "audience" to the names of this service in the issuer\'s tokens, such as ["drift-watch"]. '
                '"audience": "any" accepts the tokens that it issues for other services too.'
            )
            yield "E016", f"OIDC_ISSUERS trusts {entry['issuer']} without an audience.", hint
    if not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS:
        yield "E011", "ALLOWED_HOSTS is empty or holds the wildcard *.", "List the host names of the service."
    if settings.DEBUG:
        yield "E012", "DEBUG is on.", "Unset DEBUG."
    if not settings.MONGODB_URI:
        yield (
            "E013",
            "MONGODB_URI is not set. The embedded server is for development only.",
            "Set the address of a replica set.",
        )


def secret_problems() -> Iterator[tuple[str, str, str]]:
    if weakness := weakness_of(settings.SECRET_KEY):
        yield "E010", f"SECRET_KEY {weakness}.", "Set a random string, such as that of openssl rand -base64 48."
    if weaknesses := [*filter(None, map(weakness_of, settings.SECRET_KEY_FALLBACKS))]:
        yield (
            "E030",
            f"One of SECRET_KEY_FALLBACKS {weaknesses[0]}.",
            "Remove it: whoever guesses it can make tokens. Secrets are separated by commas.",
        )


def trust_problems() -> Iterator[tuple[str, str, str]]:
    for name in ("CSRF_TRUSTED_ORIGINS", "CORS_ALLOWED_ORIGINS"):
        if wild := [origin for origin in getattr(settings, name) if is_any_site(origin)]:
            hint = "List the origins of your own sites, such as https://drift.example.org."
            yield "E032", f"{name} has {wild[0]!r}, which stands for sites of anybody.", hint
    if not settings.RATE_LIMIT_LOGIN:
        hint = "Set a rate such as 10/minute, or unset it for this default."
        yield "E033", "RATE_LIMIT_LOGIN is empty, so that passwords can be guessed without a limit.", hint
    if settings.SECURE_PROXY_SSL_HEADER and not settings.TRUSTED_PROXIES:
        hint = "Set TRUSTED_PROXIES to the number of proxies in front, or unset SECURE_PROXY_SSL_HEADER."
        yield "E034", "SECURE_PROXY_SSL_HEADER trusts a proxy, but TRUSTED_PROXIES is 0.", hint


def weakness_of(secret: str) -> str | None:
    """Return why others may guess a secret, as a predicate, or None.

    A random secret has many different characters, at many distances from their neighbours.
    """
    letters = re.sub(r"[^a-z0-9]", "", secret.lower())
    steps = {ord(after) - ord(before) for before, after in itertools.pairwise(secret)}
    if len(secret) < MIN_SECRET:
        return f"is shorter than {MIN_SECRET} characters"
    if any(word in letters for word in PLACEHOLDERS):
        return "is a placeholder"
    if min(len(set(secret)), len(steps)) < MIN_VARIETY or secret in (secret + secret)[1:-1]:
        return "repeats a pattern"
    return None


def is_any_site(origin: str) -> bool:
    """Return whether an origin has a wildcard for more than the subdomains of one domain."""
    host = origin.rpartition("//")[2].partition(":")[0]
    return "*" in host and not re.fullmatch(r"\*(\.[^.*]+){2,}", host)


def is_issuer(entry: object) -> bool:
    """Return whether an entry of `OIDC_ISSUERS` is valid.

    Another claim than `email` needs `trust_email`, because `email_verified` says nothing about it.
    """
    if not isinstance(entry, dict) or not entry.keys() <= ISSUER_MEMBERS.keys():
        return False
    audience, email = entry.get("audience", "any"), entry.get("email", "email")
    return (
        all(isinstance(value, ISSUER_MEMBERS[name]) for name, value in entry.items())
        and is_safe_url(entry.get("issuer", ""))
        and (audience == "any" or is_list_of_texts(audience))
        and (email == "email" or (bool(email) and entry.get("trust_email", False)))
    )


def is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
