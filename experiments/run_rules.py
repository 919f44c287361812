"""The rules by which an experiment completes its runs: which runs form a series, and which parameters fill fields."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from core import timestamps

# The fields of a run that make it part of a series, besides paths below `parameters.`.
SERIES_FIELDS = ("model", "detector", "environment", "feature", "model_version")
DEFAULT_SERIES_BY = ("model", "detector", "environment", "feature")
MAX_SERIES_BY = 5
# The fields of a run that a field map may fill. The published client can send none of them.
MAPPABLE_FIELDS = (
    "detector",
    "environment",
    "model_version",
    "observed_at",
    "window_start",
    "window_end",
    "feature",
    "p_value",
    "statistic",
    "threshold",
    "sample_size",
)
# The most seconds that a run may take: a year.
MAX_RUN_TIMEOUT = 366 * 24 * 60 * 60
# The most days that runs may be kept for: a century.
MAX_RETENTION_DAYS = 36_500


@dataclass(frozen=True)
class RunRules:
    """`series_by` names fields and paths, `field_map` maps fields to paths. `version` counts the changes of both.

    Each run stores the version of the rules that completed it.
    """

    series_by: tuple[str, ...] = DEFAULT_SERIES_BY
    field_map: tuple[tuple[str, str], ...] = ()
    version: int = 0

    @classmethod
    def of(cls, series_by: Sequence[str] | None, field_map: Mapping[str, Any] | None, version: int | None) -> Self:
        """Return the rules as an experiment has them stored. Experiments from before schema 1.1.0 have none."""
        return cls(tuple(series_by or DEFAULT_SERIES_BY), tuple(sorted((field_map or {}).items())), version or 0)


def default_series_by() -> list[str]:
    return list(DEFAULT_SERIES_BY)


@dataclass(frozen=True)
class Recomputation:
    """The progress of background work that applies changed rules to the stored runs of an experiment.

    `field` is the rule that changed. `done` and `total` are numbers of runs. `after` is the creation time and the id of
    the last run that was visited, in the order of time; None before the first.
    """

    field: str
    total: int
    started_at: datetime.datetime
    done: int = 0
    after: tuple[datetime.datetime, str] | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Return the recomputation that an experiment has stored."""
        values = {each.name: stored[each.name] for each in fields(cls)}
        values["started_at"] = datetime.datetime.fromisoformat(values["started_at"])
        if values["after"]:
            created_at, pk = values["after"]
            values["after"] = (datetime.datetime.fromisoformat(created_at), pk)
        return cls(**values)

    def stored(self) -> dict[str, Any]:
        """Return the recomputation as JSON, which has texts for times."""
        after = (timestamps.written(self.after[0]), self.after[1]) if self.after else None
        return {**asdict(self), "started_at": timestamps.written(self.started_at), "after": after}
