"""Turns of threads that decode large documents.

No other thread runs while JSON or BSON is decoded: 0.1 s and more for half a million values. Threads that decode
large documents take turns, so that others, such as health checks, get the interpreter in between.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# A thread that has its turn may begin another.
decoding = threading.RLock()
# Seconds between two turns. The next one would begin at once, before waiting threads get the interpreter.
PAUSE = 0.02


@contextmanager
def in_turn(is_large: bool) -> Iterator[None]:
    """Wait for a turn if a document is large."""
    if not is_large:
        yield
        return
    with decoding:
        try:
            yield
        finally:
            time.sleep(PAUSE)
