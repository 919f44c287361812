"""The service as in production, on this machine: gunicorn over a MongoDB on disk, and an OpenID provider."""

import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient

from benchmarks.floor import DATABASE, drift_runs
from core.mongodb.embedded import EmbeddedServer
from tests.live import LiveServer
from tests.provider import Provider
from tests.relying_party import CLIENT_ID, CLIENT_SECRET, LoginProvider

WORKERS = 2
YEAR_MILLISECONDS = 365 * 24 * 3600 * 1000
TOKEN_SECONDS = 7 * 24 * 3600


class OwnService:
    """A running service, its database, and a token of its provider."""

    def __init__(self, server: LiveServer, database: EmbeddedServer, provider: Provider) -> None:
        self.server = server
        self.url = server.api
        self.database = database
        self.mongodb = database.uri
        self.provider = provider
        self.token = self.token_of("benchmark")

    def token_of(self, subject: str) -> str:
        """A token that the service takes for some days."""
        return self.provider.token(subject, exp=int(time.time()) + TOKEN_SECONDS)

    def spread_over_a_year(self) -> None:
        """Give the runs random times in the last year. Clients cannot choose when a run was created.

        The whole collection is rewritten: after updates in place, the index would be slow for minutes.
        """
        ago = {"$floor": {"$multiply": [{"$rand": {}}, YEAR_MILLISECONDS]}}
        then = {"$dateSubtract": {"startDate": "$$NOW", "unit": "millisecond", "amount": {"$toLong": ago}}}
        with MongoClient[dict[str, Any]](self.mongodb, w="majority") as client:
            runs = drift_runs(client[DATABASE])
            observed = {"$set": {"observed_at": "$created_at"}}
            runs.aggregate([{"$set": {"created_at": then}}, observed, {"$out": runs.name}])

    def mongodb_version(self) -> str:
        with MongoClient[dict[str, Any]](self.mongodb) as client:
            return str(client.server_info()["version"])

    def memory(self) -> list[float]:
        """The resident memory of each worker, in MiB."""
        workers = psutil.Process(self.server.process.pid).children()
        return [round(worker.memory_info().rss / 2**20, 1) for worker in workers]


@contextmanager
def own_service(directory: Path, **environment: str) -> Iterator[OwnService]:
    """Start the service with its data below `directory`, and remove everything afterwards.

    `environment` adds settings or overrides them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as ending:
        data = ending.enter_context(tempfile.TemporaryDirectory(prefix="data-", dir=directory))
        mongodb = EmbeddedServer(Path(data))
        ending.callback(mongodb.stop)
        mongodb.start()
        provider = LoginProvider()
        ending.callback(provider.stop)
        production = {
            "DRIFTWATCH_ENV": "production",
            "MONGODB_URI": mongodb.uri,
            "MONGODB_NAME": DATABASE,
            "WEB_CONCURRENCY": str(WORKERS),
            "SECRET_KEY": secrets.token_urlsafe(48),
            "ALLOWED_HOSTS": "127.0.0.1",
            "SECURE_SSL_REDIRECT": "false",
            "OIDC_USER_ENTITLEMENTS": "[]",
            "OIDC_ISSUERS": json.dumps([{"issuer": provider.issuer, "audience": ["driftwatch"]}]),
            "OIDC_RP_ISSUER": provider.issuer,
            "OIDC_RP_CLIENT_ID": CLIENT_ID,
            "OIDC_RP_CLIENT_SECRET": CLIENT_SECRET,
            # Requests are counted, as in production, and never reach the limit.
            "RATE_LIMIT": "1000000000/minute",
            "RATE_LIMIT_LOGIN": "199/second",
        }
        server = LiveServer(**{**production, **environment})
        server.environment["GUNICORN_CMD_ARGS"] = f"--bind {server.url.removeprefix('http://')}"
        server.start()
        ending.callback(server.stop)
        yield OwnService(server, mongodb, provider)
