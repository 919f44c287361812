"""Experiments and their permissions; `access.py` has the access rule."""

import datetime
import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django_mongodb_backend.fields import ArrayField, EmbeddedModelArrayField, EmbeddedModelField
from django_mongodb_backend.models import EmbeddedModel

from accounts.models import User
from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import USER_ID, Identity, Level
from core.mongodb.documents import (
    aggregate,
    decoded,
    delete_one,
    find_one,
    find_raw,
    insert_one,
    instance_of,
    update_one,
)
from core.mongodb.indexes import EmbeddedIndex
from core.mongodb.match import Match, Mql
from core.mongodb.querysets import FilterableQuerySet
from core.mongodb.transaction import in_transaction
from core.tags import MAX_TAG
from core.versions import VersionConflict, version_of_fields
from experiments.access import AccessControlled, ExperimentReference, entry_giving, managed_by, readable_by
from experiments.run_rules import Recomputation, RunRules

# A request takes less. So long after the deletion of an experiment it may add runs, and so long after a change of rules
# it may store runs by the older ones. The clocks of two instances of the service must differ by less.
LONGEST_REQUEST = datetime.timedelta(minutes=2)
# The most characters of a configuration in a form.
MAX_CONFIG_TEXT = 100_000
MAX_PERMISSIONS = 1_000
M_co = TypeVar("M_co", bound=models.Model, covariant=True)
TOO_MANY_PERMISSIONS = "At most {:,} entries are allowed. Remove some."


class NoManager(Exception):
    """Raised for a permission list without a manager. The message is safe to show."""

    def __init__(self) -> None:
        super().__init__("The experiment needs a manager. Keep or add an entry with the level Manage.")


class Permission(EmbeddedModel):
    """An entry of an experiment's permission list: a level for a user id or an entitlement."""

    entity = models.CharField(max_length=255, help_text="A user's id, or an entitlement (a group or role).")
    level = models.CharField(max_length=6, choices=Level)

    def __str__(self) -> str:
        return f"{self.entity}: {self.level}"


class ListedQuerySet(FilterableQuerySet[M_co]):
    """The conditions that experiments and deleted experiments share."""

    def naming_entity(self, entity: str) -> Self:
        """The experiments whose permissions name this entity."""
        return self.matching({"permissions.entity": entity})

    def without_large_fields(self) -> Self:
        """Leave out the fields that may have megabytes, for lists."""
        return self.defer("description", "config")


class ExperimentQuerySet(ListedQuerySet["Experiment"]):
    """Named conditions on experiments, and their creation and deletion."""

    def reference_to(self, pk: uuid.UUID) -> ExperimentReference | None:
        """Read the reference to the experiment with this id; None if there is none."""
        document = find_one(self.model, {"_id": pk.hex}, projection=ExperimentReference.PROJECTION)
        return ExperimentReference.of(document) if document else None

    def visible_to(self, identity: Identity) -> Self:
        """The experiments that the identity may read, by the access rule."""
        readable = readable_by(identity)
        return self.where(readable) if readable else self.all()

    def naming(self, identity: Identity) -> Self:
        """The experiments whose permissions name the identity or one of its groups."""
        return self.matching({"permissions.entity": {"$in": sorted(identity.entities)}})

    def giving(self, identity: Identity, level: Level) -> Self:
        """The experiments whose list gives the identity this level or a higher one."""
        return self.matching({"permissions": {"$elemMatch": entry_giving(identity, level)}})

    def archived(self, is_archived: bool = True) -> Self:
        """The archived experiments, or the others. Lists for people show archived ones only on request."""
        return self.matching({"archived_at": {"$ne": None} if is_archived else None})

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete each experiment, as `Experiment.delete` does. Return the same as Django's method."""
        deleted = [experiment.delete() for experiment in self]
        return len(deleted), {self.model._meta.label: len(deleted)}

    @in_transaction
    def create_by(self, identity: Identity, **fields: Any) -> "Experiment":
        """Create an experiment that its creator manages. Raises `IntegrityError` if the name is taken."""
        permissions = with_manager(fields.pop("permissions", ()), identity)
        experiment = self.create(permissions=permissions, **fields)
        record(Action.EXPERIMENT_CREATED, identity, experiment, after=experiment.recorded_values())
        return experiment


