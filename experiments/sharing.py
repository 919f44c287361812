"""Sharing of experiments: whom an entity names, who has access and why, and the effect of a change."""

import datetime
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from rest_framework.exceptions import PermissionDenied

from accounts.models import User
from core.api.throttling import count_lookup
from core.identity import USER_ID, Identity, Level, Requirement, is_entitlement
from core.mongodb.documents import instances_of
from core.mongodb.order import NEWEST_FIRST
from core.totals import Total, total_of
from core.versions import version_of
from experiments.access import granted_to, highest
from experiments.models import Experiment, Permission, canonical_entity

# The most experiments of an overview.
MAX_LISTED = 50
# The fields that decide who has access.
SHARED = ("permissions", "public")
NOBODY = "No registered user has this {}. People appear after their first login."
SEVERAL = "Several registered users have this email. Enter a user id instead."
WHOLE = "All your access is listed."
PARTIAL = (
    "Only direct, named-group and public access is known. A person may have more through their groups, or as an "
    "administrator."
)


class UnknownUser(Exception):
    """Raised unless an entity names exactly one registered user. The message gives the reason and is safe to show."""


@dataclass(frozen=True)
class Reason:
    """The reason for a level: `via` is direct, group, public or admin; `entity` is the entry that gives it."""

    via: str
    entity: str | None
    level: Level


@dataclass(frozen=True)
class Access:
    """The level of an entity on an experiment, with its reasons. `complete` is False if there may be others."""

    entity: str | None
    level: Level | None
    reasons: list[Reason]
    complete: bool
    note: str


@dataclass(frozen=True)
class Overview:
    """The access of a user to all experiments, by the newest known groups of the user.

    `named` are the newest experiments whose permissions name the user or a group of the user, and `total` the number
    of all of these. `public` is the number of public experiments, and `managed` that of all experiments, if the user
    is an administrator.
    """

    user: User
    groups_known_at: datetime.datetime | None
    named: list[tuple[Experiment, Access]]
    total: Total
    public: Total
    managed: Total | None

    @property
    def holder(self) -> "Holder":
        return Holder(str(self.user.pk), self.user.email)


@dataclass(frozen=True)
class Change:
    """The level that the permission list gives an entity before and after a change."""

    entity: str
    before: Level | None
    after: Level | None


@dataclass(frozen=True)
class Preview:
    """The gains and losses of a change, and the flag `public` before and after it.

    `version` is the version of the experiment's permissions and of `public` before the change.
    """

    gains: list[Change]
    losses: list[Change]
    public: Mapping[str, bool]
    version: str

    @property
    def confirmation(self) -> str:
        """The token that proves that a person has seen this preview. Any other change has another token."""
        changes = [(change.entity, change.before, change.after) for change in (*self.gains, *self.losses)]
        return version_of([self.version, changes, self.public])

    @property
    def is_change(self) -> bool:
        return bool(self.gains or self.losses) or self.public["before"] != self.public["after"]

    def rows(self) -> dict[str, list[tuple["Holder", Change]]]:
        """Return the gains and the losses by their title, each change with its holder."""
        known = holders(change.entity for change in (*self.gains, *self.losses))
        parts = {"More access": self.gains, "Less access": self.losses}
        return {title: [(known[change.entity], change) for change in changes] for title, changes in parts.items()}


@dataclass(frozen=True)
class Holder:
    """The holder of an entry: a user with an `email`, an entitlement, or the id of no active user."""

    entity: str
    email: str | None = None

    @property
    def is_entitlement(self) -> bool:
        return is_entitlement(self.entity)

    def __str__(self) -> str:
        return self.email or self.entity


def access_of(experiment: Experiment, identity: Identity) -> Access:
    """The caller's own access, within the scope of their token. All reasons are known."""
    own = str(identity.user.id) if identity.is_registered and identity.user else None
    reasons = reasons_for(experiment, experiment.grants_to(identity))
    return Access(own, experiment.level_of(identity), reasons, complete=True, note=WHOLE)


def access_of_entity(experiment: Experiment, entity: str) -> Access:
    """The access of a user id or an entitlement, as far as it is known without the user's token."""
    grants = experiment.grants_by_list({entity} if is_effective(entity) else frozenset())
    reasons = reasons_for(experiment, grants)
    return Access(entity, highest(reason.level for reason in reasons), reasons, complete=False, note=PARTIAL)


