"""Who makes a request (the user plus the entitlements of the token or login at hand), and what can be asked of them."""

import re
import uuid
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Protocol

from django.conf import settings
from django.db import models
from django.http import HttpRequest
from rest_framework.request import Request

USER_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Level(models.TextChoices):
    """What a permission allows; each level includes the ones before it."""

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
    """How far a token reaches into what its owner may do: up to a level, in some experiments or in all (None).

    It takes away only. What lies outside its experiments is met as by someone without permissions.
    """

    cap: Level = Level.MANAGE
    experiments: frozenset[uuid.UUID] | None = None

    @property
    def is_narrow(self) -> bool:
        return self != EVERYTHING

    def covers(self, experiment_id: uuid.UUID) -> bool:
        return self.experiments is None or experiment_id in self.experiments

    def lowered(self, level: Level) -> Level:
        """The level, or the cap where that is lower."""
        return level if self.cap.includes(level) else self.cap


EVERYTHING = Scope()


class RegisteredUser(Protocol):
    """What an identity needs of its user, whom `accounts` stores."""

    id: uuid.UUID
    pk: uuid.UUID
    issuer: str
    subject: str
    email: str
    is_active: bool
    is_staff: bool


class Requirement(Enum):
    """What an endpoint asks of an identity as such, whatever the experiment."""

    ANYONE = "anyone"
    ADMITTED = "a valid token with a user entitlement"
    REGISTERED = "a registered user"
    NO_SERVICE_TOKEN = "a registered user in person, with a token of their provider: a service token will not do"  # noqa: S105
    MAY_CREATE = "a registered user; a service token will do that is narrowed to no level and to no experiments"
    STAFF = "a member of staff"
    ADMIN = "an administrator"


@dataclass(frozen=True)
class Identity:
    """The owner of a verified token or of a session, or nobody: `Identity()` is the anonymous one.

    Rights follow from the entitlements of the token or login at hand, and for a local
    administrator's session from the account.
    """

    issuer: str = ""
    subject: str = ""
    email: str = ""
    entitlements: frozenset[str] = frozenset()
    user: RegisteredUser | None = None
    is_local_administrator: bool = False
    scope: Scope = EVERYTHING
    through_service_token: bool = False
    # These admit to the service and give nothing else: a service token is admitted with its maker.
    admitted_by: frozenset[str] = frozenset()

    @property
    def is_anonymous(self) -> bool:
        return not self.subject

    @property
    def is_admitted(self) -> bool:
        """Whether the token carries a user entitlement, where the service asks for one."""
        wanted = {*settings.OIDC_USER_ENTITLEMENTS, *settings.OIDC_ADMIN_ENTITLEMENTS}
        asks_for_none = not settings.OIDC_USER_ENTITLEMENTS
        carries_one = self.is_local_administrator or not wanted.isdisjoint(self.entitlements | self.admitted_by)
        return not self.is_anonymous and (asks_for_none or carries_one)

    @property
    def is_registered(self) -> bool:
        return self.is_admitted and self.user is not None and self.user.is_active

    @cached_property
    def is_admin(self) -> bool:
        is_entitled = not self.entitlements.isdisjoint(settings.OIDC_ADMIN_ENTITLEMENTS)
        return self.is_registered and (is_entitled or self.is_local_administrator)

    @property
    def is_staff(self) -> bool:
        """Whether the admin portal is open to them: what they see and change there, the access rule says."""
        return self.is_admin or (self.is_registered and self.user is not None and self.user.is_staff)

    @cached_property
    def entities(self) -> frozenset[str]:
        """What a permission can name this identity by: the user's id and the entitlements."""
        if not self.is_registered or self.user is None:
            return frozenset()
        return frozenset({str(self.user.id), *filter(is_entitlement, self.entitlements)})

    def has(self, requirement: Requirement) -> bool:
        match requirement:
            case Requirement.ANYONE:
                holds = True
            case Requirement.ADMITTED:
                holds = self.is_admitted
            case Requirement.REGISTERED:
                holds = self.is_registered
            case Requirement.NO_SERVICE_TOKEN:
                holds = self.is_registered and not self.through_service_token
            case Requirement.MAY_CREATE:
                holds = self.is_registered and not self.scope.is_narrow
            case Requirement.STAFF:
                holds = self.is_staff and not self.through_service_token
            case Requirement.ADMIN:
                holds = self.is_admin and not self.scope.is_narrow
        return holds


def is_entitlement(entity: str) -> bool:
    """Whether a permission's entity is an entitlement; what looks like a user id always means the user.

    Otherwise an issuer could hand out somebody's user id as a group.
    """
    return not USER_ID.fullmatch(entity)


def identity_of_user(user: RegisteredUser) -> Identity:
    """The identity of somebody who is known by a session, with no token and so with no entitlements."""
    return Identity(user.issuer, user.subject, user.email, user=user)


def identity_of(request: Request) -> Identity:
    """The identity of the request's token or session; the anonymous one where there is neither."""
    identity = request.auth
    assert isinstance(identity, Identity)
    return identity


def identity_of_session(request: HttpRequest) -> Identity:
    """The identity that the request's session proves; the anonymous one where it proves none."""
    return getattr(request.user, "identity", None) or Identity()
