"""Unfinished logins at the provider. Each is a signed cookie of the browser that started it.

A session would be stored for every visitor who follows the link to the provider and never comes back.
"""

import json
import re
import time
from dataclasses import asdict, dataclass, field

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

PREFIX = "login_"
LIFETIME_SECONDS = 600
# Every request carries the cookies of unfinished logins: together they stay below 8 kB, the limit of many proxies. The
# characters are those of the address in JSON, in which a letter beyond ASCII takes six or twelve.
MAX_LOGINS = 5
MAX_ADDRESS_CHARACTERS = 800
# Python refuses to set, and so to delete, a cookie with some other characters in its name.
STATE = re.compile(r"[\w-]+", re.ASCII)


@dataclass(frozen=True)
class UnfinishedLogin:
    """The secrets of one login, and the return address of its browser. `is_renewal` is true for a silent login."""

    nonce: str
    code_verifier: str
    address: str
    is_renewal: bool
    started_at: float = field(default_factory=time.time)


def remember(request: HttpRequest, response: HttpResponse, state: str, login: UnfinishedLogin) -> None:
    """Set the cookie of a login that starts, and delete those of the browser's oldest logins."""
    name = PREFIX + state
    response.set_cookie(
        name,
        # The name is the salt, so that a cookie is valid for its own state only.
        signing.dumps(asdict(login), salt=name, compress=True),
        max_age=LIFETIME_SECONDS,
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )
    for old in newest_first(request)[MAX_LOGINS - 1 :]:
        forget(response, old)


def find(request: HttpRequest, state: str) -> UnfinishedLogin | None:
    """Return the login that this browser started with this state, or None if there is none or it has expired."""
    name = PREFIX + state
    try:
        return UnfinishedLogin(**signing.loads(request.COOKIES.get(name, ""), salt=name, max_age=LIFETIME_SECONDS))
    except (signing.BadSignature, TypeError):
        return None


def forget(response: HttpResponse, state: str) -> None:
    """Delete the cookie of a login."""
    response.delete_cookie(PREFIX + state, samesite="Lax")


def newest_first(request: HttpRequest) -> list[str]:
    """Return the states of all cookies of logins. Expired and forged ones come last."""
    names = (name.removeprefix(PREFIX) for name in request.COOKIES if name.startswith(PREFIX))
    states = [state for state in names if STATE.fullmatch(state)]
    found = {state: find(request, state) for state in states}
    return sorted(states, key=lambda state: login.started_at if (login := found[state]) else 0, reverse=True)


def short(address: str) -> str:
    """Return an address that fits into a cookie: without its query if it is too long, or an empty one."""
    fitting = (text for text in (address, address.partition("?")[0]) if len(json.dumps(text)) <= MAX_ADDRESS_CHARACTERS)
    return next(fitting, "")
