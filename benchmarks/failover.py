"""`make failover`: break a replica set of three under load, and check that nothing is lost, doubled or taken back.

Ten writers report runs, each with an `Idempotency-Key`, and repeat a request until it is acknowledged. A reader records
every run that a search shows. A probe measures `/livez` and `/readyz`. Each disaster prints one line.
"""

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.live import LiveServer
from tests.replica_set import ReplicaSet

WRITERS = 10
PATIENCE = 60
# The targets, in seconds.
REFUSED, ALIVE, READY, RECOVERED = 5.0, 0.5, 2.0, 12.0
# The duration of each disaster, and of the load before and after it.
KILLED, FROZEN, NO_MAJORITY, CALM = 20, 30, 60, 5
# Between two requests of a writer that was refused.
PAUSE = 0.2
WORKER_KILLED = "a worker killed"


@dataclass
class Observed:
    """Observations of one disaster."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    # Times of acknowledgements, by the monotonic clock.
    successes: list[float] = field(default_factory=list)
    # Responses that are no success and no 503 with Retry-After.
    problems: set[str] = field(default_factory=set)
    # Requests whose connection was lost with its worker.
    broken: int = 0
    longest: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("request", "livez", "readyz"), 0.0))

    def took(self, kind: str, seconds: float) -> None:
        self.longest[kind] = max(self.longest[kind], seconds)


class Service:
    """The service over a replica set, and an experiment that everybody may read."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self.replicas = replicas
        self.live = LiveServer(
            MONGODB_URI=replicas.uri, MONGODB_NAME="failover", RATE_LIMIT="", RATE_LIMIT_ANONYMOUS=""
        )
        self.live.start()
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {self.live.manage('token', 'keeper@example.org')}"

    def create_experiment(self, name: str) -> str:
        response = self.session.post(f"{self.live.api}/experiment", json={"name": name, "public": True})
        response.raise_for_status()
        return f"{self.live.api}/experiment/{response.json()['id']}/drift"


def write(runs: str, token: Any, writer: int, seen: Observed, is_over: threading.Event) -> None:
    """Report runs one after the other, each until it is acknowledged."""
    session = requests.Session()
    session.headers["Authorization"] = token
    number = 0
    while not is_over.is_set():
        key = f"{writer}-{number}"
        body = {"job_status": "Completed", "model": key, "drift_detected": True}
        while True:
            started = time.monotonic()
            try:
                response = session.post(runs, json=body, headers={"Idempotency-Key": key}, timeout=PATIENCE)
            except requests.RequestException:
                seen.broken += 1
                time.sleep(PAUSE)
                continue
            finally:
                seen.took("request", time.monotonic() - started)
            seen.statuses[response.status_code] += 1
            if response.status_code == 201:
                seen.acknowledged[key] = response.json()["id"]
                seen.successes.append(time.monotonic())
                break
            if response.status_code != 503 or "Retry-After" not in response.headers:
                seen.problems.add(f"{response.status_code}: {response.text[:200]}")
            time.sleep(PAUSE)
        number += 1


def read(runs: str, seen: Observed, is_over: threading.Event) -> None:
    """Search the newest runs again and again, and record all that are shown."""
    while not is_over.is_set():
        started = time.monotonic()
        try:
            response = requests.post(f"{runs}/search?page_size=100", json={}, timeout=PATIENCE)
        except requests.RequestException:
            seen.broken += 1
            continue
        finally:
            seen.took("request", time.monotonic() - started)
        if response.ok:
            seen.shown.update(run["id"] for run in response.json())
        elif response.status_code != 503 or "Retry-After" not in response.headers:
            seen.problems.add(f"search {response.status_code}: {response.text[:200]}")
        time.sleep(0.05)


def probe(url: str, kind: str, seen: Observed, is_over: threading.Event) -> None:
    while not is_over.is_set():
        started = time.monotonic()
        try:
            response = requests.get(f"{url}/{kind}", timeout=PATIENCE)
            if kind == "livez" and not response.ok:
                seen.problems.add(f"/livez {response.status_code}")
        except requests.RequestException:
            seen.broken += 1
        finally:
            seen.took(kind, time.monotonic() - started)
        time.sleep(0.05)


