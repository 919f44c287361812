"""The optional fields of a run that a field map may fill, as the API takes them.

They also decide which values at the paths of a field map can fill a field.
"""

import datetime
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from core.api.serializers import PlainMessages, StrictInteger, StrictNumber, StrictText
from core.filters.fields import parse_time
from drifts.intervals import BEGINNING

# Clocks differ, and a time without an offset may be meant in another zone.
MOST_AHEAD = datetime.timedelta(hours=24)
MAX_INTEGER = 2**63 - 1
MAX_NAME = 255
MAX_NOTE = 2_000


class StrictTime(PlainMessages, serializers.DateTimeField):
    """An RFC 3339 time, in UTC unless it has an offset, and stored in whole milliseconds."""

    default_error_messages = {"invalid": "Must be a time such as 2026-01-31T12:00:00Z."}

    def to_internal_value(self, value: Any) -> datetime.datetime:
        try:
            # The portal's forms have parsed the text already.
            time = value if isinstance(value, datetime.datetime) else parse_time(value)
        except ValueError:
            self.fail("invalid")
        return time.replace(microsecond=time.microsecond // 1000 * 1000)


class ObservedTime(StrictTime):
    """The time when the data of a run was looked at."""

    default_error_messages = {
        "future": "Must be at most 24 hours ahead of the server, whose time is {now}.",
        "past": "Must be 1970-01-01T00:00:00Z or later.",
    }

    def to_internal_value(self, value: Any) -> datetime.datetime:
        time = super().to_internal_value(value)
        # A client writes a run back as it has read it. An older record, or another clock, may have set such a time.
        if time == getattr(getattr(self.parent, "instance", None), "observed_at", None):
            return time
        if time < BEGINNING:
            self.fail("past")
        if time > (now := timezone.now()) + MOST_AHEAD:
            self.fail("future", now=f"{now:%Y-%m-%dT%H:%M:%SZ}")
        return time


OPTIONAL: dict[str, Any] = {"allow_null": True, "required": False}


def name_field(**options: Any) -> StrictText:
    return StrictText(max_length=MAX_NAME, **OPTIONAL, **options)


def typed_fields() -> dict[str, serializers.Field[Any, Any, Any, Any]]:
    """Return a new field for each optional field of a run that a field map may fill."""
    return {
        "detector": name_field(),
        "environment": name_field(),
        "model_version": name_field(),
        "observed_at": ObservedTime(
            **OPTIONAL,
            help_text="When the data was looked at; `created_at` if it is omitted or null. Statistics and pages are "
            "ordered by it. At most 24 hours ahead of the server.",
        ),
        "window_start": StrictTime(**OPTIONAL, help_text="The start of the data that was tested."),
        "window_end": StrictTime(
            **OPTIONAL, help_text="The end of the data that was tested, exclusive; after `window_start`."
        ),
        "feature": name_field(
            help_text="The column that was tested, or `prediction`; null stands for the whole input.",
        ),
        "p_value": StrictNumber(min_value=0, max_value=1, **OPTIONAL, help_text="From 0 to 1."),
        "statistic": StrictNumber(**OPTIONAL, help_text="The test statistic, a finite number."),
        "threshold": StrictNumber(
            **OPTIONAL, help_text="The number that the p-value or the statistic was compared with."
        ),
        "sample_size": StrictInteger(
            min_value=0, max_value=MAX_INTEGER, **OPTIONAL, help_text="The number of rows that were tested."
        ),
    }
