"""Service tokens: their rights, lifetime and revocation."""

import datetime
import uuid
from collections.abc import Iterable
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django_mongodb_backend.fields import ArrayField

from accounts.models.user import User
from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import Identity, Level, Scope
from core.mongodb.documents import aggregate, instance_of
from core.mongodb.querysets import FilterableQuerySet
from core.mongodb.transaction import in_transaction

# Uses are recorded at most once a minute, to avoid a write at every request.
USE_INTERVAL = datetime.timedelta(minutes=1)


class TokenState(models.TextChoices):
    """The states of a service token."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ServiceTokenQuerySet(FilterableQuerySet["ServiceToken"]):
    """Issues, finds and revokes service tokens."""

    @in_transaction
    def issue(
        self,
        user: User,
        name: str,
        lifetime: datetime.timedelta,
        *,
        by: Identity | None = None,
        refreshable: bool = False,
        **rights: Any,
    ) -> "ServiceToken":
        """Create a token. `by` is its user's identity, or None on the command line.

        Raises `IntegrityError` if the user has a token of this name that is not revoked.
        """
        created_at = timestamps.now()
        token = self.create(
            user=user,
            name=name,
            held_name=name,
            created_at=created_at,
            expires_at=created_at + lifetime,
            refresh_id=uuid.uuid4() if refreshable else None,
            **rights,
        )
        record(Action.TOKEN_ISSUED, by, token, after={"user": str(user.pk), **token.recorded_values()})
        return token

    def with_user(self, pk: uuid.UUID) -> "ServiceToken | None":
        """Return the token with this id and its user, in one query, or None if either does not exist."""
        users = {"from": User._meta.db_table, "localField": "user_id", "foreignField": "_id", "as": "users"}
        found = aggregate(self.model, [{"$match": {"_id": pk.hex}}, {"$lookup": users}])
        if not found or not found[0]["users"]:
            return None
        token = instance_of(self.model, found[0])
        token.user = instance_of(User, found[0]["users"][0])
        return token

    def in_state(self, state: TokenState) -> Self:
        """Return the tokens that are now in this state."""
        match state:
            case TokenState.REVOKED:
                return self.filter(revoked_at__isnull=False)
            case TokenState.EXPIRED:
                return self.filter(revoked_at=None, expires_at__lte=timestamps.now())
            case TokenState.ACTIVE:
                return self.filter(revoked_at=None, expires_at__gt=timestamps.now())

    @in_transaction
    def revoke(self, by: Identity | None = None) -> int:
        """Revoke the tokens, with immediate effect in all workers. Return how many were not revoked before."""
        active = list(self.filter(revoked_at=None))
        for token in active:
            record(Action.TOKEN_REVOKED, by, token, before=token.recorded_values())
        revoked = type(self)(self.model).filter(pk__in=[token.pk for token in active])
        return revoked.update(revoked_at=timestamps.now(), held_name=None)


class ServiceToken(models.Model):
    """A token for a pipeline, signed by Drift Watch, with the identity of the user who created it.

    Its rights are the user's current rights, within the limits of the token. The record is read at each use: a
    valid signature is not enough.
    """

    # The `jti` of the access token.
    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="service_tokens", db_index=False, verbose_name="owner")
    name = models.CharField(max_length=255)
    # The name while it is reserved. Revoking the token sets None, so that the user can use the name again.
    held_name = models.CharField(max_length=255, null=True, editable=False)
    level = models.CharField(max_length=6, choices=Level, default=Level.MANAGE, help_text="The token's highest level.")
    experiments = ArrayField(
        models.CharField(max_length=36),
        default=list,
        blank=True,
        help_text="The experiments that the token may use; none means all.",
    )
    entitlements = ArrayField(
        models.CharField(max_length=255), verbose_name="groups and roles", default=list, blank=True
    )
    issued_by_operator = models.BooleanField(
        "from the command line",
        default=False,
        help_text="Whether the token was created on the command line. Such a token keeps its groups and roles, "
        "even if the provider removes them.",
    )
    # The `jti` of the current refresh token; None if the token cannot be refreshed.
    refresh_id = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField("created", default=timestamps.now, editable=False)
    expires_at = models.DateTimeField("expires")
    last_used_at = models.DateTimeField("last used", null=True, editable=False)
    revoked_at = models.DateTimeField("revoked", null=True, editable=False)

    objects = ServiceTokenQuerySet.as_manager()

    class Meta:
        verbose_name = "access token"
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=["user", "held_name"], name="service_token_name"),)
        indexes = (
            models.Index(fields=["user", "-created_at", "-id"], name="service_token_of_user"),
            models.Index(fields=["-created_at", "-id"], name="service_token_newest"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def state(self) -> TokenState:
        """The current state; revoked takes precedence over expired."""
        if self.revoked_at:
            return TokenState.REVOKED
        return TokenState.ACTIVE if self.expires_at > timestamps.now() else TokenState.EXPIRED

    @property
    def is_usable(self) -> bool:
        """True unless the token is revoked, or expired for longer than the leeway."""
        leeway = datetime.timedelta(seconds=settings.TOKEN_LEEWAY_SECONDS)
        return self.revoked_at is None and self.expires_at + leeway > timestamps.now()

    @property
    def scope(self) -> Scope:
        """The highest level and the experiments of the token."""
        experiments = frozenset(map(uuid.UUID, self.experiments)) if self.experiments else None
        return Scope(Level(self.level), experiments)

    @property
    def entitlements_in_force(self) -> frozenset[str]:
        """The entitlements that the token carries now: those its user still has, except administrative ones.

        A token issued by an operator carries all its entitlements: operators can write to the database anyway.
        """
        own = frozenset(self.entitlements)
        return own if self.issued_by_operator else delegable(own.intersection(self.user.entitlements))

    @property
    def admitted_by(self) -> frozenset[str]:
        """The user's entitlements, which admit the token to the service but give no permissions."""
        return frozenset() if self.issued_by_operator else frozenset(self.user.entitlements)

    def recorded_values(self) -> dict[str, Any]:
        """Return the values that the audit trail records."""
        names = ("name", "level", "experiments", "entitlements", "issued_by_operator", "expires_at")
        return {name: getattr(self, name) for name in names}

    def record_use(self) -> None:
        """Set `last_used_at` to now, unless it was set within the last minute."""
        now = timestamps.now()
        due = now - USE_INTERVAL
        if self.last_used_at is None or self.last_used_at <= due:
            unrecorded = Q(last_used_at=None) | Q(last_used_at__lte=due)
            type(self).objects.filter(unrecorded, pk=self.pk).update(last_used_at=now)

    @in_transaction
    def rotate(self, refresh_id: uuid.UUID, by: Identity) -> bool:
        """Replace the current refresh id and return True, or revoke the token and return False.

        `by` is the identity of the token. The event of a revocation names nobody.

        A refresh id works once. A second use means that it was stolen, and the service cannot tell the thief from
        the owner. The token is therefore revoked for both (RFC 9700, section 4.14.2).
        """
        stored, new_id = type(self).objects.filter(pk=self.pk), uuid.uuid4()
        if stored.filter(refresh_id=refresh_id, revoked_at=None).update(refresh_id=new_id):
            self.refresh_id = new_id
            record(Action.TOKEN_REFRESHED, by, self)
            return True
        stored.revoke(Identity(by_token=True))
        return False


def delegable(entitlements: Iterable[str]) -> frozenset[str]:
    """Return the entitlements that service tokens may carry: all but those of administrators."""
    return frozenset(entitlements).difference(settings.OIDC_ADMIN_ENTITLEMENTS)
