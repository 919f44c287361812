"""The load: separate processes that repeat one operation and time it."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from random import Random
from typing import Any, NamedTuple

from pymongo import MongoClient

from benchmarks.connection import Connection
from benchmarks.floor import DATABASE, Call
from benchmarks.operations import OPERATIONS
from benchmarks.subject import Subject

PROCESSES = 2
THREADS = 4
START_SECONDS = 30


class Sample(NamedTuple):
    """The result of a round: calls per second, and the median and the 99th percentile in milliseconds."""

    calls: int
    rate: float
    p50: float
    p99: float


class Series(NamedTuple):
    """The result of a thread, in seconds."""

    latencies: list[float]
    elapsed: float


@dataclass
class Crew:
    """`PROCESSES` x `THREADS` callers that start together, each on its own connection."""

    executor: Executor

    def measure(self, operation: str, side: str, seconds: float) -> Sample:
        """Measure one round. `side` is "service" or "floor". Raises `Void` for a wrong response."""
        rounds = [self.executor.submit(take_part, operation, side, seconds, number) for number in range(PROCESSES)]
        series = [one for round_ in as_completed(rounds) for one in round_.result()]
        latencies = sorted(latency for one in series for latency in one.latencies)
        return Sample(
            calls=len(latencies),
            rate=sum(len(one.latencies) / one.elapsed for one in series),
            p50=statistics.median(latencies) * 1000,
            p99=latencies[int(len(latencies) * 0.99)] * 1000,
        )


@contextmanager
def crew(subject: Subject) -> Iterator[Crew]:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(PROCESSES * THREADS)
    with ProcessPoolExecutor(PROCESSES, context, initializer=enlist, initargs=(subject, start)) as executor:
        yield Crew(executor)


# The functions below run in the crew's processes.

member: dict[str, Any] = {}


def enlist(subject: Subject, start: Barrier) -> None:
    client = MongoClient[dict[str, Any]](subject.mongodb, w="majority") if subject.mongodb else None
    member.update(subject=subject, start=start, database=client and client[DATABASE])


def take_part(operation: str, side: str, seconds: float, number: int) -> list[Series]:
    caller = partial(over_http if side == "service" else plainly, operation, seconds)
    with ThreadPoolExecutor(THREADS) as threads:
        started = [threads.submit(caller, Random(number * THREADS + thread)) for thread in range(THREADS)]
        return [thread.result() for thread in as_completed(started)]


def over_http(name: str, seconds: float, chance: Random) -> Series:
    subject: Subject = member["subject"]
    operation = OPERATIONS[name]
    with Connection(subject.url, subject.token) as connection:
        messages = operation.messages(connection, subject, chance)
        return repeated(lambda: operation.check(connection.send(next(messages))), seconds)


def plainly(name: str, seconds: float, chance: Random) -> Series:
    floor = OPERATIONS[name].floor
    assert floor is not None
    return repeated(floor(member["database"], member["subject"], chance), seconds)


def repeated(call: Call, seconds: float) -> Series:
    latencies = []
    try:
        call()  # Opens the connection.
    finally:
        # A thread that fails must not block the others, which wait for all.
        member["start"].wait(START_SECONDS)
    start = now = time.perf_counter()
    while now < start + seconds:
        call()
        before, now = now, time.perf_counter()
        latencies.append(now - before)
    return Series(latencies, now - start)
