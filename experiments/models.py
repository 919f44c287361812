"""Experiments, and the access rule."""

import datetime
import time
import uuid
from collections.abc import Iterable
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.dispatch import Signal
from django_mongodb_backend.fields import ArrayField, EmbeddedModelArrayField
from django_mongodb_backend.models import EmbeddedModel

from accounts.models import User
from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import USER_ID, Identity
from core.identity import Level as Level  # noqa: PLC0414 - the levels are spoken of as the experiments'
from core.mongodb.base import mongodb
from core.mongodb.documents import collection_of, find_one
from core.mongodb.indexes import EmbeddedIndex
from core.mongodb.match import Match, MatchAny, Mql
from core.mongodb.querysets import FilterableQuerySet
from core.mongodb.transaction import in_transaction
from experiments import leases

# Sent with an `experiment` whose deletion began, outside of any transaction: receivers delete what belongs to it and
# may be too much for one.
deleting = Signal()


class NoManager(Exception):
    """The permission list would have no manager; the message says so and is safe to show."""

    def __init__(self) -> None:
        super().__init__("Nobody would manage the experiment any more. Keep or add an entry with the level Manage.")


class PermissionsChanged(Exception):
    """The permission list is not the one that the change was made from."""


class Permission(EmbeddedModel):
    """A level on the experiment that holds it, for a user id or an entitlement."""

    entity = models.CharField(max_length=255, help_text="A user's id, or an entitlement (a group or role).")
    level = models.CharField(max_length=6, choices=Level)

    def __str__(self) -> str:
        return f"{self.entity}: {self.level}"


