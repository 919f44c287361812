"""What MongoDB is asked for, as its own profiler tells."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from driftwatch.mongodb.base import mongodb


@contextmanager
def commands() -> Iterator[list[dict[str, Any]]]:
    """The operations that reach this database while the block runs, in a list that is filled when it ends."""
    database = mongodb().database
    entries: list[dict[str, Any]] = []
    database.command("profile", 2)
    try:
        yield entries
    finally:
        database.command("profile", 0)
        entries += database["system.profile"].find({"ns": {"$not": {"$regex": "system.profile$"}}})
        database["system.profile"].drop()
