"""Recording of audit events."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django_mongodb_backend.models import EmbeddedModel

from audit.models import BY_SERVICE, Action, Actor, ActorKind, Event, Target
from audit.source import Way, source, way_of
from core.identity import Identity

SECRETS = frozenset({"password", "secret", "token"})
# Longer strings and objects are recorded as a hash; lists, such as permissions, are recorded in full.
MAX_CHARACTERS = 4_000


def record(
    action: Action,
    identity: Identity | None,
    target: models.Model | None,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> Event | None:
    """Add an event to the audit trail.

    Call it in the transaction of the change, so that both are stored or neither. `identity` is None for an
    unknown actor. Only fields that differ between `before` and `after` are recorded. If all are equal, nothing
    is recorded, and the result is None.
    """
    old, new = plain(before), plain(after)
    same = {name for name in old.keys() & new.keys() if old[name] == new[name]}
    if same and same == old.keys() | new.keys():
        return None
    event = event_of(action, identity, target, recordable(old, same), recordable(new, same))
    event.save()
    return event


def record_each(
    action: Action, identity: Identity | None, targets: Iterable[tuple[models.Model, Mapping[str, Any]]]
) -> None:
    """Add an event for each target with its values, all at once."""
    Event.objects.bulk_create(
        event_of(action, identity, target, {}, recordable(plain(values), set())) for target, values in targets
    )


def event_of(
    action: Action,
    identity: Identity | None,
    target: models.Model | None,
    before: dict[str, Any],
    after: dict[str, Any],
) -> Event:
    origin, way = source(), way_of(identity)
    return Event(
        action=Action(action),
        actor=actor_for(identity, way, action),
        target=target_for(target),
        experiment_id=experiment_of(target),
        address=origin.address,
        user_agent=origin.user_agent,
        request_id=origin.request_id,
        way=way,
        before=before,
        after=after,
    )


def actor_for(identity: Identity | None, way: Way, action: Action) -> Actor:
    if identity is None or identity.is_anonymous:
        somebody = ActorKind.COMMAND_LINE if way is Way.COMMAND else ActorKind.ANONYMOUS
        kind = ActorKind.SERVICE if action in BY_SERVICE else somebody
        return Actor(kind=kind, issuer="", subject="", email="")
    return Actor(
        kind=ActorKind.USER,
        user_id=identity.user and identity.user.id,
        issuer=identity.issuer,
        subject=identity.subject,
        email=identity.email,
    )


def target_for(target: models.Model | None) -> Target:
    if target is None:
        return Target(type="", object_id="", name="")
    return Target(type=target._meta.model_name, object_id=str(target.pk), name=str(target))


def experiment_of(target: models.Model | None) -> uuid.UUID | None:
    """Return the id of the experiment that the target is or belongs to, or None."""
    if target is not None and target._meta.model_name == "experiment":
        return target.pk
    return getattr(target, "experiment_id", None)


def plain(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values as JSON: embedded objects by their fields, other objects by their id."""
    return json.loads(json.dumps(values or {}, cls=Encoder), parse_constant=str)


def recordable(values: dict[str, Any], same: set[str]) -> dict[str, Any]:
    changed = {name: value for name, value in values.items() if name not in same}
    return {name: "(not recorded)" if name in SECRETS else shortened(value) for name, value in changed.items()}


class Encoder(DjangoJSONEncoder):
    def default(self, value: Any) -> Any:
        if isinstance(value, EmbeddedModel):
            return {field.name: getattr(value, field.name) for field in value._meta.fields if not field.primary_key}
        return value.pk if isinstance(value, models.Model) else super().default(value)


def shortened(value: Any) -> Any:
    if not isinstance(value, str | dict):
        return value
    text = json.dumps(value)
    if len(text) <= MAX_CHARACTERS:
        return value
    return f"({len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()})"
