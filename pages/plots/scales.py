"""Scales: from values to places on an axis, with ticks at round values. They take all finite floats.

Ticks are the "loose labels" of P. Heckbert, "Nice Numbers for Graph Labels", Graphics Gems (1990),
pages 61-63: steps of 1, 2 or 5 times a power of ten, and an axis that begins and ends at a tick.
Time axes use steps of the calendar.
"""

import datetime
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_TICKS = 8
GREATEST = 1.7976931348623157e308
# The least span of an axis, as a part of its values. On a narrower one, two ticks would have the same label.
NARROWEST = 1e-12
SMALLEST_SPAN = 1e-290
UTC = datetime.UTC
MINUTE, HOUR, DAY = 60, 3_600, 86_400
# Steps of time: in seconds up to two weeks, then in months.
SECONDS = (1, 2, 5, 10, 15, 30, *(MINUTE * n for n in (1, 2, 5, 10, 15, 30)), *(HOUR * n for n in (1, 2, 3, 6, 12)))
DAYS = (DAY, 2 * DAY, 7 * DAY, 14 * DAY)
MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1_200, 6_000, 12_000, 24_000)
MONTH = 30.4369 * DAY
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = (datetime.datetime(1, 1, 1, tzinfo=UTC) - EPOCH).total_seconds()
LATEST = (datetime.datetime(9999, 12, 31, tzinfo=UTC) - EPOCH).total_seconds()


@dataclass(frozen=True)
class Tick:
    """A label at a place on the axis, from 0 at its start to 1 at its end."""

    place: float
    label: str


class Scale(Protocol):
    """An axis that contains the given values."""

    @property
    def ticks(self) -> Sequence[Tick]: ...

    def place(self, value: float) -> float:
        """The place of a value: 0 at the start of the axis, 1 at its end."""
        ...

    def value(self, place: float) -> float:
        """The value at a place of the axis."""
        ...


class LinearScale:
    """A linear axis between two round numbers. Takes at least one finite value."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = widened(min(values), max(values))
        # Divide first: the difference of two floats may overflow.
        self.step = nice_step(high / (MAX_TICKS - 4) - low / (MAX_TICKS - 4))
        self.low = at_most_greatest(math.floor(low / self.step) * self.step)
        self.high = at_most_greatest(math.ceil(high / self.step) * self.step)

    def place(self, value: float) -> float:
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def value(self, place: float) -> float:
        return at_most_greatest(self.low * (1 - place) + self.high * place)

    @property
    def ticks(self) -> list[Tick]:
        first, last = math.ceil(self.low / self.step - 1e-6), math.floor(self.high / self.step + 1e-6)
        multiples = [multiple * self.step for multiple in range(first, last + 1)]
        return [Tick(self.place(value), label_of(value, self.step)) for value in multiples if math.isfinite(value)]


class LogScale:
    """A logarithmic axis that starts at a round number. Takes at least one value, all above 0."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = math.log10(min(values)), math.log10(max(values))
        self.marks = self._marks(low, high)
        self.low, self.high = self.marks[0], max(self.marks[-1], high)

    def _marks(self, low: float, high: float) -> list[float]:
        """The logarithms of the ticks. Values lie between them, or slightly beyond the last."""
        first, last = math.floor(low), math.ceil(high)
        last += first == last
        if last - first > 2:
            stride = math.ceil((last - first) / (MAX_TICKS - 1))
            return [float(power) for power in range(first, last + 1, stride)]
        halves = [power + math.log10(digit) for power in range(first, last) for digit in (1, 2, 5)] + [float(last)]
        begin = max(mark for mark in halves if mark <= low + 1e-9)
        end = min(mark for mark in halves if mark >= high - 1e-9 and mark > begin)
        return [mark for mark in halves if begin <= mark <= end]

    def place(self, value: float) -> float:
        return self.place_of_power(math.log10(value))

    def place_of_power(self, exponent: float) -> float:
        """The place of a power of ten, which may be too large for a float."""
        return (exponent - self.low) / (self.high - self.low)

    def power(self, place: float) -> float:
        """The logarithm to base ten of the value at a place."""
        return self.low * (1 - place) + self.high * place

    def value(self, place: float) -> float:
        return power_of_ten(self.power(place))

    @property
    def ticks(self) -> list[Tick]:
        return [Tick(self.place_of_power(mark), power_label(mark)) for mark in self.marks]


