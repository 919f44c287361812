"""The events of one person: to export them, and to erase the person from them.

The erasure is the only change that events undergo. The ids of the person and of the objects stay, and so do the times
and the actions.
"""

import uuid

import pymongo

from audit.models import Action, Event, EventQuerySet
from core.mongodb.documents import collection_of, with_django_errors
from core.mongodb.match import Mql

# The largest trails are scanned whole: no index has the values before and after.
ERASURE_SECONDS = 600
ERASED = "(erased)"
PERSONAL_VALUES = ("email", "issuer", "subject")


def events_of(user_id: uuid.UUID) -> EventQuerySet:
    """Return the events whose actor or target is the user."""
    return Event.objects.matching(by_or_about(user_id))


@with_django_errors
def erase_from_events(
    user_id: uuid.UUID, issuer: str | None = None, subject: str | None = None, email: str | None = None
) -> int:
    """Remove what tells of the user from all events: names, emails, addresses, user agents and request ids.

    Return the number of events. With `issuer` and `subject`, events from before the registration get the user's id.
    `email` is the present one; earlier ones are in the events.
    """
    nowhere = {"address": None, "user_agent": "", "request_id": None}
    nobody = {f"actor.{name}": "" for name in ("issuer", "subject", "email")}
    unregistered = {"actor.user_id": None, "actor.issuer": issuer, "actor.subject": subject}
    changes: list[tuple[Mql, Mql]] = [
        *([(unregistered, {"actor.user_id": user_id.hex})] if issuer and subject else []),
        # An export of the audit trail by another person may name the user.
        ({"action": Action.EXPORTED, "after.actor": {"$in": emails_of(user_id, email)}}, {"after.actor": ERASED}),
        ({"actor.user_id": user_id.hex}, nobody | nowhere),
        (about(user_id), {"target.name": ""}),
        # A failed login: the actor is unknown, and probably the user.
        ({**about(user_id), "actor.kind": "anonymous"}, nowhere),
        *(
            ({**about(user_id), f"{values}.{name}": {"$exists": True}}, {f"{values}.{name}": ERASED})
            for values in ("before", "after")
            for name in PERSONAL_VALUES
        ),
    ]
    with pymongo.timeout(ERASURE_SECONDS):
        for match, values in changes:
            collection_of(Event).update_many(match, {"$set": values})
        return events_of(user_id).count()


def emails_of(user_id: uuid.UUID, email: str | None) -> list[str]:
    """Return the email, and those in the events of the user."""
    places = {
        "actor.email": {"actor.user_id": user_id.hex},
        "before.email": about(user_id),
        "after.email": about(user_id),
    }
    found = {each for name, match in places.items() for each in collection_of(Event).distinct(name, match)}
    return sorted({*filter(None, found), *([email] if email else [])} - {ERASED})


def by_or_about(user_id: uuid.UUID) -> Mql:
    """Return the condition on the events whose actor or target is the user."""
    return {"$or": [{"actor.user_id": user_id.hex}, about(user_id)]}


def about(user_id: uuid.UUID) -> Mql:
    return {"target.type": "user", "target.object_id": str(user_id)}
