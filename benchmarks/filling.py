"""Fill a service through its API: one private experiment with many runs, among many experiments."""

import itertools
import sys
import threading
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

from benchmarks import documents
from benchmarks.connection import Connection
from benchmarks.floor import BULK
from benchmarks.operations import NOT_OFFERED

CONNECTIONS = 8


class Filling:
    """The measured experiment and others, all of the token's owner."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self.name = f"benchmark {uuid.uuid4().hex[:8]}"
        self.chance = Random(2026)
        with Connection(url, token) as connection:
            if (registered := connection.post("/user", None)).status != 409:
                registered.checked(201)
            self.user: str = connection.get("/user/self").checked(200).json()["id"]
            private = {**documents.experiment(self.name, self.chance), "public": False}
            self.experiment: str = connection.post("/experiment", private).checked(201).json()["id"]

    def add_experiments(self, count: int) -> None:
        names = (f"{self.name} {number}" for number in range(count))
        self._send("experiments", "/experiment", (documents.experiment(name, self.chance) for name in names))

    def add_runs(self, count: int) -> None:
        """Add runs, in bulk if the service offers that."""
        path = f"/experiment/{self.experiment}/drift"
        runs = (documents.run(self.chance) for _ in range(count))
        first = [*itertools.islice(runs, BULK)]
        with Connection(self.url, self.token) as connection:
            response = connection.post(f"{path}/bulk", first)
        if response.status in NOT_OFFERED:
            self._send("runs", path, itertools.chain(first, runs))
        else:
            response.checked(201)
            self._send("runs", f"{path}/bulk", iter(lambda: [*itertools.islice(runs, BULK)], []))

    def _send(self, what: str, path: str, bodies: Iterable[Any]) -> None:
        """Post the bodies over several connections, and report the progress."""
        lock, waiting, sent = threading.Lock(), iter(bodies), itertools.count(1)

        def send() -> None:
            with Connection(self.url, self.token) as connection:
                while True:
                    with lock:
                        body = next(waiting, None)
                    if body is None:
                        return
                    connection.post(path, body).checked(201)
                    if not (number := next(sent)) % 1_000:
                        progress(f"  {number:,} requests")

        progress(f"Adding {what}.")
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            for done in [threads.submit(send) for _ in range(CONNECTIONS)]:
                done.result()


def progress(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