class ExperimentFields(AccessControlled, models.Model):
    """The stored fields of an experiment, which its record in the trash keeps."""

    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True, default="")
    public = models.BooleanField(default=False, help_text="Anyone can read it, without logging in.")
    permissions = EmbeddedModelArrayField(Permission, verbose_name="access", default=list, blank=True)
    tags = ArrayField(models.CharField(max_length=MAX_TAG), default=list, blank=True)
    config = models.JSONField("configuration (JSON)", default=dict, blank=True)
    # `run_rules` has the defaults of these three.
    series_by = ArrayField(models.CharField(max_length=255), null=True, blank=True, editable=False)
    field_map = models.JSONField(null=True, blank=True, editable=False)
    rules_version = models.IntegerField(null=True, blank=True, editable=False)
    # The progress of applying changed rules to stored runs: `Recomputation` in run_rules.py.
    recomputation = models.JSONField(null=True, blank=True, editable=False)
    run_timeout = models.IntegerField("time-out of runs (seconds)", null=True, blank=True, editable=False)
    retention_days = models.IntegerField("keep runs for (days)", null=True, blank=True, editable=False)
    # The days that count, as the background task has last seen them, and since when (drifts/retention.py).
    retention_seen = models.IntegerField(null=True, blank=True, editable=False)
    retention_seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField("created", default=timestamps.now, editable=False)
    updated_at = models.DateTimeField("updated", default=timestamps.now, editable=False)
    archived_at = models.DateTimeField(
        "archived",
        null=True,
        editable=False,
        help_text="The pages list archived experiments only under Archived. The portal lists them as before.",
    )
    # The last return from the trash: the next upgrade visits all runs of the experiment (drifts/upgrades.py).
    restored_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    @property
    def run_rules(self) -> RunRules:
        """The rules that complete the experiment's runs."""
        return RunRules.of(self.series_by, self.field_map, self.rules_version)

    def is_managed_only_by(self, entity: str) -> bool:
        """Return whether the list has a manager, but none without this entity."""
        return has_manager(self.permissions) and not has_manager(without(self.permissions, entity))


