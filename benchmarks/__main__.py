"""`make bench`: fill a service, measure it and its floor alternately, and print the table."""

import json
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

from environs import Env

from benchmarks import report
from benchmarks.connection import Void
from benchmarks.filling import Filling, progress
from benchmarks.load import Crew, Sample, crew
from benchmarks.operations import OPERATIONS
from benchmarks.service import OwnService, own_service
from benchmarks.subject import Subject, explored

env = Env()
RUNS = env.int("BENCH_RUNS", 100_000)
EXPERIMENTS = env.int("BENCH_EXPERIMENTS", 1_000)
SECONDS = env.float("BENCH_SECONDS", 1.5)
ROUNDS = env.int("BENCH_ROUNDS", 11)
SOAK = env.int("BENCH_SOAK", 0)
URL = env.str("BENCH_URL", "")
TOKEN = env.str("BENCH_TOKEN", "")
RESULTS = env.path("BENCH_RESULTS", Path("var/benchmarks"))
SOAK_STEPS = 10


def main() -> None:
    if URL:
        outcome = measured(filled(URL, TOKEN), None)
    else:
        with own_service(RESULTS) as service:
            outcome = measured(filled(service.url, service.token, service), service)
    file = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(outcome, indent=2))
    sys.stdout.write(f"{report.text(outcome)}\n")
    progress(f"The figures are also in {file}.")
    if void := [row["operation"] for row in outcome["operations"] if row["void"]]:
        sys.exit(f"Void because of wrong responses: {', '.join(void)}.")


def filled(url: str, token: str, service: OwnService | None = None) -> Subject:
    filling = Filling(url, token)
    filling.add_experiments(EXPERIMENTS - 1)
    filling.add_runs(RUNS)
    if service:
        progress("Spreading the runs over a year.")
        service.spread_over_a_year()
    progress("Reading pages up to a deep one.")
    mongodb = service.mongodb if service else None
    return explored(Subject(url, token, filling.user, filling.experiment, mongodb), RUNS)


def measured(subject: Subject, service: OwnService | None) -> dict[str, Any]:
    memory = {"before": service.memory()} if service else {}
    with crew(subject) as members:
        rows = [row(members, subject, name) for name, operation in OPERATIONS.items() if operation.only_reads]
        if service:
            memory |= soak(members, service, [row["operation"] for row in rows if row["per_second"]])
        # Operations that write come last: see `OPERATIONS`.
        rows += [row(members, subject, name) for name, operation in OPERATIONS.items() if not operation.only_reads]
        if service:
            memory["after"] = service.memory()
    return {
        "runs": RUNS,
        "experiments": EXPERIMENTS,
        "machine": report.machine() | ({"mongodb": service.mongodb_version()} if service else {}),
        "memory_mib": memory,
        "operations": rows,
    }


def row(members: Crew, subject: Subject, name: str) -> dict[str, Any]:
    try:
        service, floor = rounds(members, subject, name) if OPERATIONS[name].is_offered(subject) else ([], [])
    except Void as void:
        progress(f"{name}: void. {void}")
        return report.row(name, [], [], str(void))
    rates = (", ".join(f"{sample.rate:.0f}" for sample in side) for side in (service, floor))
    progress(f"{name}: {' per second; floor: '.join(rates)} per second" if service else f"{name}: not offered")
    return report.row(name, service, floor)


def rounds(members: Crew, subject: Subject, name: str) -> tuple[list[Sample], list[Sample]]:
    """Measure the service and its floor alternately, so that other load on the machine affects both."""
    twin = OPERATIONS[name].twin
    service, floor = [], []
    for _ in range(ROUNDS):
        service.append(members.measure(name, "service", SECONDS))
        if twin:
            floor.append(members.measure(twin, "service", SECONDS))
        elif subject.mongodb:
            floor.append(members.measure(name, "floor", SECONDS))
    return service, floor


def soak(members: Crew, service: OwnService, names: list[str]) -> dict[str, list[float]]:
    """Send `SOAK` requests of all reading operations in turn, and record the memory of the workers meanwhile."""
    memory: dict[str, list[float]] = {}
    sent, turn = 0, cycle(names)
    while sent < SOAK:
        sent += members.measure(next(turn), "service", SECONDS).calls
        if sent >= SOAK * (len(memory) + 1) / SOAK_STEPS:
            memory[f"after {sent:,} more requests"] = service.memory()
            progress(f"Soak: {sent:,} requests, {memory[f'after {sent:,} more requests']} MiB")
    return memory


if __name__ == "__main__":
    try:
        main()
    except Void as void:
        sys.exit(f"The benchmark failed: {void}")
