"""MongoDB: its version, its replica set, its clock and its disk."""

import shutil
import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from pymongo.errors import OperationFailure
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TOPOLOGY_TYPE

from core import timestamps
from core.mongodb.documents import Document, mongodb
from driftwatch import health
from driftwatch.doctor.finding import Finding, State, size

MIN_VERSION = (6, 0)
# MongoDB's error code for a command that the role of the user does not allow.
UNAUTHORIZED = 13
# The driver asks all members at once. One that is away takes the time of a connection.
MEMBERS_SECONDS = 2.5
MAX_LAG_SECONDS = 10
# The share of a disk that is free.
LITTLE, VERY_LITTLE = 0.15, 0.05
NEEDS_ROLE = "Give the user in MONGODB_URI the role clusterMonitor to see it."


def server() -> Iterator[Finding]:
    """Return the version of MongoDB, and the one whose features and files it keeps to."""
    build = mongodb().database.command("buildInfo")
    is_old = tuple(build["versionArray"][:2]) < MIN_VERSION
    state, advice = (State.PROBLEM, "Upgrade it to 6.0 or newer.") if is_old else (State.OK, "")
    yield Finding("version", state, build["version"], advice)
    yield feature_compatibility()


def feature_compatibility() -> Finding:
    name = "feature compatibility"
    try:
        stored = admin("getParameter", featureCompatibilityVersion=1)["featureCompatibilityVersion"]["version"]
    except OperationFailure as error:
        return unseen(name, error)
    if tuple(map(int, stored.split("."))) < MIN_VERSION:
        return Finding(name, State.WARNING, stored, "Set it to 6.0 or newer: setFeatureCompatibilityVersion.")
    return Finding(name, State.OK, stored)


def replica_set(hello: Document) -> Iterator[Finding]:
    """Return the members of the replica set as the driver sees them, which takes no role, and the oplog's window."""
    if hello.get("msg") == "isdbgrid":
        yield Finding("sharded cluster", State.OK, "its shards are not examined")
        return
    if problem := health.replica_set_problem(hello):
        yield Finding("replica set", State.PROBLEM, problem)
    if "setName" not in hello:
        return
    yield from members()
    yield majority(hello, known_members())
    yield oplog()


def members() -> Iterator[Finding]:
    """Return what the driver knows of each member, also without a primary."""
    found = known_members()
    yield from map(member, found, [found] * len(found))


def known_members() -> list[ServerDescription]:
    """Return the members once the driver has a response or an error of each."""
    client = mongodb().database.client
    deadline = time.monotonic() + MEMBERS_SECONDS
    while True:
        found = client.topology_description.server_descriptions()
        if all(each.is_server_type_known or each.error for each in found.values()) or time.monotonic() > deadline:
            return [found[address] for address in sorted(found)]
        time.sleep(0.05)


def member(one: ServerDescription, members: list[ServerDescription]) -> Finding:
    name = one.address[0] if one.address[1] is None else f"{one.address[0]}:{one.address[1]}"
    if not one.is_server_type_known:
        reason = str(one.error).partition(" (configured timeouts")[0] if one.error else "no response"
        return Finding(name, State.WARNING, f"not reachable: {reason}", "Start it, or mend the network.")
    kind = one.server_type_name.removeprefix("RS").lower()
    primary = next((each for each in members if each.server_type_name == "RSPrimary"), None)
    if kind != "secondary" or not (primary and primary.last_write_date and one.last_write_date):
        state = State.OK if kind in {"primary", "secondary", "arbiter"} else State.WARNING
        return Finding(name, state, kind)
    lag = max(primary.last_write_date - one.last_write_date, 0)
    if lag > MAX_LAG_SECONDS:
        return Finding(
            name, State.WARNING, f"{kind}, {lag:.0f} s behind", "Look at its load, its disk and its network."
        )
    return Finding(name, State.OK, f"{kind}, {lag:.0f} s behind")


def majority(hello: Document, members: list[ServerDescription]) -> Finding:
    """Return whether enough members with data respond to acknowledge writes."""
    name, number = "majority", len(hello.get("hosts", [])) + len(hello.get("arbiters", []))
    if mongodb().database.client.topology_description.topology_type == TOPOLOGY_TYPE.Single and number > 1:
        advice = "Name several members and replicaSet in MONGODB_URI, without directConnection."
        return Finding(name, State.WARNING, f"connected to one of {number} members only", advice)
    responding = sum(each.server_type_name in {"RSPrimary", "RSSecondary"} for each in members)
    needed = number // 2 + 1
    text = f"members that respond: {responding} of {number}; writes need {needed}"
    if responding < needed:
        return Finding(name, State.PROBLEM, text, "Start the others: writes are not confirmed until then.")
    if number == 1 and settings.PRODUCTION:
        return Finding(name, State.WARNING, text, "Add two members: nothing replaces the only one when it fails.")
    return Finding(name, State.OK, text)


def oplog() -> Finding:
    """Return the time that the oplog spans: a member that is away longer must copy all data again."""
    name = "oplog"
    try:
        span = admin("serverStatus", oplog=1)["oplog"]
    except OperationFailure as error:
        return unseen(name, error)
    hours = (span["latestOptime"].time - span["earliestOptime"].time) / 3600
    return Finding(name, State.OK, f"spans {hours:,.1f} hours")


def clock() -> Iterator[Finding]:
    asked_at = timestamps.now()
    hello = mongodb().database.command("hello")
    difference = health.clock_difference(hello, asked_at, timestamps.now())
    if problem := health.clock_problem(difference):
        yield Finding("clock", State.PROBLEM, problem, "Set the clocks of all machines by NTP.")
    else:
        yield Finding(
            "clock", State.OK, f"differs from the database's by {abs(difference).total_seconds() * 1000:.0f} ms"
        )


def disk() -> Iterator[Finding]:
    """Return the free space of MongoDB's disk, and in development of `VAR_DIR`."""
    stats = mongodb().database.command("dbStats")
    yield Finding("data", State.OK, f"{size(stats['dataSize'])}, with {size(stats['indexSize'])} of indexes")
    # A server that keeps its files elsewhere does not know its disk.
    if total := stats.get("fsTotalSize"):
        yield space("disk of MongoDB", total - stats["fsUsedSize"], total)


def local_disk() -> Iterator[Finding]:
    usage = shutil.disk_usage(settings.VAR_DIR)
    yield space("disk of VAR_DIR", usage.free, usage.total)


def space(name: str, free: float, total: float) -> Finding:
    text = f"{size(free)} of {size(total)} are free"
    if free < LITTLE * total:
        state = State.PROBLEM if free < VERY_LITTLE * total else State.WARNING
        return Finding(name, state, text, "Free space there: MongoDB stops when the disk is full.")
    return Finding(name, State.OK, text)


def admin(command: str, **options: Any) -> Document:
    return mongodb().database.client.admin.command({command: 1, **options})


def unseen(name: str, error: OperationFailure) -> Finding:
    """Return the finding for something that MongoDB does not show to this user."""
    if error.code == UNAUTHORIZED:
        return Finding(name, State.UNKNOWN, "not allowed to see", NEEDS_ROLE)
    return Finding(name, State.UNKNOWN, str((error.details or {}).get("errmsg", error)))
