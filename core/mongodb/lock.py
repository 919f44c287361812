"""A lock in the database, for work that one process of all instances does at a time, and the renewal of leases."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError

from core.mongodb.documents import mongodb

log = logging.getLogger(__name__)

COLLECTION = "driftwatch_lock"
# A process that was killed holds the lock until its lease ends.
LEASE_SECONDS = 30
RENEWAL_SECONDS = 5
TRIAL_SECONDS = 0.2


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Run the block while no other process runs a block of this name. Others wait until it ends.

    The lock works in a database without collections, before the first migration.
    """
    locks: Collection[dict[str, Any]] = mongodb().database[COLLECTION]
    owner = uuid.uuid4().hex
    if not claim(locks, name, owner):
        log.info("Waiting for another process that runs the same command (%s).", name)
        while not claim(locks, name, owner):
            time.sleep(TRIAL_SECONDS)
    try:
        with renewed(name, lambda: claim(locks, name, owner)):
            yield
    finally:
        locks.delete_one({"_id": name, "owner": owner})


def claim(locks: Collection[dict[str, Any]], name: str, owner: str) -> bool:
    """Take or renew the lock, and return whether the owner holds it now. Its lease counts by the database's clock."""
    locks.delete_one({"_id": name, "$expr": {"$lte": ["$expires_at", "$$NOW"]}})
    lease = {"owner": owner, "expires_at": {"$add": ["$$NOW", LEASE_SECONDS * 1000]}}
    try:
        locks.update_one({"_id": name, "owner": owner}, [{"$set": lease}], upsert=True)
    except DuplicateKeyError:
        return False
    return True


@contextmanager
def renewed(name: str, renew: Callable[[], bool], lease_seconds: float = LEASE_SECONDS) -> Iterator[threading.Event]:
    """Renew a lease in a thread while the block runs. `renew` returns whether the owner still holds it.

    The event is set once the lease may have ended: then another process may have claimed it.
    """
    ended, lost = threading.Event(), threading.Event()
    renewal = threading.Thread(target=keep_renewing, args=(name, renew, lease_seconds, ended, lost), daemon=True)
    renewal.start()
    try:
        yield lost
    finally:
        ended.set()
        renewal.join()


def keep_renewing(
    name: str, renew: Callable[[], bool], lease_seconds: float, ended: threading.Event, lost: threading.Event
) -> None:
    ends_at = time.monotonic() + lease_seconds
    is_reported = False
    while not ended.wait(min(RENEWAL_SECONDS, lease_seconds / 6)):
        began_at = time.monotonic()
        try:
            is_held = renew()
        except PyMongoError as error:
            if not is_reported:
                log.warning("The lease of %s cannot be renewed: %s", name, error)
            is_reported = True
            is_held = time.monotonic() < ends_at
        else:
            ends_at = began_at + lease_seconds
            is_reported = False
        if not is_held:
            lost.set()
