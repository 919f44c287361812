"""Calendar intervals in any time zone: which interval contains a time, and when it starts.

MongoDB only adds an offset and truncates. The offsets come from Python's `zoneinfo`, because the time
zone tables of a MongoDB server are as old as the server.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from django.db import models
from django.utils import timezone

from core.mongodb.match import Mql

UTC = datetime.UTC
# The earliest time that a client may give a run.
BEGINNING = datetime.datetime(1970, 1, 1, tzinfo=UTC)
# The step between checks of an offset. Since 1970 no zone changed its offset twice within this time: the shortest
# time between two changes was just under a week.
STEP = datetime.timedelta(days=3)
SECOND = datetime.timedelta(seconds=1)


class Interval(models.TextChoices):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class Period:
    """A time from `start` until the next period, during which the zone's clocks are ahead of UTC by `offset`."""

    start: datetime.datetime
    offset: datetime.timedelta


@dataclass(frozen=True)
class Calendar:
    """The hours, days, ISO 8601 weeks (from Monday) or months of a time zone.

    A day has 23 or 25 hours when the clocks change. An hour that the clocks show twice counts as two intervals.
    """

    interval: Interval
    zone: ZoneInfo

    @property
    def periods(self) -> tuple[Period, ...]:
        return periods_of(self.zone, timezone.now().year + 1)

    def key(self, time: Any) -> Mql:
        """The aggregation expression of the interval that contains a time. `start` takes its value."""
        shown = {"$add": ["$$time", "$$offset"]}
        key: Mql = {"shown": {"$dateTrunc": {"date": shown, "unit": self.interval.value, "startOfWeek": "monday"}}}
        if self.interval is Interval.HOUR:
            key["offset"] = "$$offset"
        with_offset = {"$let": {"vars": {"offset": self._offset()}, "in": key}}
        return {"$let": {"vars": {"time": time}, "in": with_offset}}

    def _offset(self) -> Mql:
        """The zone's offset at `$$time`, in milliseconds. The latest periods come first: most runs are recent."""
        branches = [
            {"case": {"$gte": ["$$time", period.start]}, "then": in_milliseconds(period)} for period in self.periods
        ]
        return {"$switch": {"branches": branches[::-1], "default": in_milliseconds(self.periods[0])}}

    def start(self, key: dict[str, Any]) -> datetime.datetime:
        """The start of an interval, with the zone's offset at that time. Raises `ValueError` for an unknown key."""
        shown = key["shown"].replace(tzinfo=UTC)
        end = Period(datetime.datetime.max.replace(tzinfo=UTC), datetime.timedelta())
        for period, following in pairwise((*self.periods, end)):
            start = max(period.start, shown - period.offset)
            if start < following.start and key.get("offset") in (None, in_milliseconds(period)):
                return start.astimezone(datetime.timezone(period.offset))
        raise ValueError(f"{key} is no interval of {self.zone}.")


@lru_cache(maxsize=1_000)
def periods_of(zone: ZoneInfo, last_year: int) -> tuple[Period, ...]:
    """The periods of constant offset from 1970 to the end of a year, oldest first."""
    end = datetime.datetime(last_year + 1, 1, 1, tzinfo=UTC)
    return tuple(constant_periods(zone, end))


def constant_periods(zone: ZoneInfo, end: datetime.datetime) -> Iterator[Period]:
    time, offset = BEGINNING, offset_at(zone, BEGINNING)
    yield Period(time, offset)
    while time < end:
        time += STEP
        if (new := offset_at(zone, time)) != offset:
            yield Period(first_with(new, zone, time - STEP, time), new)
            offset = new


def first_with(
    offset: datetime.timedelta, zone: ZoneInfo, before: datetime.datetime, at: datetime.datetime
) -> datetime.datetime:
    """Find the first second of this offset by bisection, after `before` and not after `at`."""
    while at - before > SECOND:
        between = before + (at - before) // 2 // SECOND * SECOND
        before, at = (before, between) if offset_at(zone, between) == offset else (between, at)
    return at


def offset_at(zone: ZoneInfo, time: datetime.datetime) -> datetime.timedelta:
    offset = time.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def in_milliseconds(period: Period) -> int:
    return period.offset // datetime.timedelta(milliseconds=1)
