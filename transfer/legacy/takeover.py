"""Takes over the predecessor's users, experiments and runs, and tells what happened to each document.

Nothing that is here already is changed, so an import may be repeated, and one that was killed is completed by the next.
"""

import datetime
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import bson
import pymongo
from bson.raw_bson import RawBSONDocument
from django.db import IntegrityError
from pymongo.common import MAX_BSON_SIZE

from accounts.models import User
from audit.models import Action, Event
from audit.trail import record
from core.identity import is_entitlement
from core.mongodb.documents import WORK_SECONDS, Document, collection_of, insert_many, without_references
from core.mongodb.transaction import in_transaction
from drifts.batches import BATCH_SIZE as COMPLETED_AT_ONCE
from drifts.batches import completed
from drifts.cached import drop_cached
from drifts.documents import new_document
from drifts.models import Drift
from experiments.access import AccessControlled
from experiments.models import DeletedExperiment, Experiment, Permission, canonical_entity, has_manager
from transfer.legacy.database import EXPERIMENTS, PREFIX, USERS, LegacyDatabase, decoded, id_in
from transfer.legacy.documents import LegacyExperiment, LegacyUser, Reading, Unusable, run_in, shown

T = TypeVar("T")
Tell = Callable[[str], None]
# The attempts to store runs of which another import stores some at the same time.
ATTEMPTS = 5
SECONDS_BETWEEN_REPORTS = 10
# The fields of a run that the predecessor has.
COMPARED = ("job_status", "model", "drift_detected", "parameters", "tags", "created_at")


class Outcome(StrEnum):
    """The outcome for a document of the predecessor."""

    TAKEN = "taken over"
    HERE = "already here"
    DIFFERENT = "different here"
    SKIPPED = "skipped"


@dataclass
class Report:
    """The numbers of documents by kind and outcome, and the number of parts that were left out of others."""

    numbers: dict[str, Counter[Outcome]] = field(
        default_factory=lambda: {kind: Counter() for kind in ("users", "experiments", "runs")}
    )
    parts: int = 0

    @property
    def is_whole(self) -> bool:
        """True if everything of the predecessor is here as it was there."""
        gaps = sum(numbers[Outcome.SKIPPED] + numbers[Outcome.DIFFERENT] for numbers in self.numbers.values())
        return not gaps and not self.parts

    def lines(self) -> Iterator[str]:
        """The report, a line for each kind."""
        for kind, numbers in self.numbers.items():
            yield f"{kind.capitalize()}: {in_words(numbers)}."
        yield f"Parts left out: {self.parts:,}."


class PlannedRuns:
    """The ids of the runs that a dry run would have stored, in a temporary file: they may be millions."""

    def __init__(self) -> None:
        # SQLite removes a file without a name at the end.
        self.file = sqlite3.connect("")
        self.file.execute("CREATE TABLE run (id TEXT PRIMARY KEY, experiment TEXT) WITHOUT ROWID")

    def close(self) -> None:
        """Remove the file."""
        self.file.close()

    def add(self, runs: Sequence[Document]) -> None:
        """Add documents of runs."""
        self.file.executemany("INSERT INTO run VALUES (:_id, :experiment_id)", runs)

    def experiment_of(self, pk: str) -> str | None:
        """The id of the experiment whose run has this id, or None."""
        found = self.file.execute("SELECT experiment FROM run WHERE id = ?", [pk]).fetchone()
        return str(found[0]) if found else None


