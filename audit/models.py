"""The events of the audit trail."""

import datetime
import uuid
from collections.abc import Sequence
from typing import Any, NoReturn

from django.apps import apps
from django.conf import settings
from django.db import models
from django_mongodb_backend.fields import EmbeddedModelField
from django_mongodb_backend.models import EmbeddedModel
from uuid_utils.compat import uuid7

from audit.source import Way
from core import timestamps
from core.mongodb.indexes import EmbeddedIndex, ExpiryIndex
from core.mongodb.querysets import FilterableQuerySet


class Action(models.TextChoices):
    """The kinds of events."""

    LOGIN = "login", "Login"
    LOGIN_FAILED = "login_failed", "Login failed"
    LOGOUT = "logout", "Logout"
    REGISTERED = "registered", "Registered"
    EMAIL_CHANGED = "email_changed", "Email changed"
    TOKEN_ISSUED = "token_issued", "Token created"
    TOKEN_REFRESHED = "token_refreshed", "Token refreshed"
    TOKEN_REVOKED = "token_revoked", "Token revoked"
    EXPERIMENT_CREATED = "experiment_created", "Experiment created"
    EXPERIMENT_UPDATED = "experiment_updated", "Experiment updated"
    PERMISSIONS_CHANGED = "permissions_changed", "Permissions changed"
    VISIBILITY_CHANGED = "visibility_changed", "Visibility changed"
    EXPERIMENT_ARCHIVED = "experiment_archived", "Experiment archived"
    EXPERIMENT_RESTORED = "experiment_restored", "Experiment restored"
    EXPERIMENT_DELETED = "experiment_deleted", "Experiment deleted"
    EXPERIMENT_PURGED = "experiment_purged", "Experiment purged"
    DRIFT_DELETED = "drift_deleted", "Drift run deleted"
    RUNS_REMOVED = "runs_removed", "Old drift runs removed"
    FILE_ADDED = "file_added", "File added"
    FILE_DELETED = "file_deleted", "File deleted"
    RUN_OVERDUE = "run_overdue", "Drift run overdue"
    EXPORTED = "exported", "Exported"
    IMPORTED = "imported", "Imported"
    USER_ERASED = "user_erased", "Account erased"
    ADMIN_ADDED = "admin_added", "Added in the admin portal"
    ADMIN_CHANGED = "admin_changed", "Changed in the admin portal"
    ADMIN_DELETED = "admin_deleted", "Deleted in the admin portal"


class ActorKind(models.TextChoices):
    """The kinds of actors."""

    USER = "user", "User"
    ANONYMOUS = "anonymous", "Anonymous"
    COMMAND_LINE = "command line", "Command line"
    SERVICE = "service", "Drift Watch"


# The kinds that a filter may name in place of a user, by label.
KINDS = {kind.label.lower(): kind.value for kind in ActorKind if kind is not ActorKind.USER}
# The events that the service itself causes, in background tasks.
BY_SERVICE = frozenset({Action.RUN_OVERDUE, Action.RUNS_REMOVED, Action.EXPERIMENT_PURGED})


class Actor(EmbeddedModel):
    """A copy of the user at the time of the event, which outlives changes and deletion of the user."""

    kind = models.CharField(max_length=12, choices=ActorKind)
    user_id = models.UUIDField(null=True)
    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    email = models.CharField(max_length=254)

    def __str__(self) -> str:
        # An erased user has neither email nor subject.
        return self.email or self.subject or ("Erased user" if self.user_id else str(ActorKind(self.kind).label))


class Target(EmbeddedModel):
    """The changed object, with its name at the time of the event."""

    type = models.CharField(max_length=50)
    object_id = models.CharField(max_length=255)
    name = models.CharField(max_length=400)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()

    @property
    def kind(self) -> str:
        """The type in words, such as "access token"."""
        model = model_of(self)
        return str(model._meta.verbose_name) if model else self.type


def model_of(target: Target) -> type[models.Model] | None:
    """Return the model of the object; None without an object, or if this release has no such model."""
    return next((model for model in apps.get_models() if model._meta.model_name == target.type), None)


class AppendOnly(Exception):
    """Code tried to change or delete a recorded event."""


