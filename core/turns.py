"""Turns of threads that decode large documents.

No other thread runs while JSON or BSON is decoded: 0.1 s and more for half a million values. Threads that decode
large documents take turns, so that others, such as health checks, get the interpreter in between.
"""

import threading
from contextlib import AbstractContextManager, nullcontext

# A thread that has its turn may begin another.
decoding = threading.RLock()
no_turn = nullcontext()


def in_turn(is_large: bool) -> AbstractContextManager[object]:
    """Return a context that waits for its turn if a document is large."""
    return decoding if is_large else no_turn