def all_stored(runs: str) -> Counter[str]:
    """Return how often each model, which is a key, is stored, and check each page until the last."""
    stored: Counter[str] = Counter()
    cursor = ""
    while True:
        response = requests.post(f"{runs}/search?page_size=100{cursor}", json={}, timeout=PATIENCE)
        response.raise_for_status()
        stored.update(f"{run['model']} {run['id']}" for run in response.json())
        link = response.links.get("next")
        if link is None:
            return stored
        cursor = f"&cursor={link['url'].partition('cursor=')[2]}"


def suffered(service: Service, name: str, disaster: Callable[[], float]) -> bool:
    """Run the load during a disaster, print the outcome, and return whether it is good.

    The disaster returns the time at which a majority acknowledged writes again.
    """
    runs, seen, is_over = service.create_experiment(name), Observed(), threading.Event()
    token, url = service.session.headers["Authorization"], service.live.url
    with ThreadPoolExecutor(WRITERS + 3) as pool:
        jobs = [pool.submit(write, runs, token, writer, seen, is_over) for writer in range(WRITERS)]
        jobs.append(pool.submit(read, runs, seen, is_over))
        jobs += [pool.submit(probe, url, kind, seen, is_over) for kind in ("livez", "readyz")]
        time.sleep(CALM)
        back_at = disaster()
        time.sleep(CALM + RECOVERED)
        is_over.set()
        for job in jobs:
            job.result()
    stored = all_stored(runs)
    keys = Counter(entry.partition(" ")[0] for entry in stored)
    identifiers = {entry.partition(" ")[2] for entry in stored}
    lost = set(seen.acknowledged.values()) - identifiers
    taken_back = seen.shown - identifiers
    doubled = [key for key, number in keys.items() if number > 1]
    recovered = min((moment - back_at for moment in seen.successes if moment >= back_at), default=float("inf"))
    sys.stdout.write(
        f"{name}: {len(seen.acknowledged)} acknowledged, {len(lost)} lost, {len(doubled)} doubled, "
        f"{len(taken_back)} of {len(seen.shown)} shown taken back; {seen.broken} connections broken; "
        f"statuses {dict(seen.statuses)}; "
        f"longest request {seen.longest['request']:.2f} s, /livez {seen.longest['livez']:.2f} s, "
        f"/readyz {seen.longest['readyz']:.2f} s; first success {recovered:.1f} s after the majority was back"
        f"{''.join(f'; {problem}' for problem in sorted(seen.problems))}\n"
    )
    sys.stdout.flush()
    return (
        not (lost or doubled or taken_back or seen.problems)
        # The connections of a killed worker end with it.
        and (name == WORKER_KILLED or not seen.broken)
        and seen.longest["request"] < REFUSED
        and seen.longest["livez"] < ALIVE
        and seen.longest["readyz"] < READY
        and recovered < RECOVERED
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="driftwatch-failover-") as directory:
        replicas = ReplicaSet(Path(directory)).start()
        try:
            service = Service(replicas)
            try:
                good = [suffered(service, name, disaster) for name, disaster in disasters(service)]
            finally:
                service.live.stop()
        finally:
            replicas.stop()
    if not all(good):
        sys.exit("Some targets were missed.")


def disasters(service: Service) -> list[tuple[str, Callable[[], float]]]:
    replicas = service.replicas

    def kill_primary() -> float:
        primary = replicas.wait_for_primary()
        primary.kill()
        back_at = replicas.wait_for_majority()
        time.sleep(KILLED)
        primary.start()
        return back_at

    def freeze_primary() -> float:
        primary = replicas.wait_for_primary()
        primary.freeze()
        thaw_at = time.monotonic() + FROZEN
        back_at = replicas.wait_for_majority()
        time.sleep(max(0, thaw_at - time.monotonic()))
        primary.thaw()
        return back_at

    def step_down() -> float:
        with replicas.wait_for_primary().client() as client:
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
        return replicas.wait_for_majority()

    def kill_secondaries() -> float:
        primary = replicas.wait_for_primary()
        others = [member for member in replicas.members if member is not primary]
        for member in others:
            member.kill()
        time.sleep(NO_MAJORITY)
        for member in others:
            member.start()
        return replicas.wait_for_majority()

    def kill_worker() -> float:
        worker = psutil.Process(service.live.process.pid).children()[0]
        worker.kill()
        return time.monotonic()

    return [
        ("primary killed", kill_primary),
        ("primary stopped for 30 s", freeze_primary),
        ("primary stepped down", step_down),
        ("both secondaries killed for 60 s", kill_secondaries),
        (WORKER_KILLED, kill_worker),
    ]


if __name__ == "__main__":
    main()
