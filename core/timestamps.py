"""Times in the precision of MongoDB."""

import datetime

from django.utils import timezone


def now() -> datetime.datetime:
    """Return the current UTC time in whole milliseconds, so that a response equals a later read from MongoDB."""
    time = timezone.now()
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
