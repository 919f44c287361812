"""Experiments."""

import datetime
import json
import uuid
from typing import Any, Self, TypeVar

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django_mongodb_backend.fields import ArrayField, EmbeddedModelArrayField

from accounts.models import User
from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import Identity, Level
from core.mongodb.documents import decoded, delete_one, find_one, find_raw, instance_of
from core.mongodb.indexes import EmbeddedIndex
from core.mongodb.match import Match
from core.mongodb.querysets import FilterableQuerySet
from core.mongodb.transaction import in_transaction
from core.tags import MAX_TAG
from core.versions import VersionConflict, version_of_fields
from experiments.access import AccessControlled, ExperimentReference, entry_giving, readable_by
from experiments.models.permission import (
    NoManager,
    Permission,
    completed,
    handed_over,
    has_manager,
    with_manager,
    without,
)
from experiments.run_rules import Recomputation, RunRules

# A request takes less. So long after the deletion of an experiment it may add runs, and so long after a change of rules
# it may store runs by the older ones. The clocks of two instances of the service must differ by less.
LONGEST_REQUEST = datetime.timedelta(minutes=2)
# The most characters of a configuration in a form.
MAX_CONFIG_TEXT = 100_000
M_co = TypeVar("M_co", bound=models.Model, covariant=True)
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
        delete_one(type(self), {"_id": self.pk.hex})
        purge_at = self.trash().add(document, identity, runs)
        before = {**stored.recorded_values(), "drift_runs": runs}
        record(action, identity, stored, before=before, after={"purge_at": purge_at})

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

    @classmethod
    def trash(cls) -> Any:
        """Return the manager of deleted experiments by the name of their model, which imports this one."""
        deleted: Any = apps.get_model(cls._meta.app_label, "DeletedExperiment")
        return deleted.objects

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
