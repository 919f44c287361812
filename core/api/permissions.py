"""The permission check of every view."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from core.api.exceptions import LevelRequired
from core.identity import ACCOUNT_DISABLED, Identity, Level, Requirement, identity_of

if TYPE_CHECKING:
    from core.api.resource import Resource


SEND_TOKEN = "Send your token: Authorization: Bearer <token>."  # noqa: S105 - not a secret


class Guarded(Protocol):
    """An object with levels of access: an experiment."""

    def level_of(self, identity: Identity) -> Level | None: ...

    def gives(self, identity: Identity, required: Level) -> bool: ...


class RequiredLevels(BasePermission):
    """Allows an action if the caller meets the view's `required_levels` for it."""

    def has_permission(self, request: Request, view: Resource) -> bool:  # type: ignore[override]
        required: Requirement | Level | None = view.required_levels.get(view.action)
        if required is None:
            raise PermissionDenied("This service does not allow this action.")
        requirement, identity = requirement_for(required), identity_of(request)
        if not identity.has(requirement):
            refuse(identity, requirement)
        return True

    def has_object_permission(self, request: Request, view: Resource, guarded: Guarded) -> bool:  # type: ignore[override]
        require_level(identity_of(request), guarded, view.required_levels[view.action])
        return True


def require_level(identity: Identity, guarded: Guarded, required: Level) -> None:
    """Raise a 403 unless the identity has the level on the object."""
    if not guarded.gives(identity, required):
        refuse_level(identity, guarded.level_of(identity), required)


def requirement_for(required: Requirement | Level) -> Requirement:
    """Return the requirement before the experiment is known: reading a public one needs no user, changes do."""
    if isinstance(required, Requirement):
        return required
    return Requirement.ANYONE if required is Level.READ else Requirement.REGISTERED


def refuse(identity: Identity, requirement: Requirement) -> NoReturn:
    """Raise a 401 for an anonymous identity, else a 403 with the reason."""
    if identity.is_anonymous:
        # The sentences of these are about the token of a registered user.
        is_of_users = requirement in (
            Requirement.NO_SERVICE_TOKEN,
            Requirement.MAY_CREATE,
            Requirement.MAY_LOOK_UP,
        )
        raise NotAuthenticated(f"{(Requirement.REGISTERED if is_of_users else requirement).value} {SEND_TOKEN}")
    needs_administrator = requirement in (Requirement.STAFF, Requirement.ADMIN)
    advice = " Ask an administrator." if needs_administrator else ""
    raise PermissionDenied(reason(identity) or f"{requirement.value}{advice}")


def refuse_level(identity: Identity, level: Level | None, required: Level) -> NoReturn:
    """Raise a 403 that names the identity's level and the required one."""
    if not identity.is_anonymous and (problem := reason(identity)):
        raise PermissionDenied(problem)
    has = f", and have {level}" if level else ""
    hint = SEND_TOKEN if identity.is_anonymous else "Ask one of its managers."
    raise LevelRequired(f"You need {required} access to this experiment{has}. {hint}", required, level)


def reason(identity: Identity) -> str | None:
    """Return why the token's owner does not count as a registered user, or None if they do."""
    if not identity.is_admitted:
        return "None of your groups or roles may use this service. Ask its administrators for access."
    if identity.user is None:
        return "You are not registered. Log in to the pages once, or send POST /api/v1/user."
    if not identity.user.is_active:
        return ACCOUNT_DISABLED
    return None
