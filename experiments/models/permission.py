"""Permission lists of experiments: their entries, and the lists that changes lead to."""

from collections.abc import Iterable

from django.db import models
from django_mongodb_backend.models import EmbeddedModel

from accounts.models import User
from core.identity import USER_ID, Identity, Level
from experiments.access import AccessControlled

MAX_PERMISSIONS = 1_000
TOO_MANY_PERMISSIONS = "At most {:,} entries are allowed. Remove some."


class NoManager(Exception):
    """Raised for a permission list without a manager. The message is safe to show."""

    def __init__(self) -> None:
        super().__init__("The experiment needs a manager. Keep or add an entry with the level Manage.")


class Permission(EmbeddedModel):
    """An entry of an experiment's permission list: a level for a user id or an entitlement."""

    entity = models.CharField(max_length=255, help_text="A user's id, or an entitlement (a group or role).")
    level = models.CharField(max_length=6, choices=Level)

    def __str__(self) -> str:
        return f"{self.entity}: {self.level}"


def with_manager(permissions: Iterable[Permission], identity: Identity) -> list[Permission]:
    """The list with the identity as a manager: its own entry is raised or added if needed."""
    entries = list(permissions)
    managed = {entry.entity for entry in entries if entry.level == Level.MANAGE}
    if identity.user is None or not managed.isdisjoint(identity.entities):
        return entries
    own = str(identity.user.id)
    return [entry for entry in entries if entry.entity != own] + [Permission(entity=own, level=Level.MANAGE)]


def completed(permissions: Iterable[Permission], identity: Identity) -> list[Permission]:
    """The list that an update by the identity stores. Unless the identity is an administrator, it stays a manager.

    Raises `NoManager` for a list without a manager.
    """
    entries = list(permissions) if identity.is_admin else with_manager(permissions, identity)
    if not has_manager(entries):
        raise NoManager
    return entries


def max_permissions(stored: AccessControlled | None) -> int:
    """The most entries of a new list. A longer stored list, from before this limit, may be kept or shortened."""
    return max(MAX_PERMISSIONS, len(stored.permissions) if stored else 0)


def handed_over(
    permissions: Iterable[Permission], identity: Identity, manager: User, keep: Level | None
) -> list[Permission]:
    """The list that `Experiment.hand_over` stores."""
    assert identity.user is not None
    own, new = str(identity.user.id), str(manager.id)
    before = list(permissions)
    entries = [entry for entry in before if entry.entity not in (own, new)]
    is_named = any(entry.entity in identity.entities for entry in before)
    if keep and is_named:
        entries.append(Permission(entity=own, level=keep))
    return [*entries, Permission(entity=new, level=Level.MANAGE)]


def without(permissions: Iterable[Permission], entity: str) -> list[Permission]:
    return [entry for entry in permissions if entry.entity != entity]


def has_manager(permissions: Iterable[Permission]) -> bool:
    return any(entry.level == Level.MANAGE for entry in permissions)


def canonical_entity(entity: str) -> str:
    """Return a user id in lower case, and an entitlement unchanged."""
    return entity.lower() if USER_ID.fullmatch(entity) else entity
