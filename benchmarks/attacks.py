"""`make attacks`: attack the service as deployed, and measure how long health checks and another user wait meanwhile.

Each attack runs in a process of its own, from other addresses than the measured requests. Behind nginx, the service
has the configuration of `deploy/nginx.conf`.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from environs import Env
from requests.adapters import HTTPAdapter

from benchmarks.connection import Connection
from benchmarks.filling import Filling, progress
from benchmarks.report import markdown
from benchmarks.service import OwnService, own_service
from tests.nginx import NGINX, Nginx

env = Env()
RUNS = env.int("ATTACK_RUNS", 100_000)
SECONDS = env.float("ATTACK_SECONDS", 10)
ONLY = env.str("ATTACK_ONLY", "")
RESULTS = env.path("BENCH_RESULTS", Path("var/benchmarks"))
LIVEZ_TARGET, BYSTANDER_TARGET = 0.5, 3.0
LIVEZ_INTERVAL, BYSTANDER_INTERVAL, DRIP_INTERVAL = 0.05, 0.02, 2.0
PATIENCE = 60
STALL_SECONDS = 10
EMPTY_LISTS = 490_000
BODY = {"job_status": "Completed", "model": "forest", "drift_detected": True}


Request = Callable[[requests.Session], requests.Response]


class Target(NamedTuple):
    """The attacked service, as an attacking process needs it."""

    url: str
    token: str
    """A token of a registered user, who may write to the experiment `own`."""
    own: str
    public: str
    """An experiment with many runs, readable without a token."""
    heavy: str
    """A public experiment with a dozen runs of 490,000 empty lists each."""
    runs: tuple[str, ...]
    """The ids of these runs."""
    database: int
    """The process id of MongoDB."""


class Attack(NamedTuple):
    name: str
    run: Callable[[Target, int, float], Counter[str]]
    """Attack with a number of connections up to a time, and count the responses by status."""
    connections: int
    needs_proxy: bool = True


# The attacks. They run in processes of their own.


def half_headers(target: Target, connections: int, until: float) -> Counter[str]:
    return drip(target, connections, until, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")


def slow_bodies(target: Target, connections: int, until: float) -> Counter[str]:
    head = "POST /api/v1/drift/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return drip(target, connections, until, f"{head}Content-Length: 1000\r\n\r\n".encode())


def drip(target: Target, connections: int, until: float, head: bytes) -> Counter[str]:
    """Send the head on every connection, then a byte each 2 s. Connections that the service closes are replaced."""
    counts: Counter[str] = Counter()
    with ExitStack() as ending:

        def connected(number: int) -> socket.socket:
            connection = ending.enter_context(connect(target.url, number))
            with suppress(OSError):
                connection.sendall(head)
            return connection

        slow = [connected(number) for number in range(connections)]
        while time.time() < until:
            time.sleep(DRIP_INTERVAL)
            for number, connection in enumerate(slow):
                try:
                    connection.sendall(b"x")
                except OSError:
                    counts["closed"] += 1
                    slow[number] = connected(number)
    return counts


def slow_regexes(target: Target, connections: int, until: float) -> Counter[str]:
    numbers = cycle(range(10**9))

    def search(client: requests.Session) -> requests.Response:
        slow = f"^(([a-z]|[a-z][a-z])+)+{next(numbers)}$"
        address = f"{target.url}/api/v1/experiment/{target.public}/drift/search"
        return client.post(address, json={"parameters.text": {"$regex": slow}}, timeout=PATIENCE)

    return together(search, connections, until)


def uploads(target: Target, connections: int, until: float) -> Counter[str]:
    files = {"file": b"x" * 50_000_000}
    return together(
        lambda client: client.post(f"{target.url}/login", files=files, timeout=PATIENCE), connections, until
    )


def heavy_searches(target: Target, connections: int, until: float) -> Counter[str]:
    address = f"{target.url}/api/v1/experiment/{target.heavy}/drift/search?page_size=100"
    return together(lambda client: client.post(address, json={}, timeout=PATIENCE), connections, until)


def heavy_pages(target: Target, connections: int, until: float) -> Counter[str]:
    experiment = f"{target.url}/experiments/{target.heavy}"
    addresses = cycle([experiment, *(f"{experiment}/runs/{run}" for run in target.runs)])
    return together(lambda client: client.get(next(addresses), timeout=PATIENCE), connections, until)


def heavy_reads(target: Target, connections: int, until: float) -> Counter[str]:
    addresses = cycle([f"{target.url}/api/v1/experiment/{target.heavy}/drift/{run}" for run in target.runs])
    return together(lambda client: client.get(next(addresses), timeout=PATIENCE), connections, until)


def broken_lines(target: Target, connections: int, until: float) -> Counter[str]:
    headers = {"Authorization": f"Bearer {target.token}", "Content-Type": "application/x-ndjson"}
    address = f"{target.url}/api/v1/experiment/{target.own}/drift/bulk"
    body = b"{\n" * 3_900_000
    return together(
        lambda client: client.post(address, data=body, headers=headers, timeout=PATIENCE), connections, until
    )


def logins(target: Target, connections: int, until: float) -> Counter[str]:
    address = f"{target.url}/login/provider"
    return together(lambda client: client.get(address, allow_redirects=False, timeout=PATIENCE), connections, until)


def documents(target: Target, connections: int, until: float) -> Counter[str]:
    addresses = cycle([f"{target.url}/api/v1/openapi.json", f"{target.url}/readyz"])
    return together(lambda client: client.get(next(addresses), timeout=PATIENCE), connections, until)


def stopped_database(target: Target, connections: int, until: float) -> Counter[str]:
    """Read while MongoDB does not respond for 10 s."""
    os.kill(target.database, signal.SIGSTOP)
    threading.Timer(STALL_SECONDS, os.kill, (target.database, signal.SIGCONT)).start()
    address = f"{target.url}/api/v1/experiment/{target.public}/drift/search"
    return together(lambda client: client.post(address, json={}, timeout=PATIENCE), connections, until)


def together(request: Request, connections: int, until: float) -> Counter[str]:
    """Repeat a request on many threads, each from an address of its own, and count the responses by status."""
    counts: Counter[str] = Counter()

    def repeat(number: int) -> None:
        with requests.Session() as client:
            client.mount("http://", AddressAdapter(number))
            while time.time() < until:
                counts[outcome(lambda: request(client))] += 1

    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


def outcome(request: Callable[[], requests.Response]) -> str:
    try:
        return str(request().status_code)
    except requests.RequestException as error:
        return type(error).__name__


class AddressAdapter(HTTPAdapter):
    """Connects from one of 250 other addresses of this machine."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, source_address=address_of(self.number))


