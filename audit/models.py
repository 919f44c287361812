"""The events of the audit trail."""

import datetime
import uuid
from typing import Any, NoReturn

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

    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGOUT = "logout"
    REGISTERED = "registered"
    EMAIL_CHANGED = "email_changed"
    TOKEN_ISSUED = "token_issued"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    EXPERIMENT_CREATED = "experiment_created"
    EXPERIMENT_UPDATED = "experiment_updated"
    PERMISSIONS_CHANGED = "permissions_changed"
    VISIBILITY_CHANGED = "visibility_changed"
    EXPERIMENT_ARCHIVED = "experiment_archived"
    EXPERIMENT_RESTORED = "experiment_restored"
    EXPERIMENT_DELETED = "experiment_deleted"
    DRIFT_DELETED = "drift_deleted"
    ADMIN_ADDED = "admin_added"
    ADMIN_CHANGED = "admin_changed"
    ADMIN_DELETED = "admin_deleted"


class ActorKind(models.TextChoices):
    """The kinds of actors."""

    USER = "user"
    ANONYMOUS = "anonymous"
    COMMAND_LINE = "command line"


class Actor(EmbeddedModel):
    """A copy of the user at the time of the event, which outlives changes and deletion of the user."""

    kind = models.CharField(max_length=12, choices=ActorKind)
    user_id = models.UUIDField(null=True)
    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    email = models.CharField(max_length=254)

    def __str__(self) -> str:
        return self.email or self.subject or self.kind


class Target(EmbeddedModel):
    """The changed object, with its name at the time of the event."""

    type = models.CharField(max_length=50)
    object_id = models.CharField(max_length=255)
    name = models.CharField(max_length=400)

    def __str__(self) -> str:
        return f"{self.type} {self.name}".strip()


class AppendOnly(Exception):
    """Code tried to change or delete a recorded event."""


class EventQuerySet(FilterableQuerySet["Event"]):
    """Selects events, and refuses to change or delete them."""

    def by(self, actor: str) -> "EventQuerySet":
        """Return the events of the actor with this user id or email."""
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
    created_at = models.DateTimeField(default=timestamps.now, editable=False)
    expires_at = models.DateTimeField(default=expiry, editable=False)
    action = models.CharField(max_length=30, choices=Action)
    actor = EmbeddedModelField(Actor)
    target = EmbeddedModelField(Target)
    experiment_id = models.UUIDField(null=True, help_text="The experiment that it concerns, if any.")
    address = models.CharField(max_length=60, null=True, help_text="The client's IP address.")
    user_agent = models.CharField(max_length=300)
    way = models.CharField(max_length=7, choices=Way, help_text="How the actor came in.")
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
            ExpiryIndex(fields=["expires_at"], name="event_expiry"),
        )

    def __str__(self) -> str:
        return f"{self.action} {self.created_at:%Y-%m-%d %H:%M:%S}"

    def save(self, *args: Any, **options: Any) -> None:
        if not self._state.adding:
            refuse()
        super().save(force_insert=True)

    def delete(self, *args: Any, **options: Any) -> NoReturn:
        refuse()


def refuse() -> NoReturn:
    raise AppendOnly("The audit trail is append-only: events are never changed, and MongoDB removes them in time.")
