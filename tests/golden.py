"""The golden series G1: one run a day of the model `forest`, with the verdicts that every view of it must show."""

import datetime
from typing import Any

from drifts.models import Drift
from experiments.models import Experiment

FIRST = datetime.datetime(2026, 1, 1, 6, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
# No drift, Drift, Unknown since it is Running, unknown since it Failed.
G1 = "N N D N N D D U D N D N N N N D D N N D F D D".split()
SENT: dict[str, dict[str, Any]] = {
    "N": {"job_status": "Completed", "drift_detected": False},
    "D": {"job_status": "Completed", "drift_detected": True},
    "U": {"job_status": "Running"},
    "F": {"job_status": "Failed"},
}
VERDICTS = {"drift": 10, "no_drift": 11, "unknown": 2}
COUNT = 23
RATE = 0.476190
# The numbers above are given to this precision.
PRECISION = 1e-6


def g1_runs() -> list[dict[str, Any]]:
    """The runs as a client sends them, the first day first."""
    return [
        {"model": "forest", "observed_at": (FIRST + number * DAY).isoformat(), **SENT[letter]}
        for number, letter in enumerate(G1)
    ]


def store_g1(experiment: Experiment) -> None:
    """Store the runs without the API, such as for tests of pages and of the portal."""
    Drift.objects.create_all_in(
        experiment, [run | {"observed_at": datetime.datetime.fromisoformat(run["observed_at"])} for run in g1_runs()]
    )
