"""Suggestions for the filter form: the values that the runs of the experiment have."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Self

from core import filters
from core.mongodb.documents import find_one
from core.mongodb.order import NEWEST_FIRST
from drifts.display import FILTER_CONTROLS
from drifts.models import Drift
from drifts.parameters import leaves
from drifts.views import FIELDS
from experiments.models import Experiment
from pages.parameters import kind_of

MAX_VALUES = 50
# The number of newest runs to read, and the most bytes of one. Larger runs are left out.
NEWEST = 200
MAX_BYTES = 20_000
MAX_PATHS = 100
SUGGESTED = tuple(control for control in FILTER_CONTROLS if control.is_suggested)


@dataclass(frozen=True)
class Suggestions:
    """The sorted values for each control of the filter form, and the kinds of values at each parameter path."""

    values: dict[str, list[str]]
    paths: dict[str, str]

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """Read the suggestions from the runs of an experiment."""
        newest = newest_of(experiment)
        values = {
            control.name: stored(experiment, control.field, control.index)
            if control.index
            else sorted({value for run in newest if (value := run.get(control.field))})[:MAX_VALUES]
            for control in SUGGESTED
        }
        return cls(values, kinds_by_path(newest))

    @property
    def numbers(self) -> list[str]:
        """The paths that hold a number in one of the runs."""
        return [path for path, kinds in self.paths.items() if "number" in kinds]


def stored(experiment: Experiment, column: str, index: str) -> list[str]:
    """The distinct texts of a column, at most the last `MAX_VALUES`, read by a loose scan of an index.

    Each query seeks the next distinct text and reads one key, however many runs have the same text. MongoDB does
    the same for `distinct`, but not for arrays, and without a limit.
    """
    found: list[str] = []
    condition = {"$gt": ""}
    while len(found) < MAX_VALUES:
        match = {"experiment_id": experiment.pk.hex, column: condition}
        # Read only the index key. For an array, its value is the one element that matched.
        key = find_one(Drift, match, hint=index, return_key=True)
        if key is None:
            break
        found.append(key[column])
        condition = {"$gt": "", "$lt": key[column]}
    return found[::-1]


def newest_of(experiment: Experiment) -> list[dict[str, Any]]:
    return Drift.objects.of(experiment).aggregated(
        {"$sort": NEWEST_FIRST.sort},
        {"$limit": NEWEST},
        {"$match": {"$expr": {"$lte": [{"$bsonSize": "$$ROOT"}, MAX_BYTES]}}},
        {"$project": {"parameters": 1, **{control.field: 1 for control in SUGGESTED if not control.index}}},
    )


def kinds_by_path(runs: list[dict[str, Any]]) -> dict[str, str]:
    """Map the path of each parameter to the kinds of its values, for the first `MAX_PATHS` paths."""
    kinds = defaultdict(set)
    for run in runs:
        for names, value in leaves(run["parameters"]):
            kinds[names].add(kind_of(value))
    paths = {".".join(names): ", ".join(sorted(kinds[names])) for names in sorted(kinds) if is_nameable(names)}
    return dict(list(paths.items())[:MAX_PATHS])


def is_nameable(names: tuple[str, ...]) -> bool:
    """Return whether a filter can name the path. A name that contains a dot would be read as two."""
    path = ".".join(names)
    if len(names) == 1 or path.count(".") != len(names) - 1:
        return False
    try:
        filters.translate({path: {"$exists": True}}, FIELDS)
    except filters.FilterError:
        return False
    return True
