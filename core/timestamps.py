"""Times in the precision of MongoDB."""

import datetime
from typing import Any

from django.utils import timezone


def now() -> datetime.datetime:
    """Return the current UTC time in whole milliseconds, so that a response equals a later read from MongoDB."""
    time = timezone.now()
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def stored(value: Any) -> Any:
    """Return a time as the driver reads it: in UTC, without a zone. Other values are returned unchanged."""
    if isinstance(value, datetime.datetime) and value.tzinfo:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def written(time: datetime.datetime) -> str:
    """Write a UTC time as the JSON of responses does, by RFC 3339."""
    return time.isoformat().replace("+00:00", "Z")