class ExperimentQuerySet(FilterableQuerySet["Experiment"]):
    def by_id(self, pk: uuid.UUID) -> "Experiment | None":
        asked_for_at = time.monotonic()
        experiment = super().by_id(pk)
        if experiment:
            experiment.lease_from(asked_for_at)
        return experiment

    def visible_to(self, identity: Identity) -> Self:
        """The experiments that the identity may read: the access rule, for sets."""
        public = {"public": True}
        if not identity.entities:
            return self.where(Match(public))
        granted = granted_to(identity)
        return self.where(MatchAny([public, granted])) if granted else self.all()

    def naming(self, identity: Identity) -> Self:
        """Those whose permissions name the identity or one of its groups."""
        return self.matching({"permissions.entity": {"$in": sorted(identity.entities)}})

    def giving(self, identity: Identity, level: Level) -> Self:
        """The experiments whose list gives the identity this level or a higher one."""
        levels = [each.value for each in Level if each.includes(level)]
        entry = {"entity": {"$in": sorted(identity.entities)}, "level": {"$in": levels}}
        return self.matching({"permissions": {"$elemMatch": entry}})

    def archived(self, is_archived: bool = True) -> Self:
        """Those that are put away, or those that are not: lists for people leave them out unless asked for them."""
        return self.matching({"archived_at": {"$ne": None} if is_archived else None})

    def begin_deletion(self) -> int:
        """Have them take no more runs; return for how many of them that is new."""
        return self.filter(deletion_began=None).update(deletion_began=timestamps.now())

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete them and their drift runs, in one transaction. `Experiment.delete_by` is for those with many."""
        if self.begin_deletion():
            leases.outwait()
        return in_transaction(super().delete)

    def create_by(self, identity: Identity, **fields: Any) -> "Experiment":
        """A new experiment that its creator manages. Raises `IntegrityError` when the name is taken."""
        fields["permissions"] = with_manager(fields.get("permissions", ()), identity)

        def create() -> Experiment:
            experiment = self.create(**fields)
            record(Action.EXPERIMENT_CREATED, identity, experiment, after=experiment.recorded_values())
            return experiment

        return in_transaction(create)


class Experiment(models.Model):
    """A named container of drift runs."""

    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True, default="")
    public = models.BooleanField(default=False, help_text="Anyone may read a public experiment and its runs.")
    permissions = EmbeddedModelArrayField(Permission, default=list, blank=True)
    tags = ArrayField(models.CharField(max_length=20), default=list, blank=True)
    config = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timestamps.now, editable=False)
    updated_at = models.DateTimeField(default=timestamps.now, editable=False)
    archived_at = models.DateTimeField(null=True, editable=False, help_text="Since then lists leave it out.")
    deletion_began = models.DateTimeField(null=True, editable=False, help_text="Since then it takes no more runs.")

    objects = ExperimentQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=["name"], name="experiment_name"),)
        indexes = (
            models.Index(fields=["-created_at", "-id"], name="experiment_newest"),
            models.Index(fields=["-name", "-created_at", "-id"], name="experiment_by_name"),
            models.Index(fields=["-updated_at", "-created_at", "-id"], name="experiment_changed"),
            # Those that a member sees are merged from these two, and only by time: of several indexes for one of the
            # two conditions MongoDB takes any, whatever the sort.
            models.Index(fields=["-public", "-created_at", "-id"], name="experiment_public"),
            EmbeddedIndex(
                fields=["permissions", "-created_at", "-id"], parts={"permissions": "entity"}, name="experiment_entity"
            ),
        )

    # When it was asked for, on this process's monotonic clock, if a lease on it began then.
    asked_for_at: float = float("-inf")

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **options: Any) -> None:
        """Write it, but for what methods of their own write: who read it before does not undo that."""
        is_new = self._state.adding
        if not is_new:
            names = [field.name for field in self._meta.concrete_fields if not field.primary_key]
            options.setdefault("update_fields", [name for name in names if name not in WRITTEN_BY_METHODS])
        super().save(*args, **options)
        if not is_new:
            transaction.on_commit(leases.settle)

    def lease_from(self, asked_for_at: float) -> None:
        """Let it be gone by for the length of a lease from when it was asked for, as `leases` says.

        Not in a transaction: that shows it as it was when the transaction began, which may be long ago.
        """
        if not mongodb().in_atomic_block_mongo:
            self.asked_for_at = asked_for_at

    def level_of(self, identity: Identity) -> Level | None:
        """The identity's level on this experiment: the access rule, for one."""
        return self.level_granted_to(identity) or (Level.READ if self.public else None)

    def gives(self, identity: Identity, required: Level) -> bool:
        """Whether the identity has the level on this experiment, or a higher one."""
        level = self.level_of(identity)
        return level is not None and level.includes(required)

    def level_granted_to(self, identity: Identity) -> Level | None:
        """The highest level that the identity holds by the list, or as an admin, as far as its token reaches."""
        if not identity.scope.covers(self.pk):
            return None
        levels = [Level(entry.level) for entry in self.permissions if entry.entity in identity.entities]
        if identity.is_admin:
            levels.append(Level.MANAGE)
        highest = max(levels, key=lambda level: level.rank, default=None)
        return highest and identity.scope.lowered(highest)

    def shows_permissions_to(self, identity: Identity) -> bool:
        return self.level_granted_to(identity) is not None

    def update_by(self, identity: Identity, **changes: Any) -> None:
        """Write the named fields and no others, leaving the caller a manager.

        Raises `IntegrityError` when the name is taken, `DoesNotExist` when the experiment is gone or going,
        `NoManager` when the permissions name no manager and the caller is not to become one.
        """
        if "permissions" in changes:
            changes["permissions"] = completed(changes["permissions"], identity)
        changes["updated_at"] = timestamps.now()

        def update() -> None:
            self.refresh_from_db()
            if self.deletion_began:
                raise self.DoesNotExist
            before = self.recorded_values()
            type(self).objects.filter(pk=self.pk).update(**changes)
            self.refresh_from_db()
            self._record_changes(identity, before, self.recorded_values())

        in_transaction(update)

    def archive_by(self, identity: Identity) -> None:
        """Put it away: lists for people leave it out, and whatever works with it goes on working.

        It says what it said, so it keeps its `updated_at`. Of one that is put away already nothing
        changes. Raises `DoesNotExist` when the experiment is gone or going.
        """
        self._put_away(identity, Action.EXPERIMENT_ARCHIVED, timestamps.now())

    def restore_by(self, identity: Identity) -> None:
        """Undo `archive_by`. Raises as that does."""
        self._put_away(identity, Action.EXPERIMENT_RESTORED, None)

    def _put_away(self, identity: Identity, action: Action, at: datetime.datetime | None) -> None:
        def write() -> None:
            self.refresh_from_db()
            if self.deletion_began:
                raise self.DoesNotExist
            was = self.archived_at
            if bool(was) == bool(at):
                return
            type(self).objects.filter(pk=self.pk).update(archived_at=at)
            self.archived_at = at
            record(action, identity, self, before={"archived_at": was}, after={"archived_at": at})

        in_transaction(write)

    def delete_by(self, identity: Identity, action: Action = Action.EXPERIMENT_DELETED) -> None:
        """Delete it with its drift runs, for the audit trail to tell. One that is gone already is no error.

        It may have more runs than fit one transaction. First it is marked, and the deletion recorded; once
        that is committed its runs are deleted, batch by batch; then what is left of them, with it. If that
        is broken off, the experiment can still be read, but not changed, and goes when it is deleted again.

        No run outlives it, and none that was acknowledged is lost otherwise: whoever adds runs looks at the
        experiment again (`takes_runs`) once they are committed. If there is no mark yet, they were
        committed before it, and the deletion, which goes on after it, finds them. Else they are
        taken back, and whoever sent them is told. Whoever is done within the lease (`leases`) need not
        look again: the deletion waits for its end before it looks for runs the last time.
        """
        before = {**self.recorded_values(), "drift_runs": self.count_runs()}

        def begin() -> None:
            if type(self).objects.filter(pk=self.pk).begin_deletion():
                record(action, identity, self, before=before)

        in_transaction(begin)
        transaction.on_commit(self._finish_deletion)

    def _finish_deletion(self) -> None:
        began = time.monotonic()
        deleting.send(type(self), experiment=self)
        leases.outwait(began)
        self.delete()

    def count_runs(self) -> int:
        """How many runs it has, by an index alone."""
        return collection_of(self.drifts.model).count_documents(
            {"experiment_id": self.pk.hex}, session=mongodb().session
        )

    def takes_runs(self) -> bool:
        """Whether it is there now, or was a moment ago, and nobody began to delete it."""
        if time.monotonic() < leases.runs_out(self.asked_for_at):
            return True
        found = find_one(type(self), {"_id": self.pk.hex}, projection=["deletion_began"])
        return found is not None and found.get("deletion_began") is None

    def recorded_values(self) -> dict[str, Any]:
        """What the audit trail tells of it, by field."""
        return {name: getattr(self, name) for name in RECORDED}

    def _record_changes(self, identity: Identity, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Events of their own for who may do what, and for who may look: they are what one asks for.

        A change of these is acknowledged once it holds everywhere.
        """
        happened = set()
        for action, names in CHANGES.items():
            was, became = ({name: values[name] for name in names} for values in (before, after))
            if record(action, identity, self, before=was, after=became):
                happened.add(action)
        if happened & OF_ACCESS:
            transaction.on_commit(leases.settle)

    def hand_over(self, identity: Identity, manager: User, keep: Level | None) -> None:
        """Make `manager` a manager, and leave the caller's own entry at the level `keep`, or remove it.

        What the caller holds through groups stays. An administrator whom the list does not name
        gets no entry. Raises `PermissionsChanged`, and changes nothing, when somebody else wrote
        the list since this experiment was read.
        """
        entries = handed_over(self.permissions, identity, manager, keep)
        as_read = [{"entity": entry.entity, "level": entry.level} for entry in self.permissions]

        def hand_over() -> None:
            before = self.recorded_values()
            unchanged = type(self).objects.filter(Match({"permissions": as_read}), pk=self.pk, deletion_began=None)
            written = unchanged.update(permissions=entries, updated_at=timestamps.now())
            self.refresh_from_db()
            if not written:
                raise PermissionsChanged
            self._record_changes(identity, before, self.recorded_values())

        in_transaction(hand_over)

    def clean(self) -> None:
        """The portal, too, does not remove the last manager."""
        managed = type(self).objects.filter(Match({"permissions.level": Level.MANAGE.value}), pk=self.pk)
        if not has_manager(self.permissions) and managed.exists():
            raise ValidationError({"permissions": str(NoManager())})

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        """Delete it and its drift runs, in one transaction. `delete_by` is for those with many."""
        return type(self).objects.filter(pk=self.pk).delete()


WRITTEN_BY_METHODS = ("archived_at", "deletion_began")
CHANGES = {
    Action.PERMISSIONS_CHANGED: ("permissions",),
    Action.VISIBILITY_CHANGED: ("public",),
    Action.EXPERIMENT_UPDATED: ("name", "description", "tags", "config"),
}
OF_ACCESS = {Action.PERMISSIONS_CHANGED, Action.VISIBILITY_CHANGED}
RECORDED = [name for names in CHANGES.values() for name in names]


def granted_to(identity: Identity) -> Mql:
    """The match document of the experiments where the identity holds a level that is not everybody's."""
    document: Mql = {} if identity.is_admin else {"permissions.entity": {"$in": sorted(identity.entities)}}
    if identity.scope.experiments is not None:
        document["_id"] = {"$in": sorted(experiment.hex for experiment in identity.scope.experiments)}
    return document


def with_manager(permissions: Iterable[Permission], identity: Identity) -> list[Permission]:
    """The list, completed so that the identity manages: its own entry is raised or added where needed."""
    entries = list(permissions)
    managed = {entry.entity for entry in entries if entry.level == Level.MANAGE}
    if identity.user is None or not managed.isdisjoint(identity.entities):
        return entries
    own = str(identity.user.id)
    return [entry for entry in entries if entry.entity != own] + [Permission(entity=own, level=Level.MANAGE)]


def completed(permissions: Iterable[Permission], identity: Identity) -> list[Permission]:
    """The list as an update by the identity writes it: everyone but an administrator stays a manager.

    Raises `NoManager` for a list that names none.
    """
    entries = list(permissions) if identity.is_admin else with_manager(permissions, identity)
    if not has_manager(entries):
        raise NoManager
    return entries


def handed_over(
    permissions: Iterable[Permission], identity: Identity, manager: User, keep: Level | None
) -> list[Permission]:
    """The list as `Experiment.hand_over` writes it."""
    assert identity.user is not None
    own, new = str(identity.user.id), str(manager.id)
    before = list(permissions)
    entries = [entry for entry in before if entry.entity not in (own, new)]
    is_named = any(entry.entity in identity.entities for entry in before)
    if keep and is_named:
        entries.append(Permission(entity=own, level=keep))
    return [*entries, Permission(entity=new, level=Level.MANAGE)]


def has_manager(permissions: Iterable[Permission]) -> bool:
    return any(entry.level == Level.MANAGE for entry in permissions)


def canonical_entity(entity: str) -> str:
    """User ids in lower case, as they are compared; entitlements as they are."""
    return entity.lower() if USER_ID.fullmatch(entity) else entity
