"""The part of the portal's access rule that experiments and their runs share."""

from core.identity import Identity, Level
from experiments.models import Experiment


class ExperimentLevels:
    """A mixin for model admins whose `required_levels` are levels on experiments."""

    def has_anywhere(self, identity: Identity, level: Level) -> bool:
        """Return whether the permission list of any experiment gives the identity the level."""
        return Experiment.objects.giving(identity, level).exists()
