"""A replica set of three MongoDB servers on this machine, which tests kill, stop and start."""

import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from core.mongodb.embedded import mongod_path
from tests.ports import free_port

START_SECONDS = 60
NAME = "failover"
ALREADY_INITIALIZED = 23


@dataclass
class Member:
    """One `mongod` of the set."""

    directory: Path
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        options = ("--replSet", NAME, "--bind_ip", "127.0.0.1", "--nounixsocket", "--oplogSize", "256")
        files = ("--dbpath", str(self.directory), "--logpath", str(self.directory / "mongod.log"), "--logappend")
        command = [mongod_path(), "--port", str(self.port), *options, *files, "--wiredTigerCacheSizeGB", "0.5"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop the process without ending it: it holds its connections, and responds to nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> MongoClient[dict[str, Any]]:
        """Return a client of this member alone."""
        return MongoClient(
            self.address, directConnection=True, serverSelectionTimeoutMS=1_000, socketTimeoutMS=2_000, w=1
        )

    def hello(self) -> dict[str, Any]:
        """Return the member's state; an empty one if it does not respond."""
        try:
            with self.client() as client:
                return client.admin.command("hello")
        except PyMongoError:
            return {}


class ReplicaSet:
    """Three members, of which the first becomes the primary.

    A new primary is elected when the old one has not responded for `election_milliseconds`, by default MongoDB's own.
    """

    def __init__(self, directory: Path, election_milliseconds: int = 10_000) -> None:
        self.election_milliseconds = election_milliseconds
        self.members = [Member(directory / str(number)) for number in range(3)]

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(member.address for member in self.members)}/?replicaSet={NAME}"

    def start(self) -> Self:
        for member in self.members:
            member.start()
        configuration = [
            {"_id": number, "host": member.address, "priority": 2 if number == 0 else 1}
            for number, member in enumerate(self.members)
        ]
        deadline = time.monotonic() + START_SECONDS
        while not self._initiated(configuration):
            assert time.monotonic() < deadline, "the first member did not start"
            time.sleep(0.1)
        self.wait_for_primary()
        while len(self.secondaries()) < 2:
            assert time.monotonic() < deadline, "the secondaries did not start"
            time.sleep(0.1)
        return self

    def _initiated(self, configuration: list[dict[str, Any]]) -> bool:
        try:
            with self.members[0].client() as client:
                settings = {"electionTimeoutMillis": self.election_milliseconds}
                client.admin.command("replSetInitiate", {"_id": NAME, "members": configuration, "settings": settings})
        except OperationFailure as error:
            return error.code == ALREADY_INITIALIZED
        except PyMongoError:
            return False
        return True

    def stop(self) -> None:
        for member in self.members:
            member.thaw()
            member.kill()

    def primary(self) -> Member | None:
        """Return the member that is primary now, or None."""
        return next((member for member in self.members if member.hello().get("isWritablePrimary")), None)

    def secondaries(self) -> list[Member]:
        return [member for member in self.members if member.hello().get("secondary")]

    def wait_for_primary(self) -> Member:
        deadline = time.monotonic() + START_SECONDS
        while (primary := self.primary()) is None:
            assert time.monotonic() < deadline, "no member became primary"
            time.sleep(0.1)
        return primary

    def wait_for_majority(self) -> float:
        """Wait until the majority acknowledges a write, and return the time of that by the monotonic clock."""
        with MongoClient[dict[str, Any]](self.uri, w="majority", timeoutMS=1_000, heartbeatFrequencyMS=500) as client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    client["majority"]["writes"].insert_one({})
                except PyMongoError:
                    assert time.monotonic() < deadline, "no majority acknowledges writes"
                else:
                    return time.monotonic()
