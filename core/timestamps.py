"""Times as MongoDB keeps them."""

import datetime

from django.utils import timezone


def now() -> datetime.datetime:
    """The current time in UTC, in milliseconds: what is answered on creation is what a later read answers."""
    time = timezone.now()
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
