"""The import of an export into a service that may have other data. docs/transfer.md describes it.

A document is inserted unless one with its id is stored. No stored document changes: a different one is a clash, which
is told. A repetition therefore completes an import that was interrupted.
"""

import gzip
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import bson
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from django.conf import settings
from django.db.migrations.executor import MigrationExecutor
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from audit.models import Action
from audit.trail import record
from core.mongodb.documents import RAW, mongodb
from core.printable import escaped
from drifts.cached import drop_cached
from drifts.upgrades import visit_all_again
from transfer.accounts import accounts_named_in, renamed, without_rights
from transfer.batches import batches
from transfer.canonical import read
from transfer.collections import EXPERIMENTS, EXPORTED, RUN_FILES, RUNS, TRASH, USERS
from transfer.manifest import Manifest, Refusal, later_release, sha256_of

BATCH_DOCUMENTS = 1_000
BATCH_BYTES = 16 * 1024**2
DUPLICATE_KEY = 11000
# The line of the largest document that MongoDB stores is shorter. gzip makes a thousandth of a file of zeros.
LONGEST_LINE = 256 * 1024**2
# The columns that name a document for people.
NAMES = ("name", "email", "subject", "filename", "model", "action")
# The collections to which documents of others belong, by the name of the column in `Export`.
OWNERS = {"experiment": EXPERIMENTS, "file": RUN_FILES, "account": USERS}
IDENTITY = ("issuer", "subject")
NO_DOCUMENT = "{place} is no document of an export: {reason}. Restore the file, or export again."
ALONE = "It is left out."
WITH_EXPERIMENT = "It is left out, with its runs, files and events."
EXCLUDED = {
    EXPERIMENTS: f"It is in the trash here. Restore it there first, or wait until it is removed. {WITH_EXPERIMENT}",
    TRASH: f"It is deleted in the export, and not here. {WITH_EXPERIMENT}",
}


class Record(NamedTuple):
    """A document of the export: its bytes, and its columns."""

    raw: bytes
    columns: Mapping[str, Any]

    @classmethod
    def of(cls, document: RawBSONDocument) -> Self:
        return cls(bytes(document.raw), document)

    @property
    def id(self) -> Any:
        return self.columns["_id"]

    def values(self, columns: tuple[str, ...]) -> tuple[Any, ...]:
        return values_of(self.columns, columns)


