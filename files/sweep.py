"""The removal of what no run has: files of deleted runs, and contents that no file names.

An upload that is killed leaves a content without a file; so does a deletion that is killed, or whose database failed.
Each pass goes through one collection in the order of its ids, in batches, and keeps its place in the database. Every
step may be repeated, so any number of processes may sweep at once.

A program that copies these collections writes the runs first, then the files, then the documents of GridFS, then the
bytes: otherwise a sweep in between removes the copies.
"""

import datetime
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import pymongo
from pymongo import ASCENDING
from pymongo.collection import Collection

from core import timestamps
from core.background import ShouldStop
from core.mongodb.documents import WORK_SECONDS, Document, collection_of, mongodb
from drifts.batches import Stopped, persistent, unhurried
from drifts.models import Drift
from files.contents import chunks, delete_content, files
from files.models import RunFile

logger = logging.getLogger(__name__)
# Contents that are younger may be uploads that go on. An upload takes a few minutes at most.
MIN_AGE = datetime.timedelta(hours=1)
BATCH_SIZE = 500
# Each takes a query of its own.
CHUNKED_AT_ONCE = 100


def sweep_files(should_stop: ShouldStop) -> None:
    """Make each pass from its place to the end, unless asked to stop."""
    with suppress(Stopped):
        for name, batch in PASSES.items():
            after = persistent(partial(place_of, name), should_stop)
            while not should_stop():
                with unhurried():
                    after = persistent(partial(batch, after), should_stop)
                    persistent(partial(keep_place, name, after), should_stop)
                if not after:
                    break


def sweep_records(after: str) -> str:
    """Remove the files of deleted runs among the next ones. Return the last id, or an empty one at the end."""
    with pymongo.timeout(WORK_SECONDS):
        found = next_of(collection_of(RunFile), {"$gt": after}, "experiment_id", "drift_id")
        experiments, runs = ({record[name] for record in found} for name in ("experiment_id", "drift_id"))
        named = {"experiment_id": {"$in": [*experiments]}, "_id": {"$in": [*runs]}}
        stored = {run["_id"] for run in collection_of(Drift).find(named, {"_id": 1})}
        lost = [record["_id"] for record in found if record["drift_id"] not in stored]
        if lost:
            collection_of(RunFile).delete_many({"_id": {"$in": lost}})
            logger.info("Files of deleted runs removed: %s.", f"{len(lost):,}")
    return end_of([record["_id"] for record in found], BATCH_SIZE)


def sweep_contents(after: str) -> str:
    """Remove the contents without a file among the next ones. Return the same."""
    with pymongo.timeout(WORK_SECONDS):
        ids = [content["_id"] for content in next_of(files(), {"$gt": after, "$lt": youngest()})]
        remove(ids, named_in(collection_of(RunFile), ids))
    return end_of(ids, BATCH_SIZE)


def sweep_chunks(after: str) -> str:
    """Remove the bytes without a document of GridFS among the next ones. Return the same.

    Uploads here leave none, but other writers of GridFS do.
    """
    with pymongo.timeout(WORK_SECONDS):
        ids: list[str] = []
        while len(ids) < CHUNKED_AT_ONCE and (content := next_with_chunks(ids[-1] if ids else after)):
            ids.append(content)
        remove(ids, named_in(files(), ids))
    return end_of(ids, CHUNKED_AT_ONCE)


PASSES: dict[str, Callable[[str], str]] = {
    "records": sweep_records,
    "contents": sweep_contents,
    "chunks": sweep_chunks,
}


def next_of(collection: Collection[Document], ids: Document, *fields: str) -> list[Document]:
    """Return the next documents with such ids."""
    found = collection.find({"_id": ids}, dict.fromkeys(("_id", *fields), 1))
    return list(found.sort("_id", ASCENDING).limit(BATCH_SIZE))


def next_with_chunks(after: str) -> str | None:
    """Return the id of the next content that has bytes, or None. Reads one key of the index."""
    found = chunks().find_one(
        {"files_id": {"$gt": after, "$lt": youngest()}},
        {"_id": 0, "files_id": 1},
        sort=[("files_id", ASCENDING), ("n", ASCENDING)],
    )
    return None if found is None else str(found["files_id"])


def named_in(collection: Collection[Document], ids: list[str]) -> set[str]:
    return {document["_id"] for document in collection.find({"_id": {"$in": ids}}, {"_id": 1})}


def remove(ids: Iterable[str], named: set[str]) -> None:
    """Remove the contents with these ids, but for those that are named."""
    for content in ids:
        if content not in named:
            delete_content(content)
            logger.info("Content %s removed: no file has it.", content)


def end_of(ids: list[str], limit: int) -> str:
    """Return the last id of a full batch, and an empty one at the end."""
    return ids[-1] if len(ids) == limit else ""


def youngest() -> str:
    """Return the id that separates older contents from younger ones: ids begin with their time (RFC 9562)."""
    return f"{round((timestamps.now() - MIN_AGE).timestamp() * 1000):012x}"


def place_of(name: str) -> str:
    found = places().find_one({"_id": name})
    return str(found["after"]) if found else ""


def keep_place(name: str, after: str) -> None:
    places().update_one({"_id": name}, {"$set": {"after": after}}, upsert=True)


def places() -> Collection[Document]:
    return mongodb().database["files_sweep"]
