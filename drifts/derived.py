"""The fields of a run that its client did not send: the mapped ones, the default of `observed_at`, and `series`.

A run stores the effective value of each field, which filters, sorts and indexes use. `derived` names the fields whose
value the client did not send. Such a value is computed again whenever the run or the rules of its experiment change; a
sent value stays.
"""

import datetime
import math
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework.serializers import Field, ValidationError

from core import timestamps
from core.filters import paths
from core.mongodb.documents import Document
from drifts.fields import MAX_NAME, typed_fields
from drifts.parameters import part_at
from experiments.run_rules import MAPPABLE_FIELDS, RunRules

WINDOW = ("window_start", "window_end")


class EmptyWindow(Exception):
    """Raised for a window that does not start before its end. The message is safe to show."""

    def __init__(self) -> None:
        super().__init__("Must be after window_start.")


def derived_fields(run: Document, rules: RunRules) -> Document:
    """Return the fields to store with a run, beside those that its client sent. Null stands for an absent field.

    `run` is the document of the run, in which absent fields are null. Raises `EmptyWindow` if the client has sent both
    ends of a window that is empty.
    """
    unsent = run.get("derived") or ()
    sent = {name: run[name] for name in MAPPABLE_FIELDS if run.get(name) is not None and name not in unsent}
    effective = dict(sent)
    # A newer release may map fields that this one does not know. Their values stay.
    unknown = [name for name in unsent if name not in MAPPABLE_FIELDS]
    for name, path in rules.field_map:
        if name not in MAPPABLE_FIELDS or name in sent:
            continue
        if (value := mapped_value(name, path, run["parameters"])) is not None:
            effective[name] = value
    refuse_or_drop_window(effective, sent)
    effective.setdefault("observed_at", run["created_at"])
    derived = [name for name in effective if name not in sent]
    return {
        **dict.fromkeys(name for name in unsent if name not in unknown),
        **{name: effective[name] for name in derived},
        "derived": derived + unknown,
        "series": series_of(effective | {"model": run["model"], "parameters": run["parameters"]}, rules.series_by),
        "rules_version": rules.version or None,
    }


def refuse_or_drop_window(effective: Document, sent: Document) -> None:
    """Drop the mapped ends of a window that does not start before its end."""
    if not is_empty_window(*map(effective.get, WINDOW)):
        return
    if all(name in sent for name in WINDOW):
        raise EmptyWindow
    for name in WINDOW:
        if name not in sent:
            del effective[name]


def is_empty_window(start: Any, end: Any) -> bool:
    """Return whether the half-open window between two known times is empty."""
    return start is not None and end is not None and start >= end


def mapped_value(name: str, path: str, parameters: Any) -> Any:
    """Return the value at a path of the parameters; None unless the field could be sent with this value."""
    value = part_at(parameters, names_of(path))
    # JSON has no times. Only another client of the database stores them in parameters.
    if value is None or isinstance(value, datetime.datetime):
        return None
    try:
        return timestamps.stored(fields()[name].run_validation(value))
    except (ValidationError, DjangoValidationError):
        return None


def series_of(run: Document, series_by: tuple[str, ...]) -> Document:
    """Return the names and values that runs of one series share, sorted by name. Fields without a value are left out.

    MongoDB compares objects name by name, so the sorted object is the same for all runs of a series.
    """
    series = {name: series_value(run, name) for name in sorted(series_by)}
    return {name: value for name, value in series.items() if value is not None}


def series_value(run: Document, name: str) -> Any:
    """Return the value of a field, or of a path if it is a number, a boolean or a text of at most `MAX_NAME`."""
    if not name.startswith("parameters."):
        return run.get(name)
    match part_at(run["parameters"], names_of(name)):
        case str() as text if len(text) <= MAX_NAME:
            return text
        # Only another client of the database stores numbers that are not finite.
        case bool() | int() | float() as value if math.isfinite(value):
            return value
    return None


@cache
def fields() -> Mapping[str, Field[Any, Any, Any, Any]]:
    return typed_fields()


@lru_cache(maxsize=1_000)
def names_of(path: str) -> tuple[str, ...]:
    """Return the names in a path below `parameters`."""
    return paths.split(path)[1:]
