"""Registered identities."""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
from django_mongodb_backend.fields import ArrayField

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import Identity
from core.mongodb.documents import find_one, instance_of
from core.mongodb.querysets import FilterableQuerySet
from core.mongodb.transaction import in_transaction


class UserManager(BaseUserManager.from_queryset(FilterableQuerySet)):  # type: ignore[misc]
    def get_by_natural_key(self, subject: str | None) -> "User":
        """The local account of that name: other issuers' subjects never log in with a password."""
        return self.get(issuer=settings.LOCAL_ISSUER, subject=subject)

    def known_as(self, issuer: str, subject: str) -> "User | None":
        """The user of that identity, if it is registered."""
        document = find_one(self.model, {"issuer": issuer, "subject": subject})
        return instance_of(self.model, document) if document else None

    def active(self) -> FilterableQuerySet["User"]:
        """Those who count as registered."""
        return self.filter(is_active=True)

    def register(self, identity: Identity) -> "User":
        """Register the owner of a token or login. Raises `IntegrityError` when that was done before."""
        user: User = self.model(issuer=identity.issuer, subject=identity.subject, email=identity.email)
        user.set_unusable_password()
        user.register_by(replace(identity, user=user))
        return user

    def create_superuser(self, subject: str, email: str, password: str | None = None) -> "User":
        """A local account that may use the whole admin portal. Raises `IntegrityError` when the name is taken."""
        user: User = self.model(subject=subject, email=self.normalize_email(email), is_superuser=True)
        user.set_password(password)
        user.register_by(None)
        return user


class User(AbstractBaseUser):
    """A registered identity: a person or a machine, unique by issuer and subject, never by email.

    Local accounts (`createsuperuser`) have `settings.LOCAL_ISSUER` as issuer and their name as
    subject; they alone have a usable password.
    """

    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid.uuid4, editable=False)
    issuer = models.CharField(max_length=255, default=settings.LOCAL_ISSUER)
    subject = models.CharField("subject (user name)", max_length=255)
    email = models.EmailField()
    is_active = models.BooleanField(
        "active", default=True, help_text="An account that is not active is refused as if it were not registered."
    )
    is_superuser = models.BooleanField(
        "local administrator", default=False, help_text="May use the whole admin portal with a local password."
    )
    is_staff = models.BooleanField(
        "staff",
        default=False,
        help_text="May use the admin portal for what the permissions of experiments allow; administrators may anyway.",
    )
    # What the provider said of this user in the newest of its tokens seen here, and when that was issued (in
    # seconds since 1970). Rights follow from the token at hand; these bound what a service token carries.
    entitlements = ArrayField(models.CharField(max_length=255), default=list, blank=True, editable=False)
    entitlements_issued_at = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(default=timestamps.now, editable=False)

    # Whom the session at hand makes of this user; set where a session's user is read, never stored.
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
        """What the admin portal greets by: a subject of an issuer is often no name."""
        return str(self)

    @in_transaction
    def register_by(self, identity: Identity | None) -> None:
        """Store the new user; None stands for the command line. Raises `IntegrityError` when that was done before."""
        self.save(force_insert=True)
        after = {"issuer": self.issuer, "email": self.email, "is_superuser": self.is_superuser}
        record(Action.REGISTERED, identity, self, after=after)

    @in_transaction
    def update_email(self, identity: Identity) -> None:
        """Take over the email of the user's own token. Raises `DoesNotExist` when the user is gone."""
        users = type(self).objects
        before = users.values("email").get(pk=self.pk)
        users.filter(pk=self.pk).update(email=identity.email)
        record(Action.EMAIL_CHANGED, identity, self, before=before, after={"email": identity.email})
        self.email = identity.email

    def note_entitlements(self, entitlements: Iterable[str], issued_at: int) -> None:
        """Remember what the provider says of the user, unless a token or login issued later said something."""
        latest, known_at = sorted(set(entitlements)), self.entitlements_issued_at
        if issued_at < known_at or (issued_at == known_at and latest == self.entitlements):
            return
        type(self).objects.filter(pk=self.pk, entitlements_issued_at__lte=issued_at).update(
            entitlements=latest, entitlements_issued_at=issued_at
        )

    @property
    def is_local(self) -> bool:
        return self.issuer == settings.LOCAL_ISSUER

    def has_perm(self, permission: str, obj: Any = None) -> bool:
        """For Django's admin, where a model says nothing else: an administrator may do everything, others nothing."""
        return self.identity is not None and self.identity.is_admin

    def has_module_perms(self, app_label: str) -> bool:
        return self.has_perm(app_label)
