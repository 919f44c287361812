"""The export of a service, or of one experiment, to a directory. docs/transfer.md describes it."""

import fcntl
import gzip
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from bson import json_util
from bson.raw_bson import RawBSONDocument
from django.conf import settings
from django.db.migrations.recorder import MigrationRecorder
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.mongodb.documents import RAW, mongodb
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.mongodb.querysets import both
from experiments.models import Experiment
from transfer.accounts import accounts_named_in, without_rights
from transfer.canonical import CANONICAL, line_of
from transfer.collections import EXPERIMENTS, EXPORTED, RUN_FILES, TRASH, USERS
from transfer.manifest import FILE, Manifest, Part, Refusal, flush_names, sha256_of

# The most documents and bytes of BSON in a part: an interrupted export repeats no more.
PART_DOCUMENTS = 50_000
PART_BYTES = 64 * 1024**2
# Level 6 takes almost three times as long, for 10 % less.
COMPRESSION = 3
# MongoDB knows the states of the last 300 s, unless minSnapshotHistoryWindowInSeconds is set.
MOMENT_SECONDS = 240
# MongoDB's error codes for a state that it has forgotten.
FORGOTTEN = {239, 246}
FILES_AT_ONCE = 1_000
SUFFIX = ".ndjson.gz"
Count = Callable[[str], None]


