"""The report of `manage.py doctor`: the first look of an operator when something is wrong. It changes nothing."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pymongo
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from core.mongodb.documents import Document, mongodb
from core.mongodb.embedded import EmbeddedServer
from core.mongodb.errors import database_cause, is_database_unavailable
from driftwatch.checks import problem_of_address
from driftwatch.doctor import cache, configuration, database, stored
from driftwatch.doctor.finding import Finding, State
from driftwatch.failures import reason_of, sentence

# Seconds until a database that does not respond is given up, and for the work of one section.
CONNECT_SECONDS = 4.0
SECTION_SECONDS = 15.0
Section: TypeAlias = tuple[str, list[Finding]]
# The sections that ask the database. Its response to the command `hello` is their argument.
ASKED: dict[str, Callable[[Document], Iterator[Finding]]] = {
    "MongoDB": lambda hello: database.server(),
    "Replica set": database.replica_set,
    "Clock": lambda hello: database.clock(),
    "Disk of MongoDB": lambda hello: database.disk(),
    "Migrations": lambda hello: stored.migrations(),
    "Collections": lambda hello: stored.all_collections(),
    "Background tasks": stored.background_tasks,
}


def examine() -> Iterator[Section]:
    """Return the title and the findings of each section.

    While the database is away, those that ask it are left out, but for the members of the replica set.
    """
    yield "Versions", [*configuration.versions()]
    yield "Settings", [*configuration.settings_in_force()]
    yield "Checks of settings", [*configuration.checked_settings()]
    if not settings.PRODUCTION:
        yield "Disk", [*database.local_disk()]
    yield "Cache", [cache.server()]
    try:
        hello = greeting()
    except (DatabaseError, PyMongoError, ImproperlyConfigured) as error:
        yield "MongoDB", [failure(error)]
        if is_database_unavailable(error):
            yield "Replica set", [*database.members()]
        return
    for title, section in ASKED.items():
        findings: list[Finding] = []
        try:
            with pymongo.timeout(SECTION_SECONDS):
                # One after the other, so that those before an error are kept.
                for finding in section(hello):
                    findings.append(finding)  # noqa: PERF402
        except (DatabaseError, PyMongoError) as error:
            yield title, [*findings, failure(error)]
            if is_database_unavailable(error):
                return
        else:
            yield title, findings


def greeting() -> Document:
    """Return the response of the database to `hello`. Raises `ImproperlyConfigured`, or errors of the database."""
    with pymongo.timeout(CONNECT_SECONDS):
        if not settings.MONGODB_URI:
            find_embedded_server()
        elif problem_of_address(settings.MONGODB_URI) is not None:
            # The driver's own message may have a part of the password.
            raise ImproperlyConfigured("MONGODB_URI is not an address of MongoDB.")
        return mongodb().database.command("hello")


def find_embedded_server() -> None:
    """Require that the embedded server responds: a connection would start it. Raises `ImproperlyConfigured`."""
    with MongoClient[Document](EmbeddedServer(settings.VAR_DIR / "mongodb").uri) as client:
        try:
            client.admin.command("hello")
        except PyMongoError as error:
            reason = reason_of(error)
            raise ImproperlyConfigured(
                f"The embedded MongoDB does not respond ({reason}). Start the service."
            ) from error


def failure(error: Exception) -> Finding:
    text = sentence(error) or str(database_cause(error) or error)
    return Finding("database", State.PROBLEM, text)
