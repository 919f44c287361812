"""The lifetime of sessions of local accounts: 12 hours from the login, and one hour without a request.

A session from a provider ends when its renewal at the provider fails. The store of sessions refuses one that has
expired, and MongoDB deletes it. Requests therefore move its expiry, at most once a minute, to avoid a write at every
request.
"""

import time

from django.contrib.sessions.backends.base import SessionBase

LONGEST_SECONDS = 12 * 3600
IDLE_SECONDS = 3600
RENEWAL_SECONDS = 60
STARTED, SEEN = "started_at", "seen_at"


def start(session: SessionBase) -> None:
    """Begin the lifetime, at a login."""
    session[STARTED], session[SEEN] = time.time(), 0.0
    extend(session)


def extend(session: SessionBase) -> bool:
    """Put off the expiry of a session that is used, within the longest lifetime. Return whether it still lasts.

    The lifetime of a session of an earlier release begins now.
    """
    now = time.time()
    remaining = session.setdefault(STARTED, now) + LONGEST_SECONDS - now
    # An expiry of 0 would mean the end of the browser.
    if remaining < 1:
        return False
    if now - session.get(SEEN, 0.0) >= RENEWAL_SECONDS:
        session[SEEN] = now
        session.set_expiry(int(min(IDLE_SECONDS, remaining)))
    return True
