"""Who makes a request: the user plus the entitlements of this request's token."""

import re
from dataclasses import dataclass
from enum import Enum

from django.conf import settings
from rest_framework.request import Request

from accounts.models import User

USER_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Standing(Enum):
    """What an endpoint asks of an identity as such, whatever the experiment."""

    ANYONE = "anyone"
    ADMITTED = "a valid token with a user entitlement"
    REGISTERED = "a registered user"
    ADMIN = "an administrator"


@dataclass(frozen=True)
class Identity:
    """The owner of a verified token, or nobody: `Identity()` is the anonymous one.

    Nothing of it is stored. Rights follow from the entitlements of the token at hand.
    """

    issuer: str = ""
    subject: str = ""
    email: str = ""
    entitlements: frozenset[str] = frozenset()
    user: User | None = None

    @property
    def is_anonymous(self) -> bool:
        return not self.subject

    @property
    def is_admitted(self) -> bool:
        """Whether the token carries a user entitlement, where the service asks for one."""
        wanted = {*settings.OIDC_USER_ENTITLEMENTS, *settings.OIDC_ADMIN_ENTITLEMENTS}
        asks_for_none = not settings.OIDC_USER_ENTITLEMENTS
        return not self.is_anonymous and (asks_for_none or not wanted.isdisjoint(self.entitlements))

    @property
    def is_registered(self) -> bool:
        return self.is_admitted and self.user is not None and self.user.is_active

    @property
    def is_admin(self) -> bool:
        return self.is_registered and not self.entitlements.isdisjoint(settings.OIDC_ADMIN_ENTITLEMENTS)

    @property
    def entities(self) -> frozenset[str]:
        """What a permission can name this identity by: the user's id and the entitlements."""
        if not self.is_registered or self.user is None:
            return frozenset()
        return frozenset({str(self.user.id), *filter(is_entitlement, self.entitlements)})

    def has(self, standing: Standing) -> bool:
        match standing:
            case Standing.ANYONE:
                return True
            case Standing.ADMITTED:
                return self.is_admitted
            case Standing.REGISTERED:
                return self.is_registered
            case Standing.ADMIN:
                return self.is_admin


def is_entitlement(entity: str) -> bool:
    """Whether a permission's entity is an entitlement; what looks like a user id always means the user.

    Otherwise an issuer could hand out somebody's user id as a group.
    """
    return not USER_ID.fullmatch(entity)


def identity_of_user(user: User) -> Identity:
    """The identity of somebody who is known by a session, with no token and so with no entitlements."""
    return Identity(user.issuer, user.subject, user.email, user=user)


def identity_of(request: Request) -> Identity:
    """The identity that `BearerAuthentication` found; the anonymous one where there is no token."""
    identity = request.auth
    assert isinstance(identity, Identity)
    return identity
