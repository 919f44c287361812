"""Deleted experiments: the trash, and the removal of what was in it. docs/trash.md explains both."""

import datetime
import uuid
from collections.abc import Callable
from typing import Any, Self

from bson.raw_bson import RawBSONDocument
from django.conf import settings
from django.db import models
from django_mongodb_backend.fields import EmbeddedModelField
from django_mongodb_backend.models import EmbeddedModel

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import Identity, Level
from core.mongodb.documents import aggregate, delete_one, find_raw, insert_one, update_one
from core.mongodb.indexes import EmbeddedIndex
from core.mongodb.match import Mql
from core.mongodb.transaction import in_transaction
from experiments.access import managed_by
from experiments.models.experiment import LONGEST_REQUEST, Experiment, ExperimentFields, ListedQuerySet
from experiments.models.permission import Permission, without

# The fields that a deleted experiment has besides those of the experiment.
OWN_FIELDS = ("deleted_at", "deleted_by", "runs", "purge_started_at", "purged_at")
OF_EARLIER_RELEASE: Mql = {"created_at": None}
PURGE_STARTED: Mql = {"purge_started_at": {"$ne": None}}
IN_TRASH: Mql = {"created_at": {"$ne": None}, "purge_started_at": None}


class Deleter(EmbeddedModel):
    """A copy of the user who deleted an experiment, as the user was at that time."""

    user_id = models.UUIDField()
    name = models.CharField(max_length=255)

    def __str__(self) -> str:
        return self.name


class DeletedExperimentQuerySet(ListedQuerySet["DeletedExperiment"]):
    """Deleted experiments: those in the trash, and those whose runs are being removed."""

    def ids(self) -> list[str]:
        """Return the ids of all, whose runs no search finds. Sorted, they make a faster condition.

        Without a filter, an index alone is read: documents may have megabytes.
        """
        match = self.match_document()
        hint: dict[str, Any] = {} if match else {"hint": "_id_"}
        pipeline: list[Mql] = [{"$match": match}, {"$sort": {"_id": 1}}, {"$project": {"_id": 1}}]
        return [document["_id"] for document in aggregate(self.model, pipeline, **hint)]

    def add(self, document: RawBSONDocument, identity: Identity | None, runs: int) -> datetime.datetime:
        """Store the document of an experiment and its number of runs. Return when it is removed for good."""
        deleted_at, user = timestamps.now(), identity and identity.user
        own = {
            "deleted_at": deleted_at,
            "deleted_by": {"user_id": user.pk.hex, "name": user.email or user.subject} if user else None,
            "runs": runs,
            "purge_started_at": None,
            "purged_at": None,
        }
        insert_one(self.model, {**document, **own})
        return purge_time(deleted_at)

    def in_trash(self) -> Self:
        """The experiments in the trash, which can be restored."""
        return self.matching({**IN_TRASH, "deleted_at": {"$gt": start_of_trash()}})

    def managed_by(self, identity: Identity) -> Self:
        """The experiments in the trash that the identity may restore, by the access rule."""
        return self.in_trash().matching(managed_by(identity))

    def one_managed_by(self, identity: Identity, pk: uuid.UUID) -> "DeletedExperiment | None":
        """The experiment with this id, if it is in the trash and the identity may restore it."""
        return self.managed_by(identity).filter(pk=pk).first()

    def due(self) -> Self:
        """The experiments to remove for good."""
        alternatives = [PURGE_STARTED, OF_EARLIER_RELEASE, {"deleted_at": {"$lte": start_of_trash()}}]
        return self.matching({"$or": alternatives})

    def due_for_purge(self) -> Self:
        """The same, with the fields alone that the purge needs."""
        return self.due().only("name", *OWN_FIELDS)

    def purge(self, should_stop: Callable[[], bool]) -> None:
        """Remove what is due, in batches: runs first, and each record once no request can add runs any more."""
        for deleted in self.due_for_purge():
            if should_stop():
                return
            if deleted.claim_for_purge():
                deleted.purge(should_stop)


