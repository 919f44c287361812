"""The user model."""

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import Q
from django_mongodb_backend.fields import ArrayField

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import Identity, identity_of_user
from core.mongodb.documents import find_one, instance_of
from core.mongodb.querysets import FilterableQuerySet
from core.mongodb.transaction import in_transaction

VISIT_INTERVAL = datetime.timedelta(days=1)


class UserManager(BaseUserManager.from_queryset(FilterableQuerySet)):  # type: ignore[misc]
    """Finds and registers users."""

    def get_by_natural_key(self, subject: str | None) -> "User":
        """Return the local account of this name. Users of other issuers cannot log in with a password."""
        return self.get(issuer=settings.LOCAL_ISSUER, subject=subject)

    def known_as(self, issuer: str, subject: str) -> "User | None":
        """Return the user of this identity, or None if it is not registered."""
        document = find_one(self.model, {"issuer": issuer, "subject": subject})
        return instance_of(self.model, document) if document else None

    def active(self) -> FilterableQuerySet["User"]:
        """Return the users who may use the service."""
        return self.filter(is_active=True)

    def register(self, identity: Identity) -> "User":
        """Register the owner of a token or login. Raises `IntegrityError` if they are registered already."""
        user: User = self.model(issuer=identity.issuer, subject=identity.subject, email=identity.email)
        user.set_unusable_password()
        user.register_by(replace(identity, user=user))
        return user

    def create_superuser(self, subject: str, email: str, password: str | None = None) -> "User":
        """Create a local administrator. Raises `IntegrityError` if the name is taken."""
        user: User = self.model(subject=subject, email=self.normalize_email(email), is_superuser=True)
        user.set_password(password)
        user.register_by(None)
        return user


class User(AbstractBaseUser):
    """A registered identity of a person or machine, unique by issuer and subject. Emails are not unique.

    Local accounts (`createsuperuser`) have the issuer `settings.LOCAL_ISSUER` and their name as subject. Only
    they have a usable password.
    """

    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid.uuid4, editable=False)
    issuer = models.CharField(max_length=255, default=settings.LOCAL_ISSUER)
    subject = models.CharField("subject (user name)", max_length=255)
    email = models.EmailField()
    is_active = models.BooleanField(
        "active", default=True, help_text="Accounts that are not active can neither log in nor use tokens."
    )
    is_superuser = models.BooleanField(
        "local administrator", default=False, help_text="May use the whole admin portal with a local password."
    )
    is_staff = models.BooleanField(
        "staff",
        default=False,
        help_text="May use the admin portal, within the permissions of experiments. Administrators always may.",
    )
    # The entitlements of the user's newest known token, and its time of issue in seconds since 1970. They limit
    # the entitlements of service tokens. All other rights follow from the current token.
    entitlements = ArrayField(
        models.CharField(max_length=255), verbose_name="groups and roles", default=list, blank=True, editable=False
    )
    entitlements_issued_at = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField("registered", default=timestamps.now, editable=False)
    # Accounts that an instance of an earlier release has registered have none.
    last_seen_at = models.DateTimeField("last seen", default=timestamps.now, null=True, editable=False)

    # The identity of the current session, set when its user is loaded. Not stored.
    identity: Identity | None = None

    USERNAME_FIELD = "subject"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]
    objects = UserManager()

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=["issuer", "subject"], name="user_identity"),)
        indexes = (
            models.Index(fields=["-created_at", "-id"], name="user_newest"),
            models.Index(fields=["-email", "-created_at", "-id"], name="user_email"),
            models.Index(fields=["-subject", "-created_at", "-id"], name="user_subject"),
            models.Index(fields=["-issuer", "-created_at", "-id"], name="user_issuer"),
        )

    def __str__(self) -> str:
        return self.email or self.subject

    def get_short_name(self) -> str:
        """Return the name in the admin portal's header. A subject is often not readable."""
        return str(self)

    @in_transaction
    def register_by(self, identity: Identity | None) -> None:
        """Store the new user, registered by an identity or, if None, on the command line. Raises `IntegrityError`."""
        self.save(force_insert=True)
        after = {"issuer": self.issuer, "email": self.email, "is_superuser": self.is_superuser}
        record(Action.REGISTERED, identity, self, after=after)

    def update_email(self, identity: Identity) -> None:
        """Update the email from the user's token. Raises `DoesNotExist` if the user was deleted."""
        self._store_email(identity)
        self.email = identity.email

    @in_transaction
    def _store_email(self, identity: Identity) -> None:
        users = type(self).objects
        before = users.values("email").get(pk=self.pk)
        users.filter(pk=self.pk).update(email=identity.email)
        record(Action.EMAIL_CHANGED, identity, self, before=before, after={"email": identity.email})

    def note_entitlements(self, entitlements: Iterable[str], issued_at: int) -> None:
        """Store the entitlements of a token or login, unless a newer one is known."""
        latest, known_at = sorted(set(entitlements)), self.entitlements_issued_at
        if issued_at < known_at or (issued_at == known_at and latest == self.entitlements):
            return
        type(self).objects.filter(pk=self.pk, entitlements_issued_at__lte=issued_at).update(
            entitlements=latest, entitlements_issued_at=issued_at
        )

    def record_visit(self) -> None:
        """Note that the user was here, at most once a day. The use of a service token is no visit."""
        now = timestamps.now()
        due = now - VISIT_INTERVAL
        if self.seen_at <= due:
            unrecorded = Q(last_seen_at=None) | Q(last_seen_at__lte=due)
            type(self).objects.filter(unrecorded, pk=self.pk).update(last_seen_at=now)

    @property
    def seen_at(self) -> datetime.datetime:
        """The latest visit, give or take a day: a browser login, or a request with a provider's token."""
        return self.last_seen_at or self.created_at

    @property
    def is_away(self) -> bool:
        """True for a user who was not seen for `TOKEN_OWNER_DAYS`. With 0 days, nobody is away."""
        days = settings.TOKEN_OWNER_DAYS
        return days > 0 and self.seen_at < timestamps.now() - datetime.timedelta(days=days)

    @property
    def last_identity(self) -> Identity:
        """The user's identity by the newest known entitlements, to show what it may access. It authorizes nothing."""
        return replace(
            identity_of_user(self),
            entitlements=frozenset(self.entitlements),
            is_local_administrator=self.is_local and self.is_superuser,
        )

    @property
    def is_local(self) -> bool:
        """True for local accounts, which have no OpenID provider."""
        return self.issuer == settings.LOCAL_ISSUER

    def has_perm(self, permission: str, obj: Any = None) -> bool:
        """Return whether Django's admin allows an action on a model without its own rule: administrators only."""
        return self.identity is not None and self.identity.is_admin

    def has_module_perms(self, app_label: str) -> bool:
        return self.has_perm(app_label)