class TimeScale:
    """A time axis with ticks at round times in UTC. Takes at least one time in seconds since 1970."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = (min(max(end, EARLIEST), LATEST) for end in (min(values), max(values)))
        margin = max((high - low) * 0.02, 5.0 - (high - low) / 2, 0.0)
        self.low, self.high = max(low - margin, EARLIEST), min(high + margin, LATEST)

    def place(self, value: float) -> float:
        return (min(max(value, EARLIEST), LATEST) - self.low) / (self.high - self.low)

    def value(self, place: float) -> float:
        return self.low * (1 - place) + self.high * place

    @property
    def ticks(self) -> list[Tick]:
        wanted = (self.high - self.low) / (MAX_TICKS - 1)
        times, form = self._months(wanted) if wanted > DAYS[-1] else self._seconds(wanted)
        return [Tick(self.place(time), form.format(moment(time))) for time in times]

    def _seconds(self, wanted: float) -> tuple[list[float], str]:
        steps = (*SECONDS, *DAYS)
        step = steps[bisect_left(steps, wanted)]
        first = math.ceil(self.low / step)
        times = [float(step * n) for n in range(first, math.floor(self.high / step) + 1)]
        if step >= DAY:
            return times, "{0.day} {0:%b} {0.year}"
        return times, "{0.day} {0:%b %H:%M}" if step >= MINUTE else "{0.day} {0:%b %H:%M:%S}"

    def _months(self, wanted: float) -> tuple[list[float], str]:
        step = MONTHS[min(bisect_left(MONTHS, wanted / MONTH), len(MONTHS) - 1)]
        first, last = (moment(end).year * 12 + moment(end).month - 1 for end in (self.low, self.high))
        starts = range(-(-first // step) * step, last + 1, step)
        times = [seconds_of(datetime.datetime(n // 12, n % 12 + 1, 1, tzinfo=UTC)) for n in starts if n >= 12]
        return [
            time for time in times if self.low <= time <= self.high
        ], "{0.year}" if step >= 12 else "{0:%b} {0.year}"


def widened(low: float, high: float) -> tuple[float, float]:
    """Move the ends of an axis apart if they are equal, or too close for distinct labels."""
    least = max(abs(low), abs(high)) * NARROWEST
    if high / 2 - low / 2 > max(least, SMALLEST_SPAN):
        return low, high
    margin = max(abs(low) * 0.1, least) if abs(low) > SMALLEST_SPAN else 1.0
    return at_most_greatest(low - margin), at_most_greatest(high + margin)


def nice_step(span: float) -> float:
    """Round to 1, 2, 5 or 10 times a power of ten."""
    power = math.floor(math.log10(span))
    part = span / power_of_ten(power)
    return float(f"{1 if part < 1.5 else 2 if part < 3 else 5 if part < 7 else 10}e{power}")


def power_of_ten(exponent: float) -> float:
    return 10.0 ** min(max(exponent, -323.0), 308.0)


def at_most_greatest(value: float) -> float:
    return min(max(value, -GREATEST), GREATEST)


def label_of(value: float, step: float) -> str:
    """Format a multiple of a step, with enough digits to distinguish it from the next."""
    value = 0.0 if abs(value) < step / 2 else value
    finest, greatest = math.floor(math.log10(step) + 1e-9), math.floor(math.log10(abs(value) or step))
    if greatest >= 7 or finest < -6:
        mantissa, _, exponent = f"{value:.{min(max(greatest - finest, 0), 16)}e}".partition("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return "0" if value == 0 else minus(f"{mantissa}e{int(exponent)}")
    return minus(f"{value:,.{max(-finest, 0)}f}")


def power_label(exponent: float) -> str:
    power = math.floor(exponent + 1e-9)
    digit = round(10 ** (exponent - power))
    return minus(f"{digit}e{power}") if abs(power) > 4 else f"{digit * 10.0**power:,.{max(-power, 0)}f}"


def minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def moment(seconds: float) -> datetime.datetime:
    """The time of seconds since 1970, limited to the years 1 to 9999."""
    return EPOCH + datetime.timedelta(seconds=min(max(seconds, EARLIEST), LATEST))


def seconds_of(time: datetime.datetime) -> float:
    return (time - EPOCH).total_seconds()
