"""The verdict of a drift run: drift, no drift or unknown."""

from typing import Any

from django.db import models

from core.mongodb.match import Mql


class JobStatus(models.TextChoices):
    """The state of a drift-detection job."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


class Verdict(models.TextChoices):
    """The result of a run. Only a completed run has a known one."""

    DRIFT = "drift", "Drift"
    NO_DRIFT = "no_drift", "No drift"
    UNKNOWN = "unknown", "Unknown"


def verdict_of(job_status: str, drift_detected: bool) -> Verdict:
    """The verdict of a run: unknown unless it is completed, whatever its `drift_detected`."""
    if job_status != JobStatus.COMPLETED:
        return Verdict.UNKNOWN
    return Verdict.DRIFT if drift_detected else Verdict.NO_DRIFT


# The fields of a run that hold what it measured, besides its parameters.
MEASURED = ("p_value", "statistic", "threshold", "sample_size")


def is_unsupported(run: Any) -> bool:
    """Return whether a run says no drift but measured nothing. A client that never reported may have left it.

    Its verdict counts as any other.
    """
    # Most runs have parameters.
    if run.parameters != {} or verdict_of(run.job_status, run.drift_detected) is not Verdict.NO_DRIFT:
        return False
    return all(getattr(run, name) is None for name in MEASURED)


def drift_rate(drift: int, no_drift: int) -> float | None:
    """Return the share of drift among the known verdicts, from 0 to 1; None without a known verdict."""
    known = drift + no_drift
    return drift / known if known else None


def percent(rate: float | None) -> str:
    """Return a drift rate as people read it: 0 % only without drift, and 100 % only without another verdict."""
    if rate is None:
        return "No verdict"
    rounded = f"{100 * rate:.0f} %"
    if 0 < rate < 1:
        return {"0 %": "under 1 %", "100 %": "over 99 %"}.get(rounded, rounded)
    return rounded


# The rule of `verdict_of` as match documents, for queries, counts and filters. Unknown lists its statuses instead of
# excluding one, so that the query reads only their part of an index.
MATCHES: dict[str | bool, Mql] = {
    Verdict.DRIFT.value: {"job_status": JobStatus.COMPLETED.value, "drift_detected": True},
    Verdict.NO_DRIFT.value: {"job_status": JobStatus.COMPLETED.value, "drift_detected": False},
    Verdict.UNKNOWN.value: {"job_status": {"$in": [JobStatus.RUNNING.value, JobStatus.FAILED.value]}},
}

# The rule of `is_unsupported` as a match document and as an aggregation expression.
UNSUPPORTED: Mql = {**MATCHES[Verdict.NO_DRIFT.value], "parameters": {}, **dict.fromkeys(MEASURED)}
IS_UNSUPPORTED: Mql = {
    "$and": [
        {"$eq": ["$job_status", JobStatus.COMPLETED.value]},
        {"$not": ["$drift_detected"]},
        {"$eq": ["$parameters", {"$literal": {}}]},
        *({"$eq": [{"$ifNull": [f"${name}", None]}, None]} for name in MEASURED),
    ]
}

# The rule of `verdict_of` as an aggregation expression, for groups.
EXPRESSION: Mql = {
    "$cond": [
        {"$ne": ["$job_status", JobStatus.COMPLETED.value]},
        Verdict.UNKNOWN.value,
        {"$cond": ["$drift_detected", Verdict.DRIFT.value, Verdict.NO_DRIFT.value]},
    ]
}