class EventQuerySet(FilterableQuerySet["Event"]):
    """Selects events, and refuses to change or delete them."""

    def in_experiment(self, experiment_id: uuid.UUID) -> "EventQuerySet":
        """Return the events of an experiment, of its runs and of their files."""
        return self.matching({"experiment_id": experiment_id.hex})

    def by(self, actor: str) -> "EventQuerySet":
        """Return the events of the actor with this user id or email, or of a kind of actor, such as "Command line"."""
        if kind := KINDS.get(actor.lower()):
            return self.matching({"actor.kind": kind})
        try:
            return self.matching({"actor.user_id": uuid.UUID(actor).hex})
        except ValueError:
            return self.matching({"actor.email": actor})

    def chosen_by(
        self,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        action: str | None = None,
        actor: str | None = None,
    ) -> "EventQuerySet":
        """Return the events of an action and an actor, from `since` to before `until`. None means any."""
        times = {"$gte": since, "$lt": until}
        given = {operator: time for operator, time in times.items() if time}
        chosen = self.matching({"created_at": given} if given else {}).matching({"action": action} if action else {})
        return chosen.by(actor) if actor else chosen

    def changed_fields(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[str]]:
        """Map the events with these ids to the names of the fields that they changed."""
        values = {"$objectToArray": {"$mergeObjects": ["$before", "$after"]}}
        names = {"$project": {"names": {"$map": {"input": values, "in": "$$this.k"}}}}
        found = self.matching({"_id": {"$in": [pk.hex for pk in ids]}}).aggregated(names)
        return {uuid.UUID(event["_id"]): event["names"] for event in found}

    def update(self, **changes: Any) -> NoReturn:
        refuse()

    def bulk_update(self, *args: Any, **options: Any) -> NoReturn:
        refuse()

    def delete(self) -> NoReturn:
        refuse()


def expiry() -> datetime.datetime:
    return timestamps.now() + datetime.timedelta(days=settings.AUDIT_DAYS)


class Event(models.Model):
    """An audit event: who did what to which object, when, from where, and which values changed.

    Events are only added. MongoDB deletes them when they expire.
    """

    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid7, editable=False)
    created_at = models.DateTimeField("time", default=timestamps.now, editable=False)
    expires_at = models.DateTimeField("expires", default=expiry, editable=False)
    action = models.CharField(max_length=30, choices=Action)
    actor = EmbeddedModelField(Actor)
    target = EmbeddedModelField(Target)
    experiment_id = models.UUIDField(null=True, help_text="The experiment, if the event is about one.")
    address = models.CharField(max_length=60, null=True, help_text="The client's IP address.")
    user_agent = models.CharField(max_length=300)
    request_id = models.CharField(
        "request id", max_length=64, null=True, help_text="The X-Request-ID, under which the log has the request."
    )
    way = models.CharField("signed in with", max_length=7, choices=Way, help_text="How the actor authenticated.")
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = (
            models.Index(fields=["-created_at", "-id"], name="event_newest"),
            models.Index(fields=["-action", "-created_at", "-id"], name="event_action"),
            models.Index(fields=["experiment_id", "-created_at", "-id"], name="event_experiment"),
            models.Index(fields=["experiment_id", "-action", "-created_at", "-id"], name="event_experiment_action"),
            EmbeddedIndex(fields=["actor", "-created_at", "-id"], parts={"actor": "user_id"}, name="event_actor"),
            EmbeddedIndex(fields=["actor", "-created_at", "-id"], parts={"actor": "email"}, name="event_email"),
            EmbeddedIndex(fields=["target", "-created_at", "-id"], parts={"target": "object_id"}, name="event_target"),
            models.Index(fields=["request_id"], condition=models.Q(request_id__gt=""), name="event_request"),
            ExpiryIndex(fields=["expires_at"], name="event_expiry"),
        )

    def __str__(self) -> str:
        return f"{self.get_action_display()}, {self.created_at:%Y-%m-%d %H:%M:%S} UTC"

    def save(self, *args: Any, **options: Any) -> None:
        if not self._state.adding:
            refuse()
        super().save(force_insert=True)

    def delete(self, *args: Any, **options: Any) -> NoReturn:
        refuse()


def refuse() -> NoReturn:
    raise AppendOnly("The audit trail is append-only: events are never changed, and MongoDB removes them in time.")
