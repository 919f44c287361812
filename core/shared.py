"""Results that requests share for a short time, because they cost a question to the database."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """The result of `make`, made by one thread at a time and shared by the requests of `seconds`.

    Making it may wait for the database. Requests meanwhile get the last result, or `first`, so that they hold no
    thread.
    """

    def __init__(self, make: Callable[[], T], first: T, seconds: float) -> None:
        self.make, self.first, self.seconds = make, first, seconds
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Forget the last result."""
        self._result, self._expires_at = self.first, 0.0

    def get(self) -> T:
        """Return the result."""
        if time.monotonic() >= self._expires_at and self._lock.acquire(blocking=False):
            try:
                self._result = self.make()
                self._expires_at = time.monotonic() + self.seconds
            finally:
                self._lock.release()
        return self._result
