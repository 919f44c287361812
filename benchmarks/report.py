"""The results, as JSON for comparisons and as a Markdown table for people."""

import os
import platform
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.load import Sample
from benchmarks.operations import OPERATIONS


def row(name: str, service: list[Sample], floor: list[Sample], void: str | None = None) -> dict[str, Any]:
    """Medians over the rounds; rates count runs if a call stores several. Values that were not measured are None.

    `void` describes a wrong response.
    """
    operation = OPERATIONS[name]
    rate = middle([sample.rate * operation.counts for sample in service])
    floor_rate = middle([sample.rate * operation.counts for sample in floor])
    return {
        "operation": name,
        "per_second": rate,
        "p50_ms": middle([sample.p50 for sample in service]),
        "p99_ms": middle([sample.p99 for sample in service]),
        "floor_per_second": floor_rate,
        # The two samples of a round are close in time, so that a change of the machine's speed affects both.
        "ratio": middle([one.rate / other.rate for one, other in zip(service, floor, strict=False)]),
        "to_reach": operation.to_reach,
        "void": void,
    }


def middle(values: list[float]) -> float | None:
    return median(values) if values else None


def text(outcome: dict[str, Any]) -> str:
    """The size of the data, the machine, the table, and the memory of the workers."""
    machine = ", ".join(f"{name} {value}" for name, value in outcome["machine"].items())
    memory = "\n".join(f"- {when}: {', '.join(map(str, sizes))}" for when, sizes in outcome["memory_mib"].items())
    return "\n\n".join(
        part
        for part in (
            f"{outcome['runs']:,} runs, {outcome['experiments']:,} experiments; {machine}",
            table(outcome["operations"]),
            memory and f"Memory of each worker, MiB:\n\n{memory}",
        )
        if part
    )


COLUMNS = {
    "per_second": "per second",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "floor_per_second": "floor per second",
    "ratio": "ratio",
    "to_reach": "target ratio",
}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [[row["operation"], *("void" if row["void"] else shown(row[name]) for name in COLUMNS)] for row in rows]
    return markdown(["operation", *COLUMNS.values()], lines)


def markdown(heading: list[str], lines: list[list[str]]) -> str:
    """A table with numbers in all columns but the first."""
    rule = ["---", *["--:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *lines))


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