class Takeover:
    """One import. `tell` takes the lines for the operator, `show_progress` those that only say how far it is."""

    def __init__(
        self, source: LegacyDatabase, zone: ZoneInfo, *, is_dry_run: bool, tell: Tell, show_progress: Tell
    ) -> None:
        self.source = source
        self.zone = zone
        self.is_dry_run = is_dry_run
        self.tell = tell
        self.show_progress = show_progress
        self.report = Report()
        # The id here of each user of the predecessor; None if an account of another person has this id here.
        self.user_ids: dict[str, str | None] = {}
        # The users and experiments that this import has stored, or would have stored.
        self.new_users: dict[tuple[str, str], uuid.UUID] = {}
        self.new_names: dict[str, uuid.UUID] = {}

    def run(self) -> Report:
        """Take over all documents, and return the report."""
        for raw in self.source.documents(USERS):
            self.attempt("users", USERS, raw, self.take_user)
        # The experiments with their collections, or None for one that is skipped.
        found = {
            f"{PREFIX}{id_in(raw)}": self.attempt("experiments", EXPERIMENTS, raw, self.take_experiment)
            for raw in self.source.documents(EXPERIMENTS)
        }
        with closing(PlannedRuns()) as planned:
            for collection, experiment in found.items():
                if experiment:
                    self.take_runs(collection, experiment, planned)
                else:
                    self.skip_runs(collection, 0, "their experiment is skipped")
        for collection in self.source.collections:
            if collection.startswith(PREFIX) and collection not in {USERS, EXPERIMENTS, *found}:
                self.skip_runs(collection, 0, f"{EXPERIMENTS} has no experiment with this id")
        return self.report

    def attempt(self, kind: str, collection: str, raw: RawBSONDocument, take: Callable[[Reading], T]) -> T | None:
        """Take a document over, and return the result. Skip it, and return None, if it is unusable."""
        try:
            return take(Reading(decoded(raw), self.zone))
        except Unusable as error:
            why = str(error)
        except IntegrityError:
            why = "somebody else stores it at this moment. Import it again"
        self.skip(kind, collection, id_in(raw), why)
        return None

    def skip(self, kind: str, collection: str, pk: Any, why: str) -> None:
        """Count a document that is skipped, and tell why."""
        self.report.numbers[kind][Outcome.SKIPPED] += 1
        self.tell(f"Skipped: {collection} {shown(pk)}: {why.rstrip('.')}.")

    def settle(self, kind: str, collection: str, reading: Reading, different: Sequence[str] | None) -> None:
        """Count a document, and tell what was found. `different` names fields that differ here; None is a new one."""
        outcome = Outcome.TAKEN if different is None else Outcome.DIFFERENT if different else Outcome.HERE
        self.report.numbers[kind][outcome] += 1
        place = f"{collection} {shown(reading.document['_id'])}"
        if different:
            self.tell(f"Different here: {place}: {', '.join(different)}. It stays as it is here.")
        for part in reading.left_out:
            self.report.parts += 1
            self.tell(f"Left out: {place}: {part}.")
        for note in reading.notes:
            self.tell(f"Note: {place}: {note}.")

    # Users.

    def take_user(self, reading: Reading) -> None:
        user = LegacyUser.of(reading)
        here = User.objects.known_as(user.issuer, user.subject)
        known_id = here.pk if here else self.new_users.get((user.issuer, user.subject))
        different: list[str] | None = []
        if known_id and known_id != user.id:
            reading.notes.append(f"this subject is registered here as {known_id}, which permissions name instead")
        elif here:
            values = {"email": user.email, "created_at": in_utc(user.created_at)}
            different = [name for name, value in values.items() if getattr(here, name) != value]
        elif other := User.objects.by_id(user.id):
            self.user_ids[str(user.id)] = None
            raise Unusable(f"its id is that of another account here, with the subject {shown(other.subject)}")
        else:
            if not self.is_dry_run:
                register(user)
            self.new_users[user.issuer, user.subject] = user.id
            different = None
        self.user_ids[str(user.id)] = str(known_id or user.id)
        self.settle("users", USERS, reading, different)

    # Experiments.

    def take_experiment(self, reading: Reading) -> Experiment:
        """Take over an experiment, and return an object of its id and name alone: the descriptions may be long."""
        legacy = LegacyExperiment.of(reading)
        experiment = Experiment(
            id=legacy.id,
            name=legacy.name,
            description=legacy.description,
            public=legacy.public,
            permissions=self.permissions_here(legacy, reading),
            created_at=in_utc(legacy.created_at),
            updated_at=in_utc(legacy.created_at),
        )
        if not has_manager(experiment.permissions):
            reading.notes.append("it has no manager, so only administrators can manage it")
        if here := Experiment.objects.by_id(legacy.id):
            ours, theirs = compared_values(here), compared_values(experiment)
            different = [name for name, value in theirs.items() if ours[name] != value]
            self.settle("experiments", EXPERIMENTS, reading, different)
            return Experiment(id=here.pk, name=here.name)
        if DeletedExperiment.objects.by_id(legacy.id):
            raise Unusable("it is in the trash here. Restore it there, or import it again once it is removed for good")
        other = Experiment.objects.matching({"name": legacy.name}).only("id").first()
        if taken_by := other.pk if other else self.new_names.get(legacy.name):
            raise Unusable(f"its name {shown(legacy.name)} is taken here by the experiment {taken_by}. Rename that one")
        if not self.is_dry_run:
            create(experiment)
        self.new_names[legacy.name] = legacy.id
        self.settle("experiments", EXPERIMENTS, reading, None)
        return Experiment(id=legacy.id, name=legacy.name)

    def permissions_here(self, legacy: LegacyExperiment, reading: Reading) -> list[Permission]:
        """The permissions with the ids that the users have here."""
        entries = []
        for sent, level in legacy.permissions:
            entity = canonical_entity(sent)
            known = entity if is_entitlement(entity) else self.user_ids.get(entity, entity)
            if known is None:
                reading.left_out.append(f"the permission {level} of {entity}, the id of another account here")
                continue
            if not (is_entitlement(entity) or entity in self.user_ids or User.objects.by_id(uuid.UUID(entity))):
                reading.notes.append(f"the permission {level} of {entity} is kept, but no user has this id")
            entries.append(Permission(entity=known, level=level))
        return entries

    # Runs.

    def take_runs(self, collection: str, experiment: Experiment, planned: PlannedRuns) -> None:
        before, visited, reported = self.report.numbers["runs"].copy(), 0, time.monotonic()
        for batch in self.source.batches(collection):
            # A dry run has not stored a new experiment, which has the default rules.
            rules = Experiment.objects.reference_to(experiment.pk) or (experiment if self.is_dry_run else None)
            if rules is None:
                self.skip_runs(collection, visited, "their experiment was deleted here meanwhile")
                return
            self.take_batch(collection, rules, batch, planned)
            visited += len(batch)
            if time.monotonic() > reported + SECONDS_BETWEEN_REPORTS:
                self.show_progress(f"{collection}: {visited:,} runs visited.")
                reported = time.monotonic()
        runs = self.report.numbers["runs"] - before
        self.tell(f"{collection}: experiment {shown(experiment.name)}, {in_words(runs)}.")
        self.record_import(experiment, runs)

    def take_batch(
        self, collection: str, experiment: AccessControlled, batch: list[RawBSONDocument], planned: PlannedRuns
    ) -> None:
        """Store the runs of a batch that are not here. Another import may store some of them meanwhile."""

        def read(reading: Reading) -> tuple[Reading, Document]:
            document = new_document(experiment, run_in(reading))
            if len(bson.encode(document)) > MAX_BSON_SIZE:
                raise Unusable("it would be larger here than the 16 MiB of a document")
            return reading, document

        found = [self.attempt("runs", collection, raw, read) for raw in batch]
        readings = [each for each in found if each]
        for attempt in range(1, ATTEMPTS + 1):
            different = self.differences(readings, planned)
            new = [run for _, run in readings if different[run["_id"]] is None]
            try:
                self.store(experiment, new, planned)
                break
            except IntegrityError:
                if attempt == ATTEMPTS:
                    raise
        for reading, run in readings:
            match different[run["_id"]]:
                case Unusable() as unusable:
                    self.skip("runs", collection, reading.document["_id"], str(unusable))
                case names:
                    self.settle("runs", collection, reading, names)

    def differences(
        self, readings: list[tuple[Reading, Document]], planned: PlannedRuns
    ) -> dict[str, list[str] | Unusable | None]:
        """Map the id of each run to the names of the fields that differ here; to None if the run is not here.

        A run whose id a run of another experiment has is unusable.
        """
        ids = [run["_id"] for _, run in readings]
        # A query for ids alone, because the id of a run is unique among all experiments.
        here = {run["_id"]: run for run in collection_of(Drift).find({"_id": {"$in": ids}})}
        found: dict[str, list[str] | Unusable | None] = {}
        for _, run in readings:
            pk, other = run["_id"], here.get(run["_id"])
            owner = other["experiment_id"] if other else planned.experiment_of(pk)
            if owner not in (None, run["experiment_id"]):
                found[pk] = Unusable(f"its id is that of a run of the experiment {uuid.UUID(owner)}")
            elif other:
                found[pk] = [name for name in COMPARED if not is_equal(other.get(name), run[name])]
            else:
                found[pk] = None
        return found

    def store(self, experiment: AccessControlled, runs: list[Document], planned: PlannedRuns) -> None:
        """Store new runs, or note their ids in a dry run."""
        if self.is_dry_run:
            planned.add(runs)
        elif runs:
            insert_many(Drift, runs)
            drop_cached(experiment.pk)
            complete_again(experiment, [run["_id"] for run in runs])

    def skip_runs(self, collection: str, visited: int, why: str) -> None:
        """Skip the runs of a collection, but for those that were visited before."""
        if number := self.source.count(collection) - visited:
            self.report.numbers["runs"][Outcome.SKIPPED] += number
            self.tell(f"Skipped: {collection}: {number:,} runs, because {why}.")

    def record_import(self, experiment: Experiment, runs: Counter[Outcome]) -> None:
        """Record the import of an experiment with the number of its runs, unless an earlier import has done so.

        An import that was killed has not, although its runs are here.
        """
        imported = {"experiment_id": experiment.pk.hex, "action": Action.IMPORTED.value}
        if not self.is_dry_run and (runs[Outcome.TAKEN] or not Event.objects.matching(imported).exists()):
            values = {"database": self.source.name, "drift_runs": runs.total() - runs[Outcome.SKIPPED]}
            record(Action.IMPORTED, None, experiment, after=values)