def address_of(attacker: int) -> tuple[str, int]:
    return f"127.0.1.{attacker % 250 + 1}", 0


def connect(url: str, attacker: int) -> socket.socket:
    address = urlsplit(url)
    place = (str(address.hostname), int(address.port or 80))
    return socket.create_connection(place, PATIENCE, source_address=address_of(attacker))


ATTACKS = [
    Attack("half headers", half_headers, 60, needs_proxy=False),
    Attack("half headers", half_headers, 500),
    Attack("slow bodies", slow_bodies, 60, needs_proxy=False),
    Attack("slow bodies", slow_bodies, 500),
    Attack("slow regular expressions", slow_regexes, 12),
    Attack("slow regular expressions", slow_regexes, 40),
    Attack("uploads of 50 MB to /login", uploads, 20),
    Attack("searches of 490,000 empty lists a run", heavy_searches, 8),
    Attack("pages of such runs", heavy_pages, 8),
    Attack("reads of single such runs", heavy_reads, 12),
    Attack("bulk bodies of broken lines, 8 MB", broken_lines, 4),
    Attack("/login/provider", logins, 10),
    Attack("openapi.json and /readyz", documents, 50),
    Attack("searches while MongoDB is stopped for 10 s", stopped_database, 40),
]


# The measured requests.


class Series:
    """A request that is repeated until the end: the longest time, and the responses by status."""

    def __init__(self, requests_in_turn: Iterator[Callable[[], requests.Response]], interval: float) -> None:
        self.requests_in_turn = requests_in_turn
        self.interval = interval
        self.longest = 0.0
        self.counts: Counter[str] = Counter()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.repeat)
        self.thread.start()

    def repeat(self) -> None:
        while not self.is_over.wait(self.interval):
            start = time.monotonic()
            self.counts[outcome(next(self.requests_in_turn))] += 1
            self.longest = max(self.longest, time.monotonic() - start)

    def end(self) -> None:
        self.is_over.set()
        self.thread.join()


def health_checks(url: str) -> Iterator[Callable[[], requests.Response]]:
    return iter(lambda: lambda: requests.get(f"{url}/livez", timeout=PATIENCE), None)


