"""The models of experiments, of their permission lists, and of deleted experiments."""

from experiments.models.deleted_experiment import (
    DeletedExperiment,
    DeletedExperimentQuerySet,
    Deleter,
    restorable_until,
)
from experiments.models.experiment import (
    LONGEST_REQUEST,
    MAX_CONFIG_TEXT,
    Experiment,
    ExperimentFields,
    ExperimentQuerySet,
    ListedQuerySet,
)
from experiments.models.permission import (
    MAX_PERMISSIONS,
    TOO_MANY_PERMISSIONS,
    NoManager,
    Permission,
    canonical_entity,
    completed,
    handed_over,
    has_manager,
    max_permissions,
    with_manager,
)

__all__ = [
    "LONGEST_REQUEST",
    "MAX_CONFIG_TEXT",
    "MAX_PERMISSIONS",
    "TOO_MANY_PERMISSIONS",
    "DeletedExperiment",
    "DeletedExperimentQuerySet",
    "Deleter",
    "Experiment",
    "ExperimentFields",
    "ExperimentQuerySet",
    "ListedQuerySet",
    "NoManager",
    "Permission",
    "canonical_entity",
    "completed",
    "handed_over",
    "has_manager",
    "max_permissions",
    "restorable_until",
    "with_manager",
]