@contextmanager
def opened(directory: Path, experiment: uuid.UUID | None) -> Iterator[Manifest]:
    """Create the directory of an export, or continue the one that was interrupted there. Raises `Refusal`."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield continued(directory, experiment) if (directory / FILE).exists() else begun(directory, experiment)
    except BlockingIOError:
        raise Refusal(f"Another process exports to {directory}. Wait for it, or name another directory.") from None
    finally:
        os.close(descriptor)


def begun(directory: Path, experiment: uuid.UUID | None) -> Manifest:
    if any(directory.iterdir()):
        raise Refusal(f"{directory} is not empty, and has no {FILE}. Name a new directory.")
    found = Experiment.objects.without_large_fields().filter(pk=experiment).first() if experiment else None
    if experiment and not found:
        raise Refusal(f"No experiment has the id {experiment}. Correct it; restore the experiment if it is deleted.")
    manifest = new_manifest(experiment)
    # Recorded first, because an interrupted export takes data along, too.
    record(Action.EXPORTED, None, found, after={"directory": str(directory.resolve())})
    manifest.write(directory)
    return manifest


def continued(directory: Path, experiment: uuid.UUID | None) -> Manifest:
    manifest, new = Manifest.of(directory), new_manifest(experiment)
    if manifest.finished_at:
        raise Refusal(f"{directory} has a finished export, of {manifest.finished_at}. Name a new directory.")
    for name in ("release", "migrations", "database", "experiment"):
        if getattr(manifest, name) != getattr(new, name):
            raise Refusal(f"The export in {directory} began with another {name}. Name a new directory.")
    known = {part.file for part in manifest.parts}
    for path in directory.glob(f"*{SUFFIX}*"):
        if path.name not in known:
            path.unlink()
    return manifest


def new_manifest(experiment: uuid.UUID | None) -> Manifest:
    return Manifest(
        release=settings.VERSION,
        migrations=applied_migrations(),
        database=mongodb().database.name,
        experiment=str(experiment) if experiment else None,
        started_at=timestamps.written(timestamps.now()),
    )


def applied_migrations() -> list[str]:
    return sorted(f"{app}.{name}" for app, name in MigrationRecorder(mongodb()).applied_migrations())


def export(directory: Path, manifest: Manifest, count: Count) -> None:
    """Write the parts that are missing, and finish the manifest. `count` is called for each document."""
    experiment = uuid.UUID(manifest.experiment) if manifest.experiment else None
    while not manifest.finished_at:
        before = len(manifest.parts)
        with mongodb().connection.start_session(snapshot=True) as session:
            try:
                write_parts(directory, manifest, Source(session, experiment), count)
            except OperationFailure as error:
                if error.code not in FORGOTTEN or len(manifest.parts) == before:
                    raise


def write_parts(directory: Path, manifest: Manifest, source: "Source", count: Count) -> None:
    """Write parts until the export is finished, or MongoDB would soon forget the moment of the source."""
    moment, ends_at = timestamps.written(timestamps.now()), time.monotonic() + MOMENT_SECONDS
    for collection in EXPORTED:
        while collection not in manifest.complete:
            done = manifest.parts_of(collection)
            documents = source.documents(collection, done[-1].last if done else None)
            file = f"{len(manifest.parts) + 1:05}-{collection}{SUFFIX}"
            number, last = write_lines(directory / file, documents, partial(count, collection))
            if last is None:
                manifest.complete.append(collection)
            else:
                position = source.position(collection, last)
                manifest.parts.append(Part(file, collection, number, sha256_of(directory / file), position, moment))
            manifest.write(directory)
            if time.monotonic() > ends_at:
                return
    manifest.finished_at = timestamps.written(timestamps.now())
    manifest.write(directory)


def write_lines(
    path: Path, documents: Iterator[RawBSONDocument], count: Callable[[], None]
) -> tuple[int, RawBSONDocument | None]:
    """Write the lines of the first documents, as many as a part holds. Return their number and the last of them.

    Without documents no file is written. The file has its name once it is whole.
    """
    number, room, last = 0, PART_BYTES, None
    unfinished = path.with_name(f"{path.name}.unfinished")
    with open(unfinished, "wb", opener=private) as file:
        with gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as lines:
            for last in islice(documents, PART_DOCUMENTS):
                lines.write(line_of(bytes(last.raw)) + b"\n")
                count()
                number += 1
                room -= len(last.raw)
                if room < 0:
                    break
        file.flush()
        os.fsync(file.fileno())
    if last is None:
        unfinished.unlink()
    else:
        unfinished.replace(path)
        flush_names(path.parent)
    return number, last


def private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


class Source:
    """The documents of an export, read by a session. `experiment` is the only experiment, or None for all."""

    def __init__(self, session: ClientSession, experiment: uuid.UUID | None) -> None:
        self.session, self.experiment = session, experiment

    def documents(self, collection: str, position: str | None) -> Iterator[RawBSONDocument]:
        """Return the documents of a collection in order, those after the position, or all."""
        order = self._order(collection)
        spans = order.after(json_util.loads(position, json_options=CANONICAL)) if position else [{}]
        for condition in self._conditions(collection):
            for span in spans:
                found = self._stored(collection).find(
                    both(condition, span), sort=[*order.sort.items()], limit=PART_DOCUMENTS, session=self.session
                )
                yield from map(without_rights, found) if self.experiment and collection == USERS else found

    def position(self, collection: str, document: RawBSONDocument) -> str:
        """Return the position of a document in the order of its collection, as canonical Extended JSON."""
        return json_util.dumps(self._order(collection).position(document), json_options=CANONICAL)

    def _order(self, collection: str) -> Order:
        return Order(EXPORTED[collection].order if self.experiment else ("_id",), is_descending=False)

    def _conditions(self, collection: str) -> Iterator[Mql]:
        """Return the conditions of the documents to export. Documents of one come before those of the next."""
        export = EXPORTED[collection]
        if self.experiment is None:
            yield {}
        elif collection == USERS:
            yield {"_id": {"$in": self._accounts(self.experiment)}}
        elif export.file:
            of_experiment = {EXPORTED[RUN_FILES].experiment: self.experiment.hex}
            files = self._stored(RUN_FILES).find(of_experiment, {"_id": 1}, sort=[("_id", 1)], session=self.session)
            while ids := [file["_id"] for file in islice(files, FILES_AT_ONCE)]:
                yield {export.file: {"$in": ids}}
        elif export.experiment and collection != TRASH:
            yield {export.experiment: self.experiment.hex}

    def _accounts(self, experiment: uuid.UUID) -> list[str]:
        """Return the ids of the accounts that the permissions of the experiment may name."""
        found = self._stored(EXPERIMENTS).find_one({"_id": experiment.hex}, {"permissions": 1}, session=self.session)
        return accounts_named_in(found) if found else []

    def _stored(self, collection: str) -> Collection[RawBSONDocument]:
        return mongodb().database.get_collection(collection, RAW)
