"""Plausible sample experiments for an empty service. Apart from their dates, they are always the same."""

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from uuid_utils.compat import uuid7

from accounts.models import User
from core import timestamps
from core.identity import identity_of_user
from drifts.models import Drift
from drifts.verdict import JobStatus
from experiments.models import Experiment

DAYS = 60


@dataclass(frozen=True)
class Series:
    """A detector that checks a model every `every_hours` hours. The data drifts from one day until another."""

    model: str
    version: str
    detector: str
    environment: str
    every_hours: int
    feature: str
    drifts_from: int
    drifts_until: int = DAYS
    threshold: float = 0.05
    # True if one of the last jobs stays Running.
    hangs: bool = False


@dataclass(frozen=True)
class Sample:
    """An experiment. Its runs leave out the fields that its field map fills from their parameters."""

    name: str
    description: str
    tags: Sequence[str]
    series: Sequence[Series]
    field_map: Mapping[str, str] = field(default_factory=dict)


SAMPLES = (
    Sample(
        "credit scoring",
        "Nightly checks of two scoring models. Since the new terms of a partner bank, applicants are younger.",
        ["tabular", "finance"],
        [
            Series("credit-forest", "3.2", "Kolmogorov-Smirnov", "production", 24, "age", 42),
            Series("credit-forest", "3.2", "Population stability", "production", 24, "income", 46),
            Series("credit-boost", "1.0", "Kolmogorov-Smirnov", "staging", 24, "age", DAYS, hangs=True),
        ],
    ),
    Sample(
        "delivery times",
        "A forecast that is compared with what happened, twice a day. A road was closed for two weeks.",
        ["time series", "logistics"],
        [
            Series("eta-north", "7", "ADWIN", "production", 12, "error_minutes", 25, 39),
            Series("eta-south", "7", "Page-Hinkley", "production", 24, "error_minutes", DAYS),
        ],
        field_map={
            "feature": "parameters.feature",
            "p_value": "parameters.p_value",
            "sample_size": "parameters.window.size",
            "statistic": "parameters.statistic",
            "threshold": "parameters.threshold",
        },
    ),
    Sample(
        "weld inspection",
        "Pictures of a camera above the line. Its lens has been getting dirty for some weeks.",
        ["images", "quality"],
        [Series("weld-vision", "12.1", "Maximum mean discrepancy", "line 4", 24, "embedding", 30, threshold=0.01)],
    ),
)


def store_samples(owner: User) -> tuple[int, int]:
    """Store public experiments that the owner manages. Return the number of experiments and of runs."""
    now = timestamps.now()
    identity, runs = identity_of_user(owner), 0
    for sample in SAMPLES:
        experiment = Experiment.objects.create_by(
            identity,
            name=sample.name,
            description=sample.description,
            tags=sample.tags,
            public=True,
            config={"sample": True},
            field_map=sample.field_map,
            created_at=now - datetime.timedelta(days=DAYS),
        )
        found = sorted(
            (run for number, each in enumerate(sample.series) for run in runs_of(each, number, now)),
            key=lambda run: run["created_at"],
        )
        sent = [{name: value for name, value in run.items() if name not in sample.field_map} for run in found]
        runs += len(Drift.objects.create_all_in(experiment, sent))
    return len(SAMPLES), runs


def runs_of(series: Series, number: int, now: datetime.datetime) -> Iterator[dict[str, Any]]:
    """The runs of a series up to `now`. The last one is Running."""
    total = DAYS * 24 // series.every_hours
    chance = NormalDist().samples(2 * total, seed=f"{series.model} {series.detector}")
    for index in range(total):
        age = datetime.timedelta(hours=series.every_hours * (total - 1 - index), minutes=3 + 11 * number)
        started = now - age
        status = JobStatus.COMPLETED
        if index == total - 1 or (series.hangs and index == total - 4):
            status = JobStatus.RUNNING
        elif (index + 7 * number) % 29 == 26:
            status = JobStatus.FAILED
        yield run_of(series, status, index, (chance[index], chance[total + index]), started)


def run_of(
    series: Series, status: JobStatus, index: int, chance: tuple[float, float], started: datetime.datetime
) -> dict[str, Any]:
    """The fields of one run. `chance` holds two numbers from the standard normal distribution."""
    noise, other_noise = chance
    day = index * series.every_hours / 24
    is_drifting = series.drifts_from <= day < series.drifts_until
    # The shift of the data in standard deviations. It grows from the first day of drift.
    shift = 0.25 + 0.03 * (day - series.drifts_from) if is_drifting else 0.0
    statistic = abs(0.035 + 0.01 * noise + 0.25 * shift)
    size = 1_000 + round(200 * math.sin(2 * math.pi * day / 7)) + round(40 * other_noise)
    # The asymptotic p-value of the one-sided Kolmogorov-Smirnov test for two samples of 800.
    p_value = float(f"{math.exp(-800 * statistic**2):.3g}")
    parameters: dict[str, Any] = {
        "feature": series.feature,
        "threshold": series.threshold,
        "window": {"size": size, "days": series.every_hours / 24},
    }
    match status:
        case JobStatus.COMPLETED:
            parameters |= {
                "p_value": p_value,
                "statistic": round(statistic, 4),
                "accuracy": round(0.94 - 0.11 * shift + 0.004 * other_noise, 4),
                "seconds": round(4 + size / 400 + abs(other_noise), 2),
            }
        case JobStatus.FAILED:
            parameters["error"] = "The reference data could not be read: connection timed out."
    window_end = started.replace(minute=0, second=0, microsecond=0)
    return {
        "_id": uuid7(nanoseconds=round(started.timestamp() * 1_000) * 1_000_000).hex,
        "job_status": status.value,
        "drift_detected": status is JobStatus.COMPLETED and p_value < series.threshold,
        "model": series.model,
        "model_version": series.version,
        "detector": series.detector,
        "environment": series.environment,
        "observed_at": window_end,
        "window_start": window_end - datetime.timedelta(hours=series.every_hours),
        "window_end": window_end,
        "feature": series.feature,
        "p_value": parameters.get("p_value"),
        "statistic": parameters.get("statistic"),
        "threshold": series.threshold,
        "sample_size": size,
        "parameters": parameters,
        "tags": ["nightly"] if series.every_hours == 24 else ["twice a day"],
        "created_at": started.replace(tzinfo=None),
        "updated_at": started.replace(tzinfo=None),
    }
