"""Runs as plots show them: the fields to read, and the words about a run."""

import datetime
import uuid
from dataclasses import dataclass
from typing import Self

from core.mongodb.documents import Document
from core.mongodb.match import Mql
from drifts.display import LABELS
from drifts.verdict import IS_UNSUPPORTED, Verdict, verdict_of
from pages.plots.scales import UTC

UNSUPPORTED = "Unsupported"
# The fields that explain a run, besides its model.
TESTED = ("detector", "feature")
# The fields of a `$project` that `Run.of` takes.
READ: Mql = {
    **dict.fromkeys(("observed_at", "model", "job_status", "drift_detected", *TESTED), 1),
    "unsupported": IS_UNSUPPORTED,
}


@dataclass(frozen=True)
class Run:
    """The fields of a run that a plot needs. `is_unsupported` is True if it says no drift but measured nothing."""

    id: uuid.UUID
    observed_at: datetime.datetime
    model: str
    verdict: Verdict
    is_unsupported: bool
    detector: str | None
    feature: str | None

    @classmethod
    def of(cls, document: Document, **more: float) -> Self:
        """Return the run that was read with `READ`; `more` are the fields that a subclass adds."""
        return cls(
            uuid.UUID(document["_id"]),
            in_utc(document["observed_at"]),
            document["model"],
            verdict_of(document["job_status"], document["drift_detected"]),
            document["unsupported"],
            document.get("detector"),
            document.get("feature"),
            **more,
        )

    @property
    def verdict_text(self) -> str:
        """The verdict for people."""
        return f"{self.verdict.label} ({UNSUPPORTED.lower()})" if self.is_unsupported else str(self.verdict.label)

    @property
    def tested_text(self) -> str:
        """Lines for the detector and the feature, each after a line break."""
        return "".join(f"\n{LABELS[name]}: {value}" for name in TESTED if (value := getattr(self, name)))


def in_utc(time: datetime.datetime) -> datetime.datetime:
    """Add the time zone to a time from MongoDB's driver, which returns UTC without it."""
    return time.replace(tzinfo=UTC)
