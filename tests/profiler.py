"""The commands that reach MongoDB, from its profiler."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db.models import Model

from core.mongodb.documents import mongodb


@contextmanager
def commands() -> Iterator[list[dict[str, Any]]]:
    """Collect the commands that reach this database within the block. The list is filled when the block ends."""
    database = mongodb().database
    entries: list[dict[str, Any]] = []
    database.command("profile", 2)
    try:
        yield entries
    finally:
        database.command("profile", 0)
        entries += database["system.profile"].find({"ns": {"$not": {"$regex": "system.profile$"}}})
        database["system.profile"].drop()


@dataclass
class Read:
    """A query. `stages` are the stages of an aggregation. `compares_plans` is True if MongoDB has tried several."""

    stages: list[str]
    plan: str
    keys: int
    documents: int
    returned: int
    sorts_in_memory: bool
    compares_plans: bool


@contextmanager
def reads_of(model: type[Model]) -> Iterator[list[Read]]:
    """Collect the successful queries of a model within the block. The list is filled when the block ends."""
    reads: list[Read] = []
    with commands() as entries:
        yield reads
    table = model._meta.db_table
    reads += [
        Read(
            stages=[name for stage in entry["command"].get("pipeline", ()) for name in stage],
            plan=entry["planSummary"],
            keys=entry["keysExamined"],
            documents=entry["docsExamined"],
            returned=entry["nreturned"],
            sorts_in_memory=entry.get("hasSortStage", False),
            compares_plans=entry.get("fromMultiPlanner", False),
        )
        for entry in entries
        if table in (entry["command"].get("aggregate"), entry["command"].get("find")) and "errCode" not in entry
    ]
