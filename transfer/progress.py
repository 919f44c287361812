"""The progress of a command: a bar on a terminal, elsewhere a line now and then."""

import time
from typing import Protocol

WIDTH = 30
SECONDS = {True: 0.2, False: 10.0}


class Stream(Protocol):
    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...
    def isatty(self) -> bool: ...


class Progress:
    """Shows how many of `total` documents are done. The total may be an estimate."""

    def __init__(self, stream: Stream, total: int) -> None:
        self.stream, self.total = stream, total
        self.is_terminal = stream.isatty()
        self.done = 0
        self.started_at = self.shown_at = time.monotonic()

    def advance(self, collection: str) -> None:
        """Count one document of a collection."""
        self.done += 1
        # Reading the clock for each document would take longer than the rest.
        if self.done % 100 == 0 and time.monotonic() > self.shown_at + SECONDS[self.is_terminal]:
            self.show(collection)

    def show(self, collection: str) -> None:
        self.shown_at = time.monotonic()
        total = max(self.total, self.done, 1)
        rate = self.done / max(self.shown_at - self.started_at, 0.001)
        text = f"{self.done:,} of {total:,} documents, {rate:,.0f} per second ({collection})"
        if self.is_terminal:
            bar = "#" * (WIDTH * self.done // total)
            text = f"\r[{bar:.<{WIDTH}}] {text}\033[K"
        self.stream.write(text if self.is_terminal else f"{text}\n")
        self.stream.flush()

    def clear(self) -> None:
        """Remove the bar, so that a line can take its place."""
        if self.is_terminal:
            self.stream.write("\r\033[K")
            self.stream.flush()
