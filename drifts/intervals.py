"""Intervals of the calendar in any time zone: which one a time is in, and when it starts.

MongoDB only adds an offset and truncates; the offsets come from Python's `zoneinfo`, because the time
zone tables that a MongoDB server carries are as old as the server.
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
# No run is older than this.
BEGINNING = datetime.datetime(1970, 1, 1, tzinfo=UTC)
# Shorter than any two changes of a zone's offset have been apart since then, which was just under a week.
STEP = datetime.timedelta(days=3)
SECOND = datetime.timedelta(seconds=1)


class Interval(models.TextChoices):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class Period:
    """From `start` until the next period, the zone's clocks are ahead of UTC by `offset`."""

    start: datetime.datetime
    offset: datetime.timedelta


@dataclass(frozen=True)
class Calendar:
    """The hours, days, ISO 8601 weeks (from Monday) or months that the clocks of a zone show.

    A day is the time during which the clocks show its date: 23 or 25 hours where they are changed. An hour
    that clocks show twice is two hours.
    """

    interval: Interval
    zone: ZoneInfo

    @property
    def periods(self) -> tuple[Period, ...]:
        return periods_of(self.zone, timezone.now().year + 1)

    def key(self, time: str) -> Mql:
        """The expression that tells which interval a time is in: `start` takes its value."""
        shown = {"$add": [time, "$$offset"]}
        key: Mql = {"shown": {"$dateTrunc": {"date": shown, "unit": self.interval.value, "startOfWeek": "monday"}}}
        if self.interval is Interval.HOUR:
            key["offset"] = "$$offset"
        return {"$let": {"vars": {"offset": self._offset(time)}, "in": key}}

    def _offset(self, time: str) -> Mql:
        """The zone's offset at a time, in milliseconds. Most runs are recent: the latest periods are tried first."""
        branches = [
            {"case": {"$gte": [time, period.start]}, "then": in_milliseconds(period)} for period in self.periods
        ]
        return {"$switch": {"branches": branches[::-1], "default": in_milliseconds(self.periods[0])}}

    def start(self, key: dict[str, Any]) -> datetime.datetime:
        """The first moment at which the clocks show the interval, with the offset that they then have."""
        shown = key["shown"].replace(tzinfo=UTC)
        end = Period(datetime.datetime.max.replace(tzinfo=UTC), datetime.timedelta())
        for period, following in pairwise((*self.periods, end)):
            start = max(period.start, shown - period.offset)
            if start < following.start and key.get("offset") in (None, in_milliseconds(period)):
                return start.astimezone(datetime.timezone(period.offset))
        raise ValueError(f"{key} is no interval of {self.zone}.")


@lru_cache(maxsize=1_000)
def periods_of(zone: ZoneInfo, last_year: int) -> tuple[Period, ...]:
    """The periods of a constant offset until the end of a year, the oldest first."""
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
    """The second, after `before` and not after `at`, from which on the zone has this offset."""
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
