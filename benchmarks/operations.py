"""The measured operations: a request to the API, the required response, and the floor."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, repeat
from random import Random
from typing import Any, TypeAlias

from benchmarks import documents, floor
from benchmarks.connection import Connection, Response, Void
from benchmarks.floor import BULK, PREPARED, PREPARED_BULKS, Floor
from benchmarks.subject import PAGE, Subject

NOT_OFFERED = (404, 405)

Messages: TypeAlias = Callable[[Connection, Subject, Random], Iterator[bytes]]


@dataclass(frozen=True)
class Operation:
    messages: Messages
    """The requests of one connection, without end; empty if the service has no such request."""
    floor: Floor | None = None
    twin: str | None = None
    """An operation of the service that serves as the floor."""
    to_reach: float | None = None
    """The ratio to the floor's rate that the service must reach."""
    status: int = 200
    items: int | None = None
    """The length of the list in the response, or of its `ids`."""
    counts: int = 1
    """The number of runs that one call stores."""

    @property
    def only_reads(self) -> bool:
        return self.status == 200

    def is_offered(self, subject: Subject) -> bool:
        """Return whether the service offers this request. Raises `Void` for a wrong response."""
        with Connection(subject.url, subject.token) as connection:
            message = next(self.messages(connection, subject, Random(0)), None)
            response = connection.send(message) if message else None
        if response is None or response.status in NOT_OFFERED:
            return False
        self.check(response)
        return True

    def check(self, response: Response) -> None:
        """Raise `Void` for a wrong response."""
        content = response.checked(self.status).json()
        items = content if isinstance(content, list) else content.get("ids", ())
        if self.items is not None and len(items) != self.items:
            raise Void(f"{len(items)} items instead of {self.items}: {response.body[:500]!r}")


def one_run(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    while True:
        yield connection.message("GET", f"{subject.path}/{chance.choice(subject.runs)}")


def new_run(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    bodies = [as_json(documents.run(chance)) for _ in range(PREPARED)]
    return cycle([connection.message("POST", subject.path, body) for body in bodies])


def new_runs(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    bodies = [as_json([documents.run(chance) for _ in range(BULK)]) for _ in range(PREPARED_BULKS)]
    return cycle([connection.message("POST", f"{subject.path}/bulk", body) for body in bodies])


def search(query: Any) -> Messages:
    def messages(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
        return repeat(connection.message("POST", f"{subject.path}/search", as_json(query)))

    return messages


def search_by_model(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    """Searches for one model after the other."""
    models = chance.sample(documents.MODELS, len(documents.MODELS))
    bodies = [as_json({"model": model, "drift_detected": True}) for model in models]
    return cycle([connection.message("POST", f"{subject.path}/search", body) for body in bodies])


def search_by_new_parameter(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    """Searches that all differ, so that no cache can serve them."""
    while True:
        body = as_json({"parameters.p3": {"$gt": 0.9 + chance.random() / 100}})
        yield connection.message("POST", f"{subject.path}/search", body)


def search_at_page(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    return repeat(connection.message("POST", f"{subject.path}/search?page={subject.deep_page}", b"{}"))


def search_at_cursor(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    if subject.cursor:
        yield from repeat(connection.message("POST", f"{subject.path}/search?cursor={subject.cursor}", b"{}"))


def search_experiments(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    return repeat(connection.message("POST", "/experiment/search", b"{}"))


def statistics(connection: Connection, subject: Subject, chance: Random) -> Iterator[bytes]:
    recent = {"created_at": {"$gte": floor.a_month_ago().isoformat()}}
    body = as_json({"filter": recent, "group_by": "model", "interval": "day"})
    return repeat(connection.message("POST", f"{subject.path}/stats", body))


def as_json(body: Any) -> bytes:
    return json.dumps(body).encode()


# Operations that write come last, so that the others read the experiment as it was filled.
OPERATIONS = {
    "one run": Operation(one_run, floor.find_one, to_reach=0.25),
    "first page": Operation(search({}), floor.find_ten, to_reach=0.17, items=PAGE),
    "model and drift_detected": Operation(search_by_model, floor.find_ten_of_a_model, to_reach=0.16, items=PAGE),
    "parameters.p3 > 0.9": Operation(
        search({"parameters.p3": {"$gt": 0.9}}), floor.find_ten_of_a_parameter, to_reach=0.17, items=PAGE
    ),
    "parameters.p3 > a new number": Operation(search_by_new_parameter, floor.find_ten_of_a_parameter, items=PAGE),
    "deep page by number": Operation(search_at_page, floor.find_ten_far_down, to_reach=0.6, items=PAGE),
    "deep page by cursor": Operation(search_at_cursor, twin="first page", to_reach=0.9, items=PAGE),
    "experiment search": Operation(search_experiments, floor.find_ten_experiments, to_reach=0.17, items=PAGE),
    "statistics": Operation(statistics, floor.count_by_model_and_day),
    "new run": Operation(new_run, floor.insert_one, to_reach=0.28, status=201),
    "bulk ingest": Operation(new_runs, floor.insert_many, to_reach=0.40, status=201, items=BULK, counts=BULK),
}
