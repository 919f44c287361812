"""Slots for searches and exports: the number that a process runs at once, for a caller, an address and in total.

Slow searches hold a thread of the process and a share of MongoDB. The slots leave enough of both to other requests. A
search without a slot waits a moment, because most searches take milliseconds. Slots are counted in memory: the threads
that they protect are this process's own.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest

from core.api.exceptions import RetryLater
from core.api.throttling import address_of
from core.client import current_request
from core.identity import identity_behind
from core.metrics import REFUSED_REQUESTS

# The limits of a worker with so many threads or more: beyond, processors are scarcer than threads. A worker with fewer
# has a share of them. All searches, with as many that wait, then take half of the threads.
FULL_THREADS = 64
MAX_IN_TOTAL = 16
MAX_OF_ADDRESS = 12
MAX_OF_CALLER = 8
# Anonymous callers leave most slots to users, however many addresses they have. With twelve slow searches of theirs in
# each of two workers, on two cores, reading one run took longer than its time limit of two seconds.
MAX_ANONYMOUS = 6
MAX_ANONYMOUS_AT_ADDRESS = 4
# An export holds its thread as long as its client reads, so few of them at once must leave threads to everybody.
MAX_EXPORTS = 4
MAX_EXPORTS_OF_CALLER = 2
MAX_ANONYMOUS_EXPORTS = 2
WAIT_SECONDS = 0.5
RETRY_SECONDS = 2


class TooManySearches(RetryLater):
    """A search or an export found no slot."""

    def __init__(self, subject: str, work: str) -> None:
        advice = "Wait for the response to one before you send another."
        super().__init__(RETRY_SECONDS, f"{subject} too many {work} at once. {advice}")


class Group(NamedTuple):
    """Searches, or exports, that share slots: at most `limit` run, and as many wait.

    `subject` begins the refusal of one more.
    """

    name: str
    limit: int
    subject: str
    work: str = "searches"


class Turn:
    """A search that waits for a slot in each of its groups."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.has_come = threading.Event()


class Slots:
    """The slots of a process. Waiting searches get them in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._queue: list[Turn] = []

    @contextmanager
    def held(self, groups: Sequence[Group]) -> Iterator[None]:
        """Hold a slot in each group during the block. Raises `TooManySearches` if there is none within a moment."""
        self._take(groups)
        try:
            yield
        finally:
            self._free(groups)

    def _take(self, groups: Sequence[Group]) -> None:
        with self._lock:
            full = full_group(groups, self._running)
            if full is None:
                self._running.update(names_of(groups))
                return
            waiting = Counter(name for turn in self._queue for name in names_of(turn.groups))
            if crowded := full_group(groups, waiting):
                raise refusal(crowded)
            turn = Turn(groups)
            self._queue.append(turn)
        turn.has_come.wait(WAIT_SECONDS)
        with self._lock:
            # The turn may have come after the wait.
            if not turn.has_come.is_set():
                self._queue.remove(turn)
                raise refusal(full)

    def _free(self, groups: Sequence[Group]) -> None:
        with self._lock:
            self._running -= Counter(names_of(groups))
            for turn in list(self._queue):
                if full_group(turn.groups, self._running) is None:
                    self._running.update(names_of(turn.groups))
                    self._queue.remove(turn)
                    turn.has_come.set()


def refusal(group: Group) -> TooManySearches:
    REFUSED_REQUESTS.labels(group.work).inc()
    return TooManySearches(group.subject, group.work)


@cache
def slots() -> Slots:
    """Return the slots of this process."""
    return Slots()


def search_slot() -> AbstractContextManager[None]:
    """Hold a slot for a search of the current request. A search outside a request needs none."""
    request = current_request.get()
    return slots().held(groups_of(request)) if request else nullcontext()


def export_slot(request: HttpRequest) -> AbstractContextManager[None]:
    """Hold a slot for an export until its client has read it."""
    identity, address = identity_behind(request), address_of(request)
    if identity.is_anonymous:
        of_caller = Group("anonymous exports", MAX_ANONYMOUS_EXPORTS, "Callers without a token run", "exports")
    else:
        name = f"exports of {identity.issuer} {identity.subject}"
        of_caller = Group(name, MAX_EXPORTS_OF_CALLER, "You run", "exports")
    of_address = Group(f"exports to {address}", MAX_EXPORTS_OF_CALLER, "Your address runs", "exports")
    return slots().held([of_caller, of_address, Group("exports", MAX_EXPORTS, "The service runs", "exports")])


def groups_of(request: HttpRequest) -> list[Group]:
    """Return the groups that a request's searches belong to. Anonymous callers are told apart by their address."""
    identity, address = identity_behind(request), address_of(request)
    if identity.is_anonymous:
        of_caller = [
            Group(f"anonymous at {address}", share_of(MAX_ANONYMOUS_AT_ADDRESS), "Your address runs"),
            Group("anonymous", share_of(MAX_ANONYMOUS), "Callers without a token run"),
        ]
    else:
        of_caller = [Group(f"identity {identity.issuer} {identity.subject}", share_of(MAX_OF_CALLER), "You run")]
    return [
        *of_caller,
        Group(f"address {address}", share_of(MAX_OF_ADDRESS), "Your address runs"),
        Group("all", share_of(MAX_IN_TOTAL), "The service runs"),
    ]


def share_of(limit: int) -> int:
    """Return a limit in proportion to the threads of a worker. It is at least 1 from 16 threads on, the fewest."""
    return limit * min(settings.THREADS, FULL_THREADS) // FULL_THREADS


def names_of(groups: Sequence[Group]) -> list[str]:
    return [group.name for group in groups]


def full_group(groups: Sequence[Group], numbers: Mapping[str, int]) -> Group | None:
    """Return a group whose number has reached its limit, or None."""
    return next((group for group in groups if numbers.get(group.name, 0) >= group.limit), None)
