"""The identity that makes a request: the user, and the entitlements of their token or login."""

import re
import uuid
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from django.conf import settings
from django.db import models
from django.http import HttpRequest
from django.utils.functional import cached_property
from rest_framework.request import Request

USER_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
ACCOUNT_DISABLED = "This account is disabled. Ask the administrators of this service."


class Level(models.TextChoices):
    """The level of a permission. Each level includes the ones before it."""

    READ = "Read"
    EDIT = "Edit"
    MANAGE = "Manage"

    @property
    def rank(self) -> int:
        return RANKS[self]

    def includes(self, other: "Level") -> bool:
        return self.rank >= other.rank


RANKS = {level: number for number, level in enumerate(Level)}


@dataclass(frozen=True)
class Scope:
    """The limits of a token: its highest level, and its experiments (None for all).

    A scope only narrows the owner's rights. In other experiments the token has no permissions.
    """

    cap: Level = Level.MANAGE
    experiments: frozenset[uuid.UUID] | None = None

    @property
    def is_narrow(self) -> bool:
        """True if the scope is limited in any way."""
        return self != EVERYTHING

    def covers(self, experiment_id: uuid.UUID) -> bool:
        return self.experiments is None or experiment_id in self.experiments

    def lowered(self, level: Level) -> Level:
        """Return the lower of the level and the cap."""
        return level if self.cap.includes(level) else self.cap


EVERYTHING = Scope()


class RegisteredUser(Protocol):
    """The parts of a user (`accounts.models.User`) that an identity needs."""

    id: uuid.UUID
    pk: uuid.UUID
    issuer: str
    subject: str
    email: str
    is_active: bool
    is_staff: bool


class Requirement(Enum):
    """The requirement of an endpoint on the identity, independent of any experiment. The values explain a refusal."""

    ANYONE = "Everyone can do this."
    ADMITTED = "Only users with a token can do this."
    REGISTERED = "Only registered users can do this."
    NO_SERVICE_TOKEN = "Access tokens cannot do this. Log in to the pages, or send a token of your OpenID provider."  # noqa: S105
    MAY_CREATE = (
        "This token is limited to a level or to experiments, so it cannot create experiments. "
        "Use a token without limits, or log in to the pages."
    )
    MAY_LOOK_UP = (
        "This token is limited to a level or to experiments, so it cannot look up users. "
        "Use a token without limits, or send user ids."
    )
    STAFF = "Only staff can do this."
    ADMIN = "Only administrators can do this."


@dataclass(frozen=True)
class Identity:
    """The owner of a verified token or session. `Identity()` is the anonymous identity.

    Rights follow from the entitlements of the current token or login. A local administrator's rights follow
    from the account.
    """

    issuer: str = ""
    subject: str = ""
    email: str = ""
    entitlements: frozenset[str] = frozenset()
    user: RegisteredUser | None = None
    is_local_administrator: bool = False
    scope: Scope = EVERYTHING
    # True if a bearer token authenticated it, of the provider or of this service; False for a session.
    by_token: bool = False
    through_service_token: bool = False
    # Entitlements that only admit to the service: a service token is admitted if its maker is.
    admitted_by: frozenset[str] = frozenset()

    @property
    def is_anonymous(self) -> bool:
        return not self.subject

    @property
    def is_admitted(self) -> bool:
        """True if the token carries a user entitlement, or if the service requires none."""
        accepted = {*settings.OIDC_USER_ENTITLEMENTS, *settings.OIDC_ADMIN_ENTITLEMENTS}
        requires_none = not settings.OIDC_USER_ENTITLEMENTS
        carries_one = self.is_local_administrator or not accepted.isdisjoint(self.entitlements | self.admitted_by)
        return not self.is_anonymous and (requires_none or carries_one)

    @property
    def is_registered(self) -> bool:
        """True if the identity is admitted and has an active account."""
        return self.is_admitted and self.user is not None and self.user.is_active

    @cached_property
    def is_admin(self) -> bool:
        """True for registered holders of an administrative entitlement, and for local administrators."""
        is_entitled = not self.entitlements.isdisjoint(settings.OIDC_ADMIN_ENTITLEMENTS)
        return self.is_registered and (is_entitled or self.is_local_administrator)

    @property
    def is_staff(self) -> bool:
        """True if the identity may enter the admin portal. The access rule limits what they see and change there."""
        return self.is_admin or (self.is_registered and self.user is not None and self.user.is_staff)

    @cached_property
    def entities(self) -> frozenset[str]:
        """The entities by which permissions can name this identity: the user's id and the entitlements."""
        if not self.is_registered or self.user is None:
            return frozenset()
        return frozenset({str(self.user.id), *filter(is_entitlement, self.entitlements)})

    def has(self, requirement: Requirement) -> bool:
        """Return whether the identity meets the requirement."""
        match requirement:
            case Requirement.ANYONE:
                holds = True
            case Requirement.ADMITTED:
                holds = self.is_admitted
            case Requirement.REGISTERED:
                holds = self.is_registered
            case Requirement.NO_SERVICE_TOKEN:
                holds = self.is_registered and not self.through_service_token
            case Requirement.MAY_CREATE | Requirement.MAY_LOOK_UP:
                holds = self.is_registered and not self.scope.is_narrow
            case Requirement.STAFF:
                holds = self.is_staff and not self.through_service_token
            case Requirement.ADMIN:
                holds = self.is_admin and not self.scope.is_narrow
        return holds


def is_entitlement(entity: str) -> bool:
    """Return whether a permission's entity is an entitlement, that is, does not look like a user id.

    Otherwise an issuer could impersonate a user by a group named after the user's id.
    """
    return not USER_ID.fullmatch(entity)


def identity_of_user(user: RegisteredUser) -> Identity:
    """Return the identity of a user without a token, and so without entitlements."""
    return Identity(user.issuer, user.subject, user.email, user=user)


def identity_of(request: Request) -> Identity:
    """Return the identity of the request's token or session, or the anonymous identity."""
    identity = request.auth
    assert isinstance(identity, Identity)
    return identity


def identity_behind(request: HttpRequest) -> Identity:
    """Return the identity that Django REST framework has authenticated for a request, else that of its session."""
    identity = getattr(request, "auth", None)
    return identity if isinstance(identity, Identity) else identity_of_session(request)


def identity_of_session(request: HttpRequest) -> Identity:
    """Return the identity of the request's session, or the anonymous identity."""
    return getattr(request.user, "identity", None) or Identity()