def register(user: LegacyUser) -> None:
    new = User(
        id=user.id,
        issuer=user.issuer,
        subject=user.subject,
        email=user.email,
        created_at=in_utc(user.created_at),
        # The predecessor has not stored it. `created_at` counts instead.
        last_seen_at=None,
    )
    new.set_unusable_password()
    new.register_by(None)


@in_transaction
def create(experiment: Experiment) -> None:
    experiment.save(force_insert=True)
    record(Action.EXPERIMENT_CREATED, None, experiment, after=experiment.recorded_values())


def complete_again(experiment: AccessControlled, ids: list[str]) -> None:
    """Complete stored runs by the present rules of their experiment, if these have changed since it was read.

    Background work does so for runs with present times only. If the experiment was deleted since, the runs are removed
    again.
    """
    present = Experiment.objects.reference_to(experiment.pk)
    if present is None:
        with pymongo.timeout(WORK_SECONDS):
            collection_of(Drift).delete_many({"experiment_id": experiment.pk.hex, "_id": {"$in": ids}})
    elif present.run_rules != experiment.run_rules:
        for start in range(0, len(ids), COMPLETED_AT_ONCE):
            chunk = {"experiment_id": experiment.pk.hex, "_id": {"$in": ids[start : start + COMPLETED_AT_ONCE]}}
            completed(experiment.pk, chunk, should_stop=lambda: False)


def is_equal(stored: Any, value: Any) -> bool:
    """Return whether two values are stored alike: in the same order, with the same types, and NaN equal to itself."""
    return bson.encode({"": without_references(stored)}) == bson.encode({"": value})


def compared_values(experiment: Experiment) -> Document:
    """The values of the fields that the predecessor has."""
    entries = [(entry.entity, entry.level) for entry in experiment.permissions]
    names = ("name", "description", "public", "created_at")
    return {**{name: getattr(experiment, name) for name in names}, "permissions": entries}


def in_words(numbers: Counter[Outcome]) -> str:
    return ", ".join(f"{numbers[outcome]:,} {outcome}" for outcome in Outcome)


def in_utc(time: datetime.datetime) -> datetime.datetime:
    """Return a time of the predecessor as models have it."""
    return time.replace(tzinfo=datetime.UTC)
