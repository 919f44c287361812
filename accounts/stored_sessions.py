"""The sessions of all users, for operators."""

import datetime
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.contrib import auth
from django.contrib.sessions.models import Session

from accounts.models import User
from accounts.session_lifetime import STARTED
from accounts.sessions import PROVIDER_BACKEND
from audit.models import Action
from audit.trail import record
from core import timestamps
from core.mongodb.transaction import in_transaction


@dataclass(frozen=True)
class StoredSession:
    """A session that has not expired. `started_at` is None for a login at the provider."""

    key: str
    user: User
    is_of_provider: bool
    started_at: datetime.datetime | None
    ends_at: datetime.datetime

    @property
    def id(self) -> str:
        """A name for commands. The key itself would let its reader act as the user."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]

    @in_transaction
    def end(self) -> None:
        """End the session, as a logout does. A request that runs cannot store it again."""
        Session.objects.filter(pk=self.key).delete()
        record(Action.LOGOUT, None, self.user)


def stored_sessions(user: User | None = None) -> list[StoredSession]:
    """Return the sessions of one user or of all, by their end. Those that an unknown secret signed are left out."""
    decoded = [(each, each.get_decoded()) for each in Session.objects.filter(expire_date__gt=timestamps.now())]
    owned = [(each, content) for each, content in decoded if auth.SESSION_KEY in content]
    users = {str(found.pk): found for found in users_of(content[auth.SESSION_KEY] for _, content in owned)}
    sessions = [
        StoredSession(
            key=each.session_key,
            user=users[content[auth.SESSION_KEY]],
            is_of_provider=content.get(auth.BACKEND_SESSION_KEY) == PROVIDER_BACKEND,
            started_at=time_of(content.get(STARTED)),
            ends_at=each.expire_date,
        )
        for each, content in owned
        if content[auth.SESSION_KEY] in users
    ]
    chosen = (each for each in sessions if user is None or each.user == user)
    return sorted(chosen, key=lambda each: each.ends_at)


def users_of(ids: Iterable[str]) -> Iterator[User]:
    return User.objects.filter(pk__in=set(ids)).iterator()


def time_of(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
