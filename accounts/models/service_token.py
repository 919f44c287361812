"""The records of the tokens that Drift Watch signs itself: what one may, how long, and whether it still does."""

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

# Uses are recorded to the minute: a busy pipeline's token is not written at every request.
USE_INTERVAL = datetime.timedelta(minutes=1)


class TokenState(models.TextChoices):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ServiceTokenQuerySet(FilterableQuerySet["ServiceToken"]):
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
        """A new record, made `by` its user or on the command line.

        Raises `IntegrityError` when the user has a token of this name that is not revoked.
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
        """The token of that id and the user who made it, read together; None where one of the two is gone."""
        users = {"from": User._meta.db_table, "localField": "user_id", "foreignField": "_id", "as": "users"}
        found = aggregate(self.model, [{"$match": {"_id": pk.hex}}, {"$lookup": users}])
        if not found or not found[0]["users"]:
            return None
        token = instance_of(self.model, found[0])
        token.user = instance_of(User, found[0]["users"][0])
        return token

    def in_state(self, state: TokenState) -> Self:
        match state:
            case TokenState.REVOKED:
                return self.filter(revoked_at__isnull=False)
            case TokenState.EXPIRED:
                return self.filter(revoked_at=None, expires_at__lte=timestamps.now())
            case TokenState.ACTIVE:
                return self.filter(revoked_at=None, expires_at__gt=timestamps.now())

    @in_transaction
    def revoke(self, by: Identity | None = None) -> int:
        """Have every worker refuse the tokens from now on. Return how many were not revoked before."""
        active = list(self.filter(revoked_at=None))
        for token in active:
            record(Action.TOKEN_REVOKED, by, token, before=token.recorded_values())
        revoked = type(self)(self.model).filter(pk__in=[token.pk for token in active])
        return revoked.update(revoked_at=timestamps.now(), held_name=None)


class ServiceToken(models.Model):
    """A token for a pipeline, signed by Drift Watch, that stands for the user who made it.

    Its rights are those of its maker at the time of use, less what the token itself leaves out. It is looked
    up at each use: a signature alone opens nothing.
    """

    # The `jti` of the access token.
    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="service_tokens", db_index=False, verbose_name="maker")
    name = models.CharField(max_length=255)
    # The name again, as long as no other token of the user may have it; a revoked token gives it back.
    held_name = models.CharField(max_length=255, null=True, editable=False)
    level = models.CharField(max_length=6, choices=Level, default=Level.MANAGE, help_text="Its level is never higher.")
    experiments = ArrayField(
        models.CharField(max_length=36), default=list, blank=True, help_text="It reaches these only; none means all."
    )
    entitlements = ArrayField(models.CharField(max_length=255), default=list, blank=True)
    issued_by_operator = models.BooleanField(
        default=False, help_text="Made by `manage.py token`: carries its entitlements whatever the provider says."
    )
    # The `jti` of the only refresh token that may be exchanged; None where there is none.
    refresh_id = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField(default=timestamps.now, editable=False)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ServiceTokenQuerySet.as_manager()

    class Meta:
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
        if self.revoked_at:
            return TokenState.REVOKED
        return TokenState.ACTIVE if self.expires_at > timestamps.now() else TokenState.EXPIRED

    @property
    def scope(self) -> Scope:
        experiments = frozenset(map(uuid.UUID, self.experiments)) if self.experiments else None
        return Scope(Level(self.level), experiments)

    @property
    def entitlements_in_force(self) -> frozenset[str]:
        """What it carries now: nothing that its maker has lost, and no administrator's rights.

        An operator, who could write to the database as well, is taken at their word.
        """
        own = frozenset(self.entitlements)
        return own if self.issued_by_operator else delegable(own.intersection(self.user.entitlements))

    @property
    def admitted_by(self) -> frozenset[str]:
        """What admits its maker to the service, and the token with them."""
        return frozenset() if self.issued_by_operator else frozenset(self.user.entitlements)

    def recorded_values(self) -> dict[str, Any]:
        """What the audit trail tells of it."""
        names = ("name", "level", "experiments", "entitlements", "issued_by_operator", "expires_at")
        return {name: getattr(self, name) for name in names}

    def record_use(self) -> None:
        now = timestamps.now()
        due = now - USE_INTERVAL
        if self.last_used_at is None or self.last_used_at <= due:
            unrecorded = Q(last_used_at=None) | Q(last_used_at__lte=due)
            type(self).objects.filter(unrecorded, pk=self.pk).update(last_used_at=now)

    def rotate(self, refresh_id: uuid.UUID) -> bool:
        """Exchange the current refresh id for a new one. One that is not current revokes the token.

        Of those who come with the same id one is first; for the others, as for a thief or for the
        robbed, it is used up. Nobody can tell which of them is which: all of them lose access
        (RFC 9700, section 4.14.2).
        """
        this, fresh = type(self).objects.filter(pk=self.pk), uuid.uuid4()
        if this.filter(refresh_id=refresh_id, revoked_at=None).update(refresh_id=fresh):
            self.refresh_id = fresh
            return True
        this.revoke()
        return False


def delegable(entitlements: Iterable[str]) -> frozenset[str]:
    """Those that a service token may carry: administration is for people."""
    return frozenset(entitlements).difference(settings.OIDC_ADMIN_ENTITLEMENTS)
