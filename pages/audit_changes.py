"""The changes of an audit event in words, such as "Public: No → Yes" or "ada@example.org: Read → Manage"."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.utils.dateparse import parse_datetime
from django.utils.text import capfirst

from audit.models import Event, Target, model_of
from drifts.display import LABELS
from drifts.models import Drift
from drifts.parameters import text_of
from experiments.models import Permission
from experiments.sharing import Change, changes_between, holders

# The most changes of an event that a table shows, and the most characters of a value.
MAX_LINES = 10
MAX_TEXT = 200
BLANK: tuple[Any, ...] = (None, "", [], {})
EMPTY = "(empty)"
NO_ACCESS = "No access"
PERMISSIONS = "permissions"
# Labels of recorded values that are no fields.
LABELS_OF_OTHERS = {"purge_at": "Kept until"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.]*(Z|\+00:00)")


@dataclass(frozen=True)
class Line:
    """A changed field or the changed level of a person or group. `before` or `after` is None if it is not recorded."""

    label: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Changes:
    """The first `MAX_LINES` changes of an event, and the number of the others."""

    lines: list[Line]
    left_out: int


def changes_of(events: Sequence[Event]) -> list[Changes]:
    """The changes of each event. Takes one query for the names of all people."""
    found = [list(parts_of(event)) for event in events]
    shown = [parts[:MAX_LINES] for parts in found]
    known = holders({part.entity for parts in shown for part in parts if isinstance(part, Change)})

    def line(part: Line | Change, event: Event) -> Line:
        if isinstance(part, Line):
            return part
        before = part.before or (NO_ACCESS if PERMISSIONS in event.before else None)
        after = part.after or (NO_ACCESS if PERMISSIONS in event.after else None)
        return Line(str(known[part.entity]), before, after)

    return [
        Changes([line(part, event) for part in parts], len(every) - len(parts))
        for event, parts, every in zip(events, shown, found, strict=True)
    ]


def parts_of(event: Event) -> Iterator[Line | Change]:
    """Yield the changed fields, and for the permissions each changed entry.

    A field that is recorded before or after only, such as one of a deleted object, is left out if it is empty.
    """
    for name in {**event.before, **event.after}:
        values = [values.get(name) for values in (event.before, event.after)]
        if name == PERMISSIONS:
            for changes in changes_between(*map(entries_in, values)):
                yield from changes
        elif name in event.before.keys() & event.after.keys() or any(value not in BLANK for value in values):
            before, after = (
                in_words(value) if name in recorded else None
                for value, recorded in zip(values, (event.before, event.after), strict=True)
            )
            yield Line(label_of(event.target, name), before, after)


def entries_in(value: Any) -> list[Permission]:
    return [Permission(entity=entry["entity"], level=entry["level"]) for entry in value or ()]


def label_of(target: Target, name: str) -> str:
    """The label of a field of the changed object. Events have other values too, such as the name of a file."""
    if name in LABELS_OF_OTHERS:
        return LABELS_OF_OTHERS[name]
    model = model_of(target)
    if model is Drift and name in LABELS:
        return LABELS[name]
    try:
        words = str(model._meta.get_field(name).verbose_name) if model else name  # type: ignore[union-attr]
    except FieldDoesNotExist:
        words = name
    return capfirst(words.replace("_", " "))


def in_words(value: Any) -> str:
    """The text of a recorded value, of at most `MAX_TEXT` characters."""
    if value in BLANK:
        return EMPTY
    match value:
        case bool():
            return "Yes" if value else "No"
        case list() if all(isinstance(item, str) for item in value):
            text = ", ".join(value)
        case str() if TIME.fullmatch(value) and (time := parse_datetime(value)):
            return f"{time:%Y-%m-%d %H:%M:%S} UTC"
        case _:
            text = text_of(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
