"""The service as it runs in production: gunicorn workers, over HTTP."""

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import requests
from pymongo import IndexModel, MongoClient
from pymongo.database import Database

from tests.ports import free_port

START_SECONDS = 60
# The indexes, documents and options of each collection, as a migration of an empty database leaves them.
MIGRATED: dict[str, tuple[list[IndexModel], list[dict[str, Any]], dict[str, Any]]] = {}
GUNICORN = ["-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "driftwatch.wsgi"]
ROOT = Path(__file__).resolve().parent.parent


def gunicorn_configuration() -> dict[str, Any]:
    """The settings of gunicorn. The variable that they set, for its processes, does not stay in this process."""
    with patch.dict(os.environ):
        configuration = runpy.run_path(str(ROOT / "deploy" / "gunicorn.conf.py"))
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    return configuration


class LiveServer:
    """gunicorn over one database. `environment` adds settings or overrides them."""

    def __init__(self, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.api = f"{self.url}/api/v1"
        self.log = Path(tempfile.mkstemp(suffix=".log")[1])
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "driftwatch.settings",
            "PORT": str(port),
            "WEB_CONCURRENCY": "2",
            **environment,
        }

    def start(self) -> None:
        self.migrate()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *GUNICORN],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not (self.has_all_workers() and self.responds()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                problem = self.log.read_text()
                self.stop()
                raise RuntimeError(f"gunicorn did not start:\n{problem}")
            time.sleep(0.1)

    def migrate(self) -> None:
        """Migrate the database. An empty one becomes a copy of the first one, because a migration takes two seconds."""
        with MongoClient[Any](self.environment["MONGODB_URI"]) as client:
            database = client[self.environment["MONGODB_NAME"]]
            is_empty = not database.list_collection_names()
            if is_empty and MIGRATED:
                copy_migrated_to(database)
                return
            self.manage("migrate", "--verbosity=0")
            if is_empty:
                remember_migrated(database)

    def has_all_workers(self) -> bool:
        """Return whether gunicorn has forked its workers. The first one serves already while the others are forked."""
        return len(psutil.Process(self.process.pid).children()) == int(self.environment["WEB_CONCURRENCY"])

    def responds(self) -> bool:
        try:
            return requests.get(f"{self.url}/livez", timeout=2).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.unlink()
        with MongoClient[Any](self.environment["MONGODB_URI"]) as client:
            client.drop_database(self.environment["MONGODB_NAME"])

    def manage(self, *arguments: str, **settings: str) -> str:
        """Run a management command against the same database, with these settings besides; return what it prints."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment | settings,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()


def remember_migrated(database: Database[Any]) -> None:
    for collection in database.list_collections():
        name = collection["name"]
        indexes = [
            IndexModel(list(index.pop("key").items()), **{key: index[key] for key in index.keys() - {"v", "ns"}})
            for index in database[name].list_indexes()
            if index["name"] != "_id_"
        ]
        MIGRATED[name] = (indexes, list(database[name].find()), collection["options"])


def copy_migrated_to(database: Database[Any]) -> None:
    for name, (indexes, documents, options) in MIGRATED.items():
        collection = database.create_collection(name, **options)
        if indexes:
            collection.create_indexes(indexes)
        if documents:
            collection.insert_many(documents)
