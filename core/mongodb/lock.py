"""A lock in the database, for work that one process of all instances does at a time."""

import logging
import threading
import time
import uuid
from collections.abc import Iterator
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
    ended = threading.Event()
    renewal = threading.Thread(target=renew, args=(locks, name, owner, ended), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
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


def renew(locks: Collection[dict[str, Any]], name: str, owner: str, ended: threading.Event) -> None:
    while not ended.wait(RENEWAL_SECONDS):
        try:
            claim(locks, name, owner)
        except PyMongoError as error:
            log.warning("The lock %s cannot be renewed: %s", name, error)