def overview_of(user: User, viewer: Identity) -> Overview:
    """The access of a user, limited to the experiments whose permission lists the viewer may see."""
    identity, issued_at = user.last_identity, user.entitlements_issued_at
    visible = Experiment.objects.matching(granted_to(viewer))
    named = visible.naming(identity)
    found, _ = named.sorted_slice(NEWEST_FIRST, MAX_LISTED, shape=[{"$unset": ["config", "description"]}])
    return Overview(
        user,
        datetime.datetime.fromtimestamp(issued_at, datetime.UTC) if issued_at else None,
        [(experiment, access_of(experiment, identity)) for experiment in instances_of(Experiment, found)],
        total_of(named),
        total_of(Experiment.objects.matching({"public": True})),
        total_of(visible) if identity.is_admin else None,
    )


def reasons_for(experiment: Experiment, grants: Iterable[tuple[str | None, Level]]) -> list[Reason]:
    reasons = [Reason(via(entity), entity, level) for entity, level in grants]
    return [*reasons, *([Reason("public", None, experiment.public_level)] if experiment.public_level else [])]


def via(entity: str | None) -> str:
    """The kind of a reason, by the entity of its entry; None stands for an administrator."""
    if entity is None:
        return "admin"
    return "group" if is_entitlement(entity) else "direct"


def is_effective(entity: str) -> bool:
    """Return whether an entry for the entity gives access. The id of no active user gives none."""
    return is_entitlement(entity) or User.objects.active().filter(pk=entity).exists()


def changes_between(before: Iterable[Permission], after: Iterable[Permission]) -> tuple[list[Change], list[Change]]:
    """The gains and the losses between two lists, each sorted by entity."""
    old, new = levels(before), levels(after)
    changes = [Change(entity, old.get(entity), new.get(entity)) for entity in sorted(old.keys() | new.keys())]
    gains = [change for change in changes if rank(change.after) > rank(change.before)]
    losses = [change for change in changes if rank(change.after) < rank(change.before)]
    return gains, losses


def preview_of(experiment: Experiment, permissions: Iterable[Permission], public: bool) -> Preview:
    """The preview of a new permission list and visibility."""
    gains, losses = changes_between(experiment.permissions, permissions)
    return Preview(gains, losses, {"before": experiment.public, "after": public}, experiment.version(*SHARED))


def levels(permissions: Iterable[Permission]) -> dict[str, Level]:
    """The highest level that a list gives each entity."""
    found: defaultdict[str, list[Level]] = defaultdict(list)
    for entry in permissions:
        found[entry.entity].append(Level(entry.level))
    return {entity: level for entity, names in found.items() if (level := highest(names))}


def rank(level: Level | None) -> int:
    return -1 if level is None else level.rank


def is_email(entity: str) -> bool:
    try:
        validate_email(entity)
    except ValidationError:
        return False
    return True


def ids_of_emails(emails: Collection[str], identity: Identity) -> dict[str, str | UnknownUser]:
    """Map each email to the id of its one registered user, or to an `UnknownUser`. Takes one query.

    `identity` asks. An email of nobody may be a guess, and counts as a lookup of a user. Raises `TooManyRequests`,
    or `PermissionDenied` for the identity of a limited token.
    """
    if not emails:
        return {}
    if not identity.has(Requirement.MAY_LOOK_UP):
        raise PermissionDenied(Requirement.MAY_LOOK_UP.value)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for pk, email in User.objects.active().filter(email__in=emails).values_list("pk", "email"):
        found[email].append(str(pk))
    for _ in set(emails) - found.keys():
        count_lookup(identity)
    return {email: single_id(found[email]) for email in emails}


def single_id(ids: list[str]) -> str | UnknownUser:
    """The one id; an `UnknownUser` for none or several."""
    if len(ids) == 1:
        return ids[0]
    return UnknownUser(SEVERAL if ids else NOBODY.format("email"))


def named_entity(entity: str, identity: Identity, entitlements: Collection[str] = ()) -> str:
    """The entity as permissions store it: an email becomes the user's id, unless it is one of the entitlements.

    Raises `UnknownUser` for an email of no registered user, or of several, and the errors of `ids_of_emails`.
    """
    if entity in entitlements or not is_email(entity):
        return canonical_entity(entity)
    found = ids_of_emails([entity], identity)[entity]
    if isinstance(found, UnknownUser):
        raise found
    return found


def named_user(entity: str, identity: Identity) -> User:
    """The registered user with this id or email. Raises the errors of `named_entity`."""
    name = named_entity(entity, identity)
    user = User.objects.active().filter(pk=name).first() if USER_ID.fullmatch(name) else None
    if user is None:
        raise UnknownUser(NOBODY.format("id or email"))
    return user


def holders(entities: Iterable[str]) -> dict[str, Holder]:
    """Map each entity to its holder. Takes one query."""
    names = list(entities)
    users = User.objects.active().filter(pk__in=[name for name in names if not is_entitlement(name)])
    emails = {str(pk): email for pk, email in users.values_list("pk", "email")}
    return {name: Holder(name, emails.get(name)) for name in names}