def values_of(document: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(document.get(name) for name in columns)


class Clash(NamedTuple):
    """The reason why a document is not inserted, or whether an equal one is stored, which is no clash."""

    reason: str
    is_same_id: bool = False


THERE = Clash("", is_same_id=True)
DIFFERS = Clash("A different document with this id is stored. It stays as it is.", is_same_id=True)


def checked(directory: Path) -> Manifest:
    """Return the manifest of an export that is whole, and that this release can import. Raises `Refusal`."""
    manifest = Manifest.of(directory)
    if not manifest.finished_at:
        raise Refusal(f"The export in {directory} is unfinished. Finish it with the same `manage.py export` command.")
    executor = MigrationExecutor(mongodb())
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise Refusal("The database here is not migrated. Run manage.py migrate first.")
    known = {f"{app}.{name}" for app, name in executor.loader.disk_migrations}
    if not (known.issuperset(manifest.migrations) and all(part.collection in EXPORTED for part in manifest.parts)):
        raise Refusal(later_release(manifest.release))
    for part in manifest.parts:
        path = directory / part.file
        if not path.is_file():
            raise Refusal(f"{path} is missing. Restore the file, or export again.")
        if sha256_of(path) != part.sha256:
            raise Refusal(
                f"{path} is damaged: its SHA-256 is not that of the manifest. Restore the file, or export again."
            )
    return manifest


@dataclass
class Import:
    """One import. `experiment` is the id, as stored, of the only experiment to import, or None for all.

    `tell` takes a line for each clash, and `count` the collection of each document. `numbers` has the numbers of
    documents by collection: inserted, already there, clashes, and left out together with another document.
    """

    directory: Path
    manifest: Manifest
    experiment: str | None
    tell: Callable[[str], None]
    count: Callable[[str], None]
    is_dry_run: bool = False

    def __post_init__(self) -> None:
        self.numbers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        # The ids of documents that are left out, with all that belong to them.
        self.left_out: dict[str, set[Any]] = {name: set() for name in OWNERS.values()}
        # The ids, as columns have them, of accounts that have other ids here.
        self.local_ids: dict[str, str] = {}
        # The accounts that the only experiment names.
        self.named_accounts: set[str] = set()

    def run(self) -> None:
        """Import all documents. Raises `Refusal`, and errors of the driver; a repetition continues then."""
        self._judge_experiments()
        if not self.is_dry_run:
            about = {"directory": str(self.directory.resolve()), "exported_at": self.manifest.started_at}
            # Recorded first, because an interrupted import changes the data, too.
            record(Action.IMPORTED, None, None, after={**about, "documents": self.manifest.documents})
        for collection in EXPORTED:
            for batch in batches(self._records(collection), BATCH_DOCUMENTS, BATCH_BYTES):
                self._take(collection, batch)
        if not self.is_dry_run:
            # Runs may be of an older schema, or completed by older rules, with times before the place of the upgrade.
            visit_all_again()

    @property
    def clashes(self) -> int:
        return sum(numbers["clashes"] for numbers in self.numbers.values())

    def _judge_experiments(self) -> None:
        """Find the experiments to leave out, because their runs come first."""
        found = False
        for collection in (EXPERIMENTS, TRASH):
            for batch in batches(self._chosen(collection), BATCH_DOCUMENTS, BATCH_BYTES):
                found = True
                self.named_accounts.update(*(accounts_named_in(each.columns) for each in batch))
                for each, clash in self._clashes(collection, batch):
                    if not clash.is_same_id:
                        self.left_out[EXPERIMENTS].add(each.id)
        if self.experiment and not found:
            raise Refusal(f"The export in {self.directory} has no such experiment. Correct the id.")

    def _records(self, collection: str) -> Iterator[Record]:
        """Return the documents to import, with the ids that accounts have here."""
        export = EXPORTED[collection]
        owners = [(getattr(export, attribute), self.left_out[name]) for attribute, name in OWNERS.items()]
        for each in self._chosen(collection):
            self.count(collection)
            if collection not in (EXPERIMENTS, TRASH) and any(each.columns.get(name) in ids for name, ids in owners):
                self._leave_out(collection, each)
                self.numbers[collection]["left out"] += 1
            elif self.local_ids and export.accounts:
                yield Record.of(renamed(RawBSONDocument(each.raw, RAW), export.accounts, self.local_ids))
            else:
                yield each

    def _chosen(self, collection: str) -> Iterator[Record]:
        """Return the documents of the export, or those of the only experiment."""
        export = EXPORTED[collection]
        for each in self._records_of_export(collection):
            if self.experiment is None or export.file:
                yield each
            elif collection == USERS:
                if each.id in self.named_accounts:
                    yield Record.of(without_rights(RawBSONDocument(each.raw, RAW)))
            elif export.experiment and collection != TRASH and each.columns.get(export.experiment) == self.experiment:
                yield each
            else:
                self._leave_out(collection, each)

    def _records_of_export(self, collection: str) -> Iterator[Record]:
        for part in self.manifest.parts_of(collection):
            with gzip.open(self.directory / part.file) as file:
                lines = iter(partial(file.readline, LONGEST_LINE), b"")
                for number, line in enumerate(lines, 1):
                    yield record_in(line, f"Line {number:,} of {self.directory / part.file}")

    def _take(self, collection: str, records: list[Record]) -> None:
        """Insert the documents that are not stored, and tell the clashes."""
        numbers = self.numbers[collection]
        while records:
            clashes = {each.id: clash for each, clash in self._clashes(collection, records)}
            for each in records:
                clash = clashes.get(each.id)
                if clash is THERE:
                    numbers["already there"] += 1
                elif clash:
                    numbers["clashes"] += 1
                    self.tell(f"{collection} {each.id}, {named(each.columns)}: {clash.reason}")
                    if not clash.is_same_id:
                        self._leave_out(collection, each)
            records = self._insert(collection, [each for each in records if each.id not in clashes])

    def _insert(self, collection: str, records: list[Record]) -> list[Record]:
        """Insert documents, and return those that were stored meanwhile."""
        refused: list[Record] = []
        if records and not self.is_dry_run:
            documents = [RawBSONDocument(each.raw, RAW) for each in records]
            try:
                stored(collection).insert_many(documents, ordered=False)
            except BulkWriteError as error:
                errors = error.details["writeErrors"]
                if not errors or {each["code"] for each in errors} != {DUPLICATE_KEY}:
                    raise
                refused = [records[each["index"]] for each in errors]
            if collection == RUNS:
                for pk in {each.columns["experiment_id"] for each in records}:
                    drop_cached(uuid.UUID(pk))
        self.numbers[collection]["inserted"] += len(records) - len(refused)
        return refused

    def _clashes(self, collection: str, records: list[Record]) -> Iterator[tuple[Record, Clash]]:
        """Return each document that cannot be inserted, and why."""
        wanted = {each.id: each for each in records}
        ids = {"_id": {"$in": [*wanted]}}
        # Stored documents may be larger than those of the export, so they are compared one by one.
        found = stored(collection).find(ids)
        there = {each["_id"]: self._is_same(collection, wanted[each["_id"]], each) for each in found}
        excludes = EXPORTED[collection].excludes
        excluded = {each["_id"] for each in stored(excludes).find(ids, {"_id": 1})} if excludes else set()
        others = self._others(collection, [each for each in records if each.id not in there])
        for each in records:
            if each.id in there:
                yield each, THERE if there[each.id] else DIFFERS
            elif each.id in excluded:
                yield each, Clash(EXCLUDED[collection])
            elif each.id in others:
                yield each, self._shared(collection, each, *others[each.id])

    def _others(self, collection: str, records: list[Record]) -> dict[Any, tuple[tuple[str, ...], Any]]:
        """Map ids of documents to the columns whose values another stored document has, and to its id."""
        found: dict[Any, tuple[tuple[str, ...], Any]] = {}
        for columns in unique_columns(collection):
            # A missing value is not unique.
            wanted = {values: each.id for each in records if None not in (values := each.values(columns))}
            if wanted:
                match = {"$or": [dict(zip(columns, values, strict=True)) for values in wanted]}
                for other in stored(collection).find(match, dict.fromkeys(columns, 1)):
                    found[wanted[tuple(other[name] for name in columns)]] = columns, other["_id"]
        return found

    def _shared(self, collection: str, each: Record, columns: tuple[str, ...], other: Any) -> Clash:
        """Return the clash of a document with another one, whose id is `other`, that has the same values."""
        if collection == USERS and each.columns["issuer"] != settings.LOCAL_ISSUER:
            # The same person, by the word of the same provider. A local name may be that of somebody else.
            mapped = (each.id, other), (str(uuid.UUID(each.id)), str(uuid.UUID(other)))
            self.local_ids.update(mapped)
            return THERE
        reason = f"{other} has the same {' and '.join(columns)} here."
        return Clash(f"{reason} {WITH_EXPERIMENT if collection == EXPERIMENTS else ALONE}")

    def _is_same(self, collection: str, each: Record, other: RawBSONDocument) -> bool:
        """Return whether a stored document is the same. The accounts of one experiment are compared by identity."""
        if self.experiment and collection == USERS:
            return each.values(IDENTITY) == values_of(other, IDENTITY)
        names = EXPORTED[collection].uncompared
        return other.raw == each.raw or (bool(names) and without(each.columns, names) == without(other, names))

    def _leave_out(self, collection: str, each: Record) -> None:
        if collection in self.left_out:
            self.left_out[collection].add(each.id)


def record_in(line: bytes, place: str) -> Record:
    """Return the document of a line. Raises `Refusal`, with the place of the line."""
    try:
        record = Record(*read(line))
    except Exception as error:
        # The driver raises many kinds for objects that are like values.
        raise Refusal(NO_DOCUMENT.format(place=place, reason=error)) from error
    # The collections of an export have no other ids.
    if not isinstance(record.columns.get("_id"), str | ObjectId):
        raise Refusal(NO_DOCUMENT.format(place=place, reason="_id is missing, or of a type that no export has"))
    return record


def stored(collection: str) -> Collection[RawBSONDocument]:
    return mongodb().database.get_collection(collection, RAW)


def without(document: Mapping[str, Any], columns: tuple[str, ...]) -> bytes:
    """Return the bytes of a document without these columns."""
    return bson.encode({name: value for name, value in document.items() if name not in columns})


def unique_columns(collection: str) -> list[tuple[str, ...]]:
    """Return the columns of each unique index of a collection."""
    indexes = stored(collection).index_information().values()
    return [tuple(name for name, _ in index["key"]) for index in indexes if index.get("unique")]


def named(columns: Mapping[str, Any]) -> str:
    """Return a name of the document for people."""
    return next((escaped(repr(columns[name])) for name in NAMES if columns.get(name)), "without a name")
