"""The access rule: which level an identity has on an experiment, and which experiments it may read.

Every view, page and model admin uses it: `level_of` for one experiment, `readable_by` for queries.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from core.identity import Identity, Level
from core.mongodb.documents import Document
from core.mongodb.match import NOTHING, Match, MatchAny, Mql
from experiments.run_rules import RunRules


class AccessControlled:
    """The access rule for one experiment: it needs the id, the `public` flag and the permission list."""

    pk: Any
    public: Any
    permissions: Any
    run_rules: Any

    def level_of(self, identity: Identity) -> Level | None:
        """The identity's level on this experiment; None if the identity may not read the experiment."""
        return self.level_granted_to(identity) or self.public_level

    @property
    def public_level(self) -> Level | None:
        """The level that everybody has."""
        return Level.READ if self.public else None

    def gives(self, identity: Identity, required: Level) -> bool:
        """Return whether the identity has the required level on this experiment, or a higher one."""
        level = self.level_of(identity)
        return level is not None and level.includes(required)

    def level_granted_to(self, identity: Identity) -> Level | None:
        """The highest level from the permission list or from being an administrator, within the token's scope."""
        return highest(level for _, level in self.grants_to(identity))

    def grants_to(self, identity: Identity) -> list[tuple[str | None, Level]]:
        """Return each level that the identity holds, with the entity of its entry, or None for an administrator."""
        if not identity.scope.covers(self.pk):
            return []
        grants: list[tuple[str | None, Level]] = [(None, Level.MANAGE)] if identity.is_admin else []
        grants += self.grants_by_list(identity.entities)
        return [(entity, identity.scope.lowered(level)) for entity, level in grants]

    def grants_by_list(self, entities: Collection[str]) -> list[tuple[str, Level]]:
        """Return the level of each entry that names one of the entities, with its entity."""
        return [(entry.entity, Level(entry.level)) for entry in self.permissions if entry.entity in entities]

    def shows_permissions_to(self, identity: Identity) -> bool:
        """Return whether the identity holds a level beyond public access. All others see an empty list."""
        return self.level_granted_to(identity) is not None


def highest(levels: Iterable[Level]) -> Level | None:
    """Return the highest of the levels; None if there is none."""
    return max(levels, key=lambda level: level.rank, default=None)


class Entry(NamedTuple):
    """An entry of a permission list."""

    entity: str
    level: str


@dataclass(frozen=True)
class ExperimentReference(AccessControlled):
    """The part of a stored experiment that requests for its runs need: the id, and what decides access and rules."""

    pk: uuid.UUID
    public: bool
    permissions: tuple[Entry, ...]
    run_rules: RunRules

    # The fields to read from the stored document. Its `config` may have megabytes.
    PROJECTION: ClassVar[Mql] = dict.fromkeys(("public", "permissions", "series_by", "field_map", "rules_version"), 1)

    @classmethod
    def of(cls, document: Document) -> Self:
        """Build the reference from a stored document, read with `PROJECTION`."""
        entries = tuple(Entry(entry["entity"], entry["level"]) for entry in document["permissions"])
        rules = RunRules.of(*map(document.get, ("series_by", "field_map", "rules_version")))
        return cls(uuid.UUID(document["_id"]), document["public"], entries, rules)


def readable_by(identity: Identity) -> Match | None:
    """The condition that matches the experiments that the identity may read; None if it may read all."""
    public = {"public": True}
    if not identity.entities:
        return Match(public)
    granted = granted_to(identity)
    return MatchAny([public, granted]) if granted else None


def granted_to(identity: Identity) -> Mql:
    """The match document of the experiments on which the identity holds a level beyond public access."""
    listed = {"permissions.entity": {"$in": sorted(identity.entities)}}
    return within_scope({} if identity.is_admin else listed, identity)


def managed_by(identity: Identity) -> Mql:
    """The match document of the experiments that the identity manages."""
    if not identity.scope.cap.includes(Level.MANAGE):
        return NOTHING
    listed = {"permissions": {"$elemMatch": entry_giving(identity, Level.MANAGE)}}
    return within_scope({} if identity.is_admin else listed, identity)


def entry_giving(identity: Identity, level: Level) -> Mql:
    """The match document of an entry of a permission list that gives the identity this level or a higher one."""
    levels = [each.value for each in Level if each.includes(level)]
    return {"entity": {"$in": sorted(identity.entities)}, "level": {"$in": levels}}


def within_scope(document: Mql, identity: Identity) -> Mql:
    """Limit a match document of experiments to those of the identity's token."""
    if identity.scope.experiments is None:
        return document
    return {**document, "_id": {"$in": sorted(experiment.hex for experiment in identity.scope.experiments)}}