class DeletedExperiment(ExperimentFields):
    """A deleted experiment. No search finds its runs. In the trash, it can be restored with them as it was.

    The record of an earlier release has the name and the time of the deletion alone, and cannot be restored.
    """

    deleted_at = models.DateTimeField("deleted", default=timestamps.now, editable=False)
    deleted_by = EmbeddedModelField(Deleter, null=True, editable=False)
    runs = models.IntegerField(null=True, editable=False, help_text="The number of its runs at the deletion.")
    purge_started_at = models.DateTimeField(null=True, editable=False, help_text="From then on, nobody can restore it.")
    purged_at = models.DateTimeField(null=True, editable=False, help_text="When its runs were removed.")

    objects = DeletedExperimentQuerySet.as_manager()

    class Meta(ExperimentFields.Meta):
        verbose_name = "experiment in the trash"
        verbose_name_plural = "experiments in the trash"
        ordering = ("deleted_at", "id")
        indexes = (
            models.Index(fields=["-deleted_at", "-created_at", "-id"], name="deleted_newest"),
            models.Index(fields=["-created_at", "-id"], name="deleted_created"),
            models.Index(fields=["-name", "-created_at", "-id"], name="deleted_by_name"),
            models.Index(fields=["purge_started_at"], name="deleted_purge"),
            EmbeddedIndex(
                fields=["permissions", "-deleted_at", "-created_at", "-id"],
                parts={"permissions": "entity"},
                name="deleted_entity",
            ),
        )

    @property
    def purge_at(self) -> datetime.datetime:
        """The time at which it is removed for good."""
        return purge_time(self.deleted_at)

    @property
    def public_level(self) -> Level | None:
        """No level: a deleted experiment is not public, even if it was before."""
        return None

    @in_transaction
    def restore_by(self, identity: Identity) -> Experiment:
        """Bring the experiment back with its runs as it was when it was deleted.

        Raises an error and changes nothing: `DoesNotExist` if it is restored already or being removed for good,
        `IntegrityError` if its name is taken.
        """
        document = find_raw(type(self), {**self._stored, **IN_TRASH})
        # A conflicting claim by the purge repeats the transaction, which then finds the claim.
        if document is None or not delete_one(type(self), self._stored):
            raise self.DoesNotExist
        experiment = {name: value for name, value in document.items() if name not in OWN_FIELDS}
        insert_one(Experiment, {**experiment, "restored_at": timestamps.now()})
        restored = Experiment.objects.get(pk=self.pk)
        before = {"deleted_at": self.deleted_at}
        record(Action.EXPERIMENT_RESTORED, identity, restored, before=before, after={"deleted_at": None})
        return restored

    def purge_by(self, identity: Identity | None) -> None:
        """Begin to remove it for good, and record that. Raises `DoesNotExist` if it is restored or removed already.

        A background task removes the runs.
        """
        self._start_purge(identity, Experiment.runs().count_of(self.pk))

    @in_transaction
    def _start_purge(self, identity: Identity | None, runs: int) -> None:
        claim = {"$set": {"purge_started_at": timestamps.now()}}
        if not update_one(type(self), {**self._stored, "purge_started_at": None}, claim):
            raise self.DoesNotExist
        before = {"deleted_at": self.deleted_at, "drift_runs": runs}
        record(Action.EXPERIMENT_PURGED, identity, Experiment(pk=self.pk, name=self.name), before=before)

    def claim_for_purge(self) -> bool:
        """Claim it for its purge, and return whether that succeeded: it may have been restored meanwhile."""
        if self.purge_started_at is None and self.purged_at is None:
            try:
                self.purge_by(None)
            except self.DoesNotExist:
                return False
        return True

    def purge(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Remove the experiment's runs, then this record, unless a request may still add runs or it should stop."""
        is_over = self.deleted_at < earliest_request()
        if (self.purged_at and not is_over) or not Experiment.runs().delete_of(self.pk, should_stop):
            return
        if is_over:
            self.delete()
        else:
            type(self).objects.filter(pk=self.pk).update(purged_at=timestamps.now())

    @in_transaction
    def remove_entity(self, entity: str, successor: str | None) -> None:
        """Remove an entity from the permissions, on the command line.

        If the list would have no manager any more, the entity `successor` becomes one. If there is none, only
        administrators can restore the experiment. A restored or removed one is no error.
        """
        stored = type(self).objects.without_large_fields().filter(pk=self.pk).first()
        if stored is None:
            return
        entries = without(stored.permissions, entity)
        if successor and stored.is_managed_only_by(entity):
            entries = [*without(entries, successor), Permission(entity=successor, level=Level.MANAGE)]
        type(self).objects.filter(pk=self.pk).update(permissions=entries)
        before, after = {"permissions": stored.permissions}, {"permissions": entries}
        target = Experiment(pk=self.pk, name=self.name)
        record(Action.PERMISSIONS_CHANGED, None, target, before=before, after=after)

    @property
    def _stored(self) -> Mql:
        """The match document of this record. An experiment that was restored and deleted again has another one."""
        return {"_id": self.pk.hex, "deleted_at": self.deleted_at}


def purge_time(deleted_at: datetime.datetime) -> datetime.datetime:
    """The time at which an experiment that is deleted at this time is removed for good."""
    return deleted_at + datetime.timedelta(days=settings.TRASH_DAYS)


def restorable_until() -> datetime.datetime | None:
    """The end of the time in the trash of an experiment that is deleted now; None if there is no trash."""
    return purge_time(timestamps.now()) if settings.TRASH_DAYS else None


def start_of_trash() -> datetime.datetime:
    """The time of the latest deletions that are due to be removed for good."""
    return timestamps.now() - datetime.timedelta(days=settings.TRASH_DAYS)


def earliest_request() -> datetime.datetime:
    """The earliest start of a request that may still be running."""
    return timestamps.now() - LONGEST_REQUEST
