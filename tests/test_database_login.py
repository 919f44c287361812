"""MongoDB with authentication: the role that the service needs, and the sentences for a user without it."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from core.mongodb.base import DatabaseWrapper
from core.mongodb.embedded import mongod_path
from driftwatch.failures import sentence
from tests.ports import free_port

NAME, PASSWORD = "guarded", "hunter2"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a MongoDB in which the users `readWrite` and `read` have the roles of their names."""
    directory, address = tmp_path_factory.mktemp("guarded"), f"127.0.0.1:{free_port()}"
    server = start(directory, address)
    try:
        with MongoClient[Any](address) as client:
            client["admin"].command("createUser", "root", pwd=PASSWORD, roles=["root"])
        with MongoClient[Any](f"mongodb://root:{PASSWORD}@{address}") as client:
            for role in ("readWrite", "read"):
                client[NAME].command("createUser", role, pwd=PASSWORD, roles=[role])
        yield address
    finally:
        server.kill()
        server.wait()


def start(directory: Path, address: str) -> "subprocess.Popen[bytes]":
    port = address.partition(":")[2]
    options = ("--auth", "--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25")
    files = ("--dbpath", str(directory), "--logpath", str(directory / "mongod.log"))
    return subprocess.Popen([mongod_path(), "--port", port, *options, *files], stdout=subprocess.DEVNULL)


@contextmanager
def connected(uri: str) -> Iterator[DatabaseWrapper]:
    """Use this address in place of the tests' database."""
    usual = connections[DEFAULT_DB_ALIAS]
    settings = {**usual.settings_dict, "HOST": uri, "NAME": NAME}
    connections[DEFAULT_DB_ALIAS] = there = DatabaseWrapper(settings, DEFAULT_DB_ALIAS)
    # The class shares one client for each alias.
    there._connection_pools = {}
    try:
        yield there
    finally:
        there.close_pool()
        connections[DEFAULT_DB_ALIAS] = usual
        # A migration caches the content types of its database.
        ContentType.objects.clear_cache()


def expiring(indexes: Mapping[str, Any]) -> list[Any]:
    """The keys of the indexes by which MongoDB deletes documents."""
    return [index["key"] for index in indexes.values() if "expireAfterSeconds" in index]


def test_the_role_that_the_service_asks_for_is_enough_to_migrate(guarded: str) -> None:
    with connected(f"mongodb://readWrite:{PASSWORD}@{guarded}/{NAME}") as connection:
        call_command("migrate", verbosity=0)
        indexes = connection.database["django_session"].index_information()
    assert expiring(indexes) == [[("expire_date", 1)]]


def test_a_migration_that_was_interrupted_creates_the_index_that_it_has_dropped(guarded: str) -> None:
    migration = import_module("core.migrations.0004_session_expiry")
    with connected(f"mongodb://readWrite:{PASSWORD}@{guarded}/{NAME}") as connection:
        sessions = connection.database["django_session"]
        sessions.drop_indexes()
        for _ in range(2):
            migration.let_sessions_expire(apps, connection.schema_editor())
            assert expiring(sessions.index_information()) == [[("expire_date", 1)]]


def sentence_for(uri: str) -> str | None:
    """The sentence for a write that MongoDB refuses at this address."""
    with pytest.raises(OperationFailure) as raised, MongoClient[Any](uri) as client:
        client[NAME]["test"].insert_one({"_id": 1})
    return sentence(raised.value)


def test_a_missing_right_is_named_without_the_whole_command(guarded: str) -> None:
    assert sentence_for(f"mongodb://read:{PASSWORD}@{guarded}/{NAME}") == (
        "MongoDB does not give the user in MONGODB_URI the needed rights: "
        "not authorized on guarded to execute command insert. Give it the role readWrite."
    )


def test_an_address_without_a_user_is_explained(guarded: str) -> None:
    expected = "MongoDB requires a login. Set a user name and a password in MONGODB_URI."
    assert sentence_for(f"mongodb://{guarded}/{NAME}") == expected
