"""Identifiers that sort by the time they were made: UUIDs of version 7 (RFC 9562, section 5.7)."""

import datetime
import random
import secrets
import threading
import time
import uuid

RANDOM_BITS = 74
STEP_BITS = 32
VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62
EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)

_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """A new identifier: 48 bits of milliseconds since 1970, then 74 random ones.

    Those of one process are in the order in which they were made, whichever of its threads made them and
    also where its clock goes back: within a millisecond each is a random step above the last (RFC 9562,
    section 6.2, method 2).
    """
    global _last  # noqa: PLW0603 - the order is the process's
    with _lock:
        milliseconds = time.time_ns() // 1_000_000
        if milliseconds > _last >> RANDOM_BITS:
            _last = milliseconds << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
        else:
            # It has to differ, it need not be a secret.
            _last += 1 + random.getrandbits(STEP_BITS)  # nosec B311
        bits = _last
    high, low = bits >> 62, bits & (1 << 62) - 1
    return uuid.UUID(int=(high >> 12) << 80 | (high & 0xFFF) << 64 | low | VERSION_AND_VARIANT)


def uuid7_at(time: datetime.datetime) -> uuid.UUID:
    """A new one for something of another time, to the millisecond; those of one millisecond are in no order."""
    milliseconds = (time - EPOCH) // datetime.timedelta(milliseconds=1)
    return uuid.UUID(int=milliseconds << 80 | uuid7().int & (1 << 80) - 1)


def time_of(identifier: uuid.UUID) -> datetime.datetime:
    """When an identifier of version 7 was made, in milliseconds."""
    return EPOCH + datetime.timedelta(milliseconds=identifier.int >> 80)
