"""Runs and experiments as clients report them."""

from random import Random
from typing import Any

MODELS = ("churn-forest", "credit-boosting", "demand-lstm", "fraud-svm", "pricing-linear")
STATUSES = ("Completed", "Running", "Failed")
DETECTORS = ("Kolmogorov-Smirnov", "PSI", "MMD", "ADWIN")
TAGS = ("nightly", "weekly", "canary", "eu", "us", "retrained")


def run(chance: Random) -> dict[str, Any]:
    status = chance.choices(STATUSES, (8, 1, 1))[0]
    statistic = round(chance.random(), 6)
    return {
        "job_status": status,
        "model": chance.choice(MODELS),
        "drift_detected": status == "Completed" and statistic > 0.5,
        "detector": chance.choice(DETECTORS),
        "environment": chance.choice(("production", "staging")),
        "model_version": f"1.{chance.randrange(20)}.0",
        "tags": chance.sample(TAGS, chance.randrange(4)),
        "parameters": {
            **{f"p{number}": round(chance.random(), 6) for number in range(10)},
            "test": {"statistic": statistic, "window": {"size": 1000, "batch": chance.randrange(10_000)}},
        },
    }


def experiment(name: str, chance: Random) -> dict[str, Any]:
    """An experiment. Every tenth is public."""
    return {
        "name": name,
        "description": "Filled by the benchmark.",
        "public": chance.randrange(10) == 0,
        "tags": chance.sample(TAGS, 2),
        "config": {"schedule": "0 3 * * *", "threshold": round(chance.random(), 3)},
    }
