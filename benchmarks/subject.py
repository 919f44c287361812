"""The measured service and its data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

from benchmarks.connection import Connection

DEEP_PAGE = 5_000
PAGE = 10
LARGEST_PAGE = 100
# The number of run ids for reading single runs.
KNOWN_RUNS = 5_000


@dataclass(frozen=True)
class Subject:
    """A filled experiment of a service, which is sent to the processes of the load."""

    url: str
    """The address of the API, such as http://localhost:8000/api/v1."""
    token: str
    user: str
    experiment: str
    mongodb: str | None = None
    """The URI of the service's database, where the floor is measured; None if it cannot be reached."""
    runs: tuple[str, ...] = ()
    """The ids of some runs of the experiment."""
    deep_page: int = 1
    cursor: str | None = None
    """The cursor of that page, quoted for a URL; None if the service has no cursors."""

    @property
    def path(self) -> str:
        return f"/experiment/{self.experiment}/drift"


def explored(subject: Subject, count: int) -> Subject:
    """Read the `count` runs, and add ids of runs from all pages and a cursor of a deep page."""
    deep_page = min(DEEP_PAGE, count // PAGE)
    with Connection(subject.url, subject.token) as connection:
        return replace(
            subject,
            runs=tuple(some_ids(connection, subject, count)),
            deep_page=deep_page,
            cursor=cursor_at(connection, subject, (deep_page - 1) * PAGE),
        )


def some_ids(connection: Connection, subject: Subject, count: int) -> Iterator[str]:
    pages = -(-count // LARGEST_PAGE)
    for number in range(1, pages + 1, max(1, count // KNOWN_RUNS)):
        response = connection.post(f"{subject.path}/search?page={number}&page_size={LARGEST_PAGE}", {}).checked(200)
        yield from (run["id"] for run in response.json())


def cursor_at(connection: Connection, subject: Subject, depth: int) -> str | None:
    """Read every page up to this depth, and return the cursor."""
    cursor = None
    for size in (*[LARGEST_PAGE] * (depth // LARGEST_PAGE), depth % LARGEST_PAGE):
        if size:
            query = f"page_size={size}" + (f"&cursor={quote(cursor)}" if cursor else "")
            cursor = connection.post(f"{subject.path}/search?{query}", {}).checked(200).pagination.get("next_cursor")
            if cursor is None:
                return None
    return cursor and quote(cursor)
