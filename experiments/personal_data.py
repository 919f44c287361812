"""The data of one account, in all packages: its export and its erasure.

Runs and experiments stay, because they belong to the experiment. Stored responses of the last day stay too: they are
sealed, and nothing tells whose they are.
"""

import time
import uuid
from collections.abc import Sequence
from copy import copy
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType

from accounts.authentication import RECENT_SECONDS
from accounts.models import ServiceToken, User
from accounts.stored_sessions import stored_sessions
from accounts.token_serializers import ServiceTokenSerializer
from audit.models import Action, Event
from audit.personal_data import erase_from_events, events_of
from audit.serializers import EventSerializer
from audit.trail import record
from core import timestamps
from core.mongodb.transaction import in_transaction
from experiments.models import DeletedExperiment, Experiment, ListedQuerySet, NoManager

ACCOUNT_FIELDS = (
    "id",
    "issuer",
    "subject",
    "email",
    "is_active",
    "is_staff",
    "is_superuser",
    "entitlements",
    "created_at",
    "last_login",
    "last_seen_at",
)


class OnlyManager(Exception):
    """The account is the only manager of experiments."""

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        super().__init__()
        self.experiments = experiments


def export_of(user: User) -> dict[str, Any]:
    """Return all that is stored about the account, without secrets, and record the export."""
    exported = {
        "exported_at": timestamps.now(),
        "account": {name: getattr(user, name) for name in ACCOUNT_FIELDS},
        "tokens": ServiceTokenSerializer(ServiceToken.objects.filter(user=user), many=True).data,
        "sessions": [
            {"id": session.id, "started_at": session.started_at, "ends_at": session.ends_at}
            for session in stored_sessions(user)
        ],
        "permissions": permissions_of(user, Experiment.objects.all()),
        "permissions_in_trash": permissions_of(user, DeletedExperiment.objects.all()),
        "portal_log": list(LogEntry.objects.filter(user=user).values("action_time", "object_repr", "change_message")),
        "events": [shown_to(user, event) for event in events_of(user.pk)],
    }
    record(Action.EXPORTED, None, user)
    return exported


def permissions_of(user: User, experiments: ListedQuerySet[Any]) -> list[dict[str, Any]]:
    """Return the user's own entries in the permission lists of the experiments."""
    return [
        {"experiment": experiment.id, "name": experiment.name, "level": permission.level}
        for experiment in named_by(str(user.pk), experiments)
        for permission in experiment.permissions
        if permission.entity == str(user.pk)
    ]


def shown_to(user: User, event: Event) -> dict[str, Any]:
    """Return the event as the user may see it: without the person, if another one has changed the account."""
    shown = dict(EventSerializer(event).data)
    if event.actor.user_id not in (None, user.pk):
        shown |= {"actor": None, "address": None, "user_agent": "", "request_id": None}
    return shown


def refuse_only_manager(user_id: uuid.UUID, successor: User | None) -> None:
    """Raise `OnlyManager` if experiments would have no manager without the user."""
    named = Experiment.objects.without_large_fields().naming_entity(str(user_id))
    if successor is None and (unmanaged := [each for each in named if each.is_managed_only_by(str(user_id))]):
        raise OnlyManager(unmanaged)


def erase(user: User, successor: User | None) -> int:
    """Erase the account, its sessions, tokens and permissions, and its person from events. Return how many these were.

    `successor` becomes the manager of experiments that would have none. Raises `OnlyManager` if there are such
    experiments and no successor: the account stays, without sessions. An interrupted erasure can be repeated.
    """
    refuse_only_manager(user.pk, successor)
    account = User.objects.filter(pk=user.pk)
    # Sessions and tokens of an account that is not active are refused.
    account.update(is_active=False)
    for session in stored_sessions(user):
        session.end()
    # Until then, other processes accept the tokens that they verified just before.
    time.sleep(RECENT_SECONDS)
    try:
        erase_permissions(user.pk, successor)
    except OnlyManager:
        account.update(is_active=user.is_active)
        raise
    about_users = ContentType.objects.get_for_model(User)
    LogEntry.objects.filter(content_type=about_users, object_id=str(user.pk)).update(object_repr=str(user.pk))
    delete_account(user)
    return erase_rest(user.pk, successor, user.issuer, user.subject, user.email)


def erase_rest(
    user_id: uuid.UUID,
    successor: User | None,
    issuer: str | None = None,
    subject: str | None = None,
    email: str | None = None,
) -> int:
    """Erase what is left of a deleted account in events, tokens and permissions. Return the number of its events.

    Requests that began before the deletion may have stored it. Raises `OnlyManager` like `erase`.
    """
    count = erase_from_events(user_id, issuer, subject, email)
    # An id that no event has may be that of a group.
    if count:
        ServiceToken.objects.filter(user=user_id).delete()
        erase_permissions(user_id, successor)
    return count


def erase_permissions(user_id: uuid.UUID, successor: User | None) -> None:
    """Remove the user from all permission lists and from the trash, until none has them.

    Running requests may still add some, and move some to the trash or back. An experiment in the trash may be left
    without a manager: administrators can restore it.
    """
    entity, heir = str(user_id), str(successor.pk) if successor else None
    while named := [*named_by(entity, Experiment.objects.all()), *named_by(entity, DeletedExperiment.objects.all())]:
        refuse_only_manager(user_id, successor)
        for experiment in named:
            try:
                experiment.remove_entity(entity, heir)
            except NoManager:
                # The other manager was removed after the check above.
                raise OnlyManager([experiment]) from None
    DeletedExperiment.objects.matching({"deleted_by.user_id": user_id.hex}).update(deleted_by=None)


def named_by(entity: str, experiments: ListedQuerySet[Any]) -> list[Any]:
    return list(experiments.without_large_fields().naming_entity(entity))


@in_transaction
def delete_account(user: User) -> None:
    """Delete the account with its tokens, and record the erasure under its id."""
    record(Action.USER_ERASED, None, User(pk=user.pk))
    # Django removes the id of the object that it deletes, and a retry needs the id.
    copy(user).delete()