class Experiment(ExperimentFields):
    """A named container of drift runs."""

    objects = ExperimentQuerySet.as_manager()

    class Meta(ExperimentFields.Meta):
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=["name"], name="experiment_name"),)
        indexes = (
            models.Index(fields=["-created_at", "-id"], name="experiment_newest"),
            models.Index(fields=["-name", "-created_at", "-id"], name="experiment_by_name"),
            models.Index(fields=["-updated_at", "-created_at", "-id"], name="experiment_changed"),
            # Background work looks for the few that are not null.
            models.Index(fields=["recomputation"], name="experiment_recomputation"),
            models.Index(fields=["run_timeout"], condition=Q(run_timeout__gt=0), name="experiment_run_timeout"),
            models.Index(fields=["restored_at"], name="experiment_restored"),
            # MongoDB merges the experiments that a member may read from these two indexes, in the order of time. Other
            # orders have no such index: if several suit one of the conditions, MongoDB picks any, whatever the sort.
            models.Index(fields=["-public", "-created_at", "-id"], name="experiment_public"),
            EmbeddedIndex(
                fields=["permissions", "-created_at", "-id"], parts={"permissions": "entity"}, name="experiment_entity"
            ),
        )

    def save(self, *args: Any, **options: Any) -> None:
        """Save all fields but those of `WRITTEN_BY_METHODS`, so that a stale object does not undo such a method."""
        if not self._state.adding:
            names = [field.name for field in self._meta.concrete_fields if not field.primary_key]
            options.setdefault("update_fields", [name for name in names if name not in WRITTEN_BY_METHODS])
        super().save(*args, **options)

    def version(self, *fields: str) -> str:
        """Return the version of these fields together."""
        return version_of_fields(self, fields)

    def config_text(self) -> str | None:
        """The configuration as JSON for a form; None if it has more than `MAX_CONFIG_TEXT` characters."""
        # Indented JSON takes ten times as long.
        is_short = len(json.dumps(self.config, ensure_ascii=False)) <= MAX_CONFIG_TEXT
        return json.dumps(self.config, indent=2, ensure_ascii=False) if is_short else None

    def update_by(self, identity: Identity, version: str | None = None, **changes: Any) -> None:
        """Write only the named fields. Unless the caller is an administrator, they stay a manager.

        Raises an error and changes nothing: `VersionConflict` if a version is given and these fields have another,
        `IntegrityError` if the name is taken, `DoesNotExist` if the experiment is deleted, `NoManager` if the
        permissions name no manager and the caller does not become one.
        """
        if "permissions" in changes:
            changes["permissions"] = completed(changes["permissions"], identity)
        self._write(identity, version, changes)

    @in_transaction
    def _write(self, identity: Identity | None, version: str | None, changes: dict[str, Any]) -> None:
        self.refresh_from_db()
        if version not in (None, self.version(*changes)):
            raise VersionConflict
        before = self.recorded_values()
        recomputation = self._recomputation_after(changes)
        type(self).objects.filter(pk=self.pk).update(**changes, **recomputation, updated_at=timestamps.now())
        self.refresh_from_db()
        self._record_changes(identity, before, self.recorded_values())

    def _recomputation_after(self, changes: dict[str, Any]) -> dict[str, Any]:
        """The further changes that make background work apply new rules to stored runs; empty if the rules stay."""
        old = self.run_rules
        series_by, field_map = (changes.get(name, getattr(self, name)) for name in ("series_by", "field_map"))
        new = RunRules.of(series_by, field_map, old.version)
        # The order of names makes no difference.
        changed = [name for name in RULES if sorted(getattr(new, name)) != sorted(getattr(old, name))]
        if not changed:
            return {}
        started = Recomputation(changed[0], total=self.runs().total_in(self.pk), started_at=timestamps.now())
        return {"rules_version": old.version + 1, "recomputation": started.stored()}

    def archive_by(self, identity: Identity) -> None:
        """Archive the experiment: lists for people leave it out, but everything else works as before.

        Its content does not change, so `updated_at` does not either. An archived experiment keeps its
        `archived_at`. Raises `DoesNotExist` if the experiment is deleted.
        """
        self._set_archived_at(identity, Action.EXPERIMENT_ARCHIVED, timestamps.now())

    def restore_by(self, identity: Identity) -> None:
        """Undo `archive_by`. Raises the same error."""
        self._set_archived_at(identity, Action.EXPERIMENT_RESTORED, None)

    @in_transaction
    def _set_archived_at(self, identity: Identity, action: Action, time: datetime.datetime | None) -> None:
        self.refresh_from_db()
        before = self.archived_at
        if bool(before) == bool(time):
            return
        type(self).objects.filter(pk=self.pk).update(archived_at=time)
        self.archived_at = time
        record(action, identity, self, before={"archived_at": before}, after={"archived_at": time})

    def delete_by(self, identity: Identity | None, action: Action = Action.EXPERIMENT_DELETED) -> None:
        """Move the experiment with its runs to the trash, and record it in the audit trail. A deleted one is no error.

        One transaction replaces the experiment by a `DeletedExperiment`: its runs are hidden, and its name is free.
        A background task removes it from the trash for good (`DeletedExperimentQuerySet.purge`).
        """
        self._move_to_trash(identity, action, self.count_runs())

    @in_transaction
    def _move_to_trash(self, identity: Identity | None, action: Action, runs: int) -> None:
        document = find_raw(type(self), {"_id": self.pk.hex})
        if document is None:
            return
        stored = instance_of(type(self), *decoded([document.raw]))
        deleted_at, user = timestamps.now(), identity and identity.user
        own = {
            "deleted_at": deleted_at,
            "deleted_by": {"user_id": user.pk.hex, "name": user.email or user.subject} if user else None,
            "runs": runs,
            "purge_started_at": None,
            "purged_at": None,
        }
        delete_one(type(self), {"_id": self.pk.hex})
        insert_one(DeletedExperiment, {**document, **own})
        before = {**stored.recorded_values(), "drift_runs": runs}
        record(action, identity, stored, before=before, after={"purge_at": purge_time(deleted_at)})

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        """Delete the experiment from the command line, with `delete_by`. Return the same as Django's method."""
        self.delete_by(None)
        return 1, {self._meta.label: 1}

    def count_runs(self) -> int:
        """The number of runs, read from an index alone."""
        return self.runs().count_of(self.pk)

    @classmethod
    def runs(cls) -> Any:
        """Return the manager of drift runs by the reverse relation: `experiments` must not import `drifts`."""
        drift: Any = cls._meta.get_field("drifts").related_model
        return drift.objects

    def recorded_values(self) -> dict[str, Any]:
        """The values for the audit trail, by field."""
        rules = {"series_by": list(self.run_rules.series_by), "field_map": dict(self.run_rules.field_map)}
        return {name: getattr(self, name) for name in RECORDED} | rules

    def _record_changes(self, identity: Identity | None, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Record separate events for permissions and visibility, so that searches of the trail find them."""
        for action, names in CHANGES.items():
            was, became = ({name: values[name] for name in names} for values in (before, after))
            record(action, identity, self, before=was, after=became)

    def hand_over(self, identity: Identity, manager: User, keep: Level | None) -> None:
        """Make `manager` a manager, and set the caller's own entry to the level `keep`, or remove it.

        Entries of the caller's groups do not change. An administrator whom the list does not name gets no
        entry. Raises `VersionConflict` and changes nothing if somebody else wrote the list since this
        experiment was read.
        """
        entries = handed_over(self.permissions, identity, manager, keep)
        self._write(identity, self.version("permissions"), {"permissions": entries})

    @in_transaction
    def remove_entity(self, entity: str, successor: str | None) -> None:
        """Remove an entity from the permissions, on the command line.

        If the list would have no manager any more, the entity `successor` becomes one. Raises `NoManager` if there is
        none. A deleted experiment is no error.
        """
        try:
            self.refresh_from_db()
        except self.DoesNotExist:
            return
        entries = without(self.permissions, entity)
        if self.is_managed_only_by(entity):
            if successor is None:
                raise NoManager
            entries = [*without(entries, successor), Permission(entity=successor, level=Level.MANAGE)]
        self._write(None, None, {"permissions": entries})

    def clean(self) -> None:
        """Refuse to remove the last manager, in the admin portal too."""
        managed = type(self).objects.filter(Match({"permissions.level": Level.MANAGE.value}), pk=self.pk)
        if not has_manager(self.permissions) and managed.exists():
            raise ValidationError({"permissions": str(NoManager())})


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


# A change of the field map may change each field that `series_by` names, and is named if both change.
RULES = ("field_map", "series_by")
RETENTION_SEEN = ("retention_seen", "retention_seen_at")
WRITTEN_BY_METHODS = ("archived_at", *RULES, "rules_version", "recomputation", "restored_at", *RETENTION_SEEN)
CHANGES = {
    Action.PERMISSIONS_CHANGED: ("permissions",),
    Action.VISIBILITY_CHANGED: ("public",),
    Action.EXPERIMENT_UPDATED: (
        "name",
        "description",
        "tags",
        "config",
        "series_by",
        "field_map",
        "run_timeout",
        "retention_days",
    ),
}
RECORDED = [name for names in CHANGES.values() for name in names]
# The fields that a deleted experiment has besides those of the experiment.
OWN_FIELDS = ("deleted_at", "deleted_by", "runs", "purge_started_at", "purged_at")
OF_EARLIER_RELEASE: Mql = {"created_at": None}
PURGE_STARTED: Mql = {"purge_started_at": {"$ne": None}}
IN_TRASH: Mql = {"created_at": {"$ne": None}, "purge_started_at": None}


def with_manager(permissions: Iterable[Permission], identity: Identity) -> list[Permission]:
    """The list with the identity as a manager: its own entry is raised or added if needed."""
    entries = list(permissions)
    managed = {entry.entity for entry in entries if entry.level == Level.MANAGE}
    if identity.user is None or not managed.isdisjoint(identity.entities):
        return entries
    own = str(identity.user.id)
    return [entry for entry in entries if entry.entity != own] + [Permission(entity=own, level=Level.MANAGE)]


def completed(permissions: Iterable[Permission], identity: Identity) -> list[Permission]:
    """The list that an update by the identity stores. Unless the identity is an administrator, it stays a manager.

    Raises `NoManager` for a list without a manager.
    """
    entries = list(permissions) if identity.is_admin else with_manager(permissions, identity)
    if not has_manager(entries):
        raise NoManager
    return entries


def max_permissions(stored: Experiment | None) -> int:
    """The most entries of a new list. A longer stored list, from before this limit, may be kept or shortened."""
    return max(MAX_PERMISSIONS, len(stored.permissions) if stored else 0)


def handed_over(
    permissions: Iterable[Permission], identity: Identity, manager: User, keep: Level | None
) -> list[Permission]:
    """The list that `Experiment.hand_over` stores."""
    assert identity.user is not None
    own, new = str(identity.user.id), str(manager.id)
    before = list(permissions)
    entries = [entry for entry in before if entry.entity not in (own, new)]
    is_named = any(entry.entity in identity.entities for entry in before)
    if keep and is_named:
        entries.append(Permission(entity=own, level=keep))
    return [*entries, Permission(entity=new, level=Level.MANAGE)]


def without(permissions: Iterable[Permission], entity: str) -> list[Permission]:
    return [entry for entry in permissions if entry.entity != entity]


def has_manager(permissions: Iterable[Permission]) -> bool:
    return any(entry.level == Level.MANAGE for entry in permissions)


def canonical_entity(entity: str) -> str:
    """Return a user id in lower case, and an entitlement unchanged."""
    return entity.lower() if USER_ID.fullmatch(entity) else entity