def bystander(url: str, token: str, experiment: str, run: str) -> Iterator[Callable[[], requests.Response]]:
    """A user who stores a run, reads one and searches, on one connection."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    path = f"{url}/api/v1/experiment/{experiment}/drift"
    return cycle(
        [
            lambda: session.post(path, json=BODY, timeout=PATIENCE),
            lambda: session.get(f"{path}/{run}", timeout=PATIENCE),
            lambda: session.post(f"{path}/search", json={"model": "forest"}, timeout=PATIENCE),
        ]
    )


def main() -> None:
    chosen = [attack for attack in ATTACKS if ONLY in attack.name and (NGINX or not attack.needs_proxy)]
    if not chosen:
        names = ", ".join(dict.fromkeys(attack.name for attack in ATTACKS))
        sys.exit(f"No attack that can run here has {ONLY!r} (ATTACK_ONLY) in its name. The attacks are: {names}.")
    with own_service(RESULTS, TRUSTED_PROXIES="1") as service, front(service) as nginx:
        target, experiment, run = filled(service)
        rows = []
        for attack in chosen:
            url = nginx if attack.needs_proxy else service.server.url
            progress(f"{attack.name}: {attack.connections} connections for {SECONDS:g} s.")
            user = bystander(url, service.token, experiment, run)
            rows.append(row(attack, target._replace(url=url), user))
            sys.stderr.write(f"{rows[-1]}\n")
    sys.stdout.write(f"{markdown([*rows[0]], [[*map(str, one.values())] for one in rows])}\n")


@contextmanager
def front(service: OwnService) -> Iterator[str]:
    """Start nginx where there is one, and yield its address."""
    if not NGINX:
        progress("There is no nginx here (apt-get install nginx-light): attacks that need a proxy are LEFT OUT.")
        yield ""
        return
    nginx = Nginx(service.server.url)
    nginx.start()
    try:
        yield nginx.url
    finally:
        nginx.stop()


def filled(service: OwnService) -> tuple[Target, str, str]:
    """Store the attacked experiments. Return them, and the ids of the bystander's experiment and run."""
    filling = Filling(service.url, service.token)
    filling.add_runs(RUNS)
    attacker = service.token_of("attacker")
    with Connection(service.url, service.token) as connection:
        run = connection.post(f"/experiment/{filling.experiment}/drift", BODY).checked(201).json()["id"]
        public = connection.post("/experiment", {"name": "public", "public": True}).checked(201).json()["id"]
        runs = [{**BODY, "parameters": {"text": "abcdefghijklmnopqrstuvwxyz" * 8}}] * 500
        for _ in range(max(1, RUNS // 500 // 5)):
            connection.post(f"/experiment/{public}/drift/bulk", runs).checked(201)
        heavy = connection.post("/experiment", {"name": "heavy", "public": True}).checked(201).json()["id"]
        body = json.dumps({**BODY, "parameters": {"a": [[]] * EMPTY_LISTS}}, separators=(",", ":")).encode()
        message = connection.message("POST", f"/experiment/{heavy}/drift", body)
        stored = tuple(connection.send(message).checked(201).json()["id"] for _ in range(12))
    with Connection(service.url, attacker) as connection:
        connection.post("/user", None).checked(201)
        own = connection.post("/experiment", {"name": "the attacker's"}).checked(201).json()["id"]
    assert service.database.process
    target = Target(service.server.url, attacker, own, public, heavy, stored, service.database.process.pid)
    return target, filling.experiment, run


def row(
    attack: Attack, target: Target, bystander_requests: Iterator[Callable[[], requests.Response]]
) -> dict[str, Any]:
    """Attack once, and return the line of the table."""
    context = multiprocessing.get_context("spawn")
    counts: Any = context.SimpleQueue()
    checks = Series(health_checks(target.url), LIVEZ_INTERVAL)
    user = Series(bystander_requests, BYSTANDER_INTERVAL)
    attacking = context.Process(target=run_attack, args=(attack.name, attack.connections, target, counts))
    attacking.start()
    attacking.join()
    refused = Counter() if counts.empty() else counts.get()
    for series in (checks, user):
        series.end()
    return {
        "attack": f"{attack.name}, {attack.connections} connections" + (", nginx" if attack.needs_proxy else ""),
        f"longest /livez (target {LIVEZ_TARGET} s)": f"{checks.longest:.3f}",
        f"longest other request (target {BYSTANDER_TARGET:g} s)": f"{user.longest:.3f}",
        "/livez": shown(checks.counts),
        "other requests": shown(user.counts),
        "the attack's": shown(refused),
    }


def run_attack(name: str, connections: int, target: Target, counts: Any) -> None:
    run = next(attack.run for attack in ATTACKS if attack.name == name)
    counts.put(run(target, connections, time.time() + SECONDS))


def shown(counts: Counter[str]) -> str:
    return ", ".join(f"{number} x {status}" for status, number in sorted(counts.items())) or "-"


if __name__ == "__main__":
    main()
