"""The documents of runs as they are stored: of new runs, and of stored ones after a change."""

import datetime
import uuid
from collections.abc import Mapping
from functools import cache
from typing import Any

import bson
from django.apps import apps
from uuid_utils.compat import uuid7

from core import timestamps
from core.mongodb.documents import Document, without_references
from core.mongodb.match import Mql
from drifts import schema
from drifts.derived import derived_fields
from experiments.access import AccessControlled
from experiments.run_rules import MAPPABLE_FIELDS

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


@cache
def defaults() -> Document:
    """The default of each field of the document of a run. Runs must not share its objects and lists."""
    # The model imports this module.
    run, added = apps.get_model("drifts", "Drift"), schema.added_fields()
    fields = (field for field in run._meta.concrete_fields if field.column not in added)
    return {str(field.column): field.get_default() for field in fields}


def time_of(identifier: uuid.UUID) -> datetime.datetime:
    """The time of a UUID of version 7 (RFC 9562, section 5.7), to the millisecond."""
    return EPOCH + datetime.timedelta(milliseconds=identifier.int >> 80)


def new_document(experiment: AccessControlled, fields: Mapping[str, Any]) -> Document:
    """The document of a new run with these validated fields.

    The run's time is that of its id, so that both sort runs in the same order. Raises `EmptyWindow`.
    """
    pk = uuid7()
    now = time_of(pk).replace(tzinfo=None)
    own = {"_id": pk.hex, "experiment_id": experiment.pk.hex, "created_at": now, "updated_at": now}
    new = {name: value.copy() if isinstance(value, dict | list) else value for name, value in defaults().items()}
    document = {**new, **own, **stored_values(fields)}
    return without_nulls(document | derived_fields(document, experiment.run_rules))


def changed_document(stored: Document, changes: Mapping[str, Any], experiment: AccessControlled) -> Document:
    """The document of a stored run with these changes, in the current version of the schema. Raises `EmptyWindow`."""
    document = schema.upgraded(stored)
    # A report of the status takes the place of the service's own.
    cleared = {"overdue": None} if "job_status" in changes else {}
    own = {
        "derived": [name for name in document.get("derived") or () if name not in changes],
        "updated_at": timestamps.stored(timestamps.now()),
    }
    return with_derived_fields({**document, **cleared, **stored_values(changes), **own}, experiment)


def replaced_document(stored: Document, values: Mapping[str, Any], experiment: AccessControlled) -> Document:
    """The document of a stored run that a client replaces. Raises `EmptyWindow`.

    The value of a field that no client has sent counts as sent only if it is a new one: neither the stored value, nor
    the one that follows from the other values. The client has read the latter if the run has changed since.
    """
    before = schema.upgraded(stored)
    derived = before.get("derived") or ()
    unsent = {name for name in MAPPABLE_FIELDS if before.get(name) is None or name in derived}
    others = {name: value for name, value in values.items() if name not in unsent}
    following = changed_document(stored, others, experiment)
    new = {
        name: value
        for name, value in values.items()
        if name in unsent and timestamps.stored(value) not in (before.get(name), following.get(name))
    }
    return changed_document(stored, others | new, experiment)


def upgraded_document(stored: Document, experiment: AccessControlled) -> Document:
    """The document of a stored run in the current version of the schema, by the present rules of its experiment."""
    return with_derived_fields(schema.upgraded(stored), experiment)


def update_between(stored: Document, after: Document) -> Mql:
    """The update that turns a stored document into another one; empty if they are the same.

    Fields that this release does not know are in both.
    """
    new = {name: value for name, value in after.items() if not is_same(stored.get(name), value)}
    gone = dict.fromkeys(stored.keys() - after.keys(), "")
    return ({"$set": new} if new else {}) | ({"$unset": gone} if gone else {})


def is_same(stored: Any, value: Any) -> bool:
    """Return whether two values are stored alike. Equal ones may not be, such as 1 and true."""
    return stored is value or (stored == value and bson.encode({"": stored}) == bson.encode({"": value}))


def with_derived_fields(document: Document, experiment: AccessControlled) -> Document:
    """The document of a stored run with derived fields that fit its other fields and the experiment's rules."""
    parameters = without_references(document["parameters"])
    return without_nulls(document | derived_fields(document | {"parameters": parameters}, experiment.run_rules))


def without_nulls(document: Document) -> Document:
    """The document without the fields that are stored only if they have a value."""
    added = schema.added_fields()
    return {name: value for name, value in document.items() if value is not None or name not in added}


def stored_values(fields: Mapping[str, Any]) -> Document:
    return {name: timestamps.stored(value) for name, value in fields.items()}
