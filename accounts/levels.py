"""The levels of access to an experiment, and how far a token reaches with them."""

import uuid
from dataclasses import dataclass

from django.db import models


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
