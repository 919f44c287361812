"""Limits on logins with a password: how often they may be tried, and how long to wait after failures.

Failures count for the account and the address together, and so an attacker locks out no one at another address. The
fifth one in a row means a wait of a minute, and each further one doubles the wait, up to an hour. A login that succeeds
ends the count, and so does a day without a login.
"""

import datetime
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import pymongo
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.crypto import salted_hmac
from pymongo import WriteConcern
from pymongo.collection import Collection

from accounts.models import FailedLogins
from core import timestamps
from core.api.error_pages import retry_later
from core.api.exceptions import RetryLater
from core.api.throttling import address_of, count_login_as, count_login_from
from core.metrics import REFUSED_REQUESTS
from core.mongodb.documents import Document, collection_of, find_one, upserted
from core.mongodb.match import Mql

FREE_FAILURES = 5
FIRST_SECONDS, LONGEST_SECONDS = 60, 3600
MEMORY_SECONDS = 24 * 3600
# The time limit of all counts of one login together. The check of its password has none: it takes seconds on a busy
# machine, and a right password must not become a failure.
COUNT_SECONDS = 2.5


class LockedOut(RetryLater):
    """Too many logins to this account have failed from this address, whether the account exists or not."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait, "Too many logins to this account have failed from your address.")


def limit_logins(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Decorate a login page: each form counts for its address and for the account that it names.

    A form over a limit is refused whatever the password, so that guessing stops. Forms that are locked out do not count
    for the account. Only attackers at many addresses can therefore use up its limit, and so block its logins with a
    password while they go on; its tokens and its logins at other accounts are not affected.
    """

    @wraps(view)
    def limited(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        # The login form normalises names in the same way: other spellings are the same account.
        account = AbstractBaseUser.normalize_username(request.POST.get("username", "").strip())
        try:
            # Each count may wait for the database.
            with pymongo.timeout(COUNT_SECONDS):
                count_login_from(address_of(request))
                refuse_locked(account, address_of(request))
                count_login_as(account)
                count_failure(account, address_of(request))
        except RetryLater as error:
            return retry_later(request, error)
        return view(request, *args, **kwargs)

    return limited


def refuse_locked(account: str, address: str) -> None:
    """Refuse a login during a wait, before it counts for the account. Raises `LockedOut`."""
    is_locked = {"$expr": {"$gt": ["$locked_until", "$$NOW"]}}
    if stored := find_one(FailedLogins, {"_id": key_of(account, address), **is_locked}):
        locked_until = stored["locked_until"].replace(tzinfo=datetime.UTC)
        REFUSED_REQUESTS.labels("locked").inc()
        raise LockedOut(seconds_between(timestamps.now(), locked_until))


def count_failure(account: str, address: str) -> None:
    """Count a login as failed, before its password is checked, so that no number of logins at once gets past the lock.

    Raises `LockedOut`. The database decides by its clock, in one atomic step.
    """
    longer = {"$multiply": [FIRST_SECONDS, {"$pow": [2, {"$subtract": ["$count", FREE_FAILURES]}]}]}
    seconds = {"$min": [LONGEST_SECONDS, longer]}
    counted = {
        "count": {"$cond": ["$is_locked", "$count", {"$add": [{"$ifNull": ["$count", 0]}, 1]}]},
        "at": "$$NOW",
    }
    later = {"$add": ["$$NOW", {"$toLong": {"$multiply": [1000, seconds]}}]}
    # A time that is not in the future would lock logins that began before it.
    locked_until = {"$cond": [{"$lt": ["$count", FREE_FAILURES]}, None, later]}
    update: list[Mql] = [
        {"$set": {"is_locked": {"$gt": ["$locked_until", "$$NOW"]}}},
        {"$set": counted},
        {"$set": {"locked_until": {"$cond": ["$is_locked", "$locked_until", locked_until]}}},
        {"$set": {"expires_at": {"$add": ["$$NOW", 1000 * MEMORY_SECONDS]}}},
    ]
    stored = upserted(counts(), key_of(account, address), update)
    if stored["is_locked"]:
        raise LockedOut(seconds_between(stored["at"], stored["locked_until"]))


def seconds_between(start: datetime.datetime, end: datetime.datetime) -> int:
    return max(1, math.ceil((end - start).total_seconds()))


def forget_failures(account: str, address: str) -> None:
    """End the count, after a login that succeeded."""
    counts().delete_one({"_id": key_of(account, address)})


def counts() -> Collection[Document]:
    """Return the collection of counts. Only the primary acknowledges: a login that fails for want of a majority then
    does not count, if its password was right.
    """
    return collection_of(FailedLogins).with_options(write_concern=WriteConcern(w=1))


def key_of(account: str, address: str) -> str:
    """Return the id of a count: a keyed digest, which tells neither the account nor the address."""
    value = f"{address} {account}".encode(errors="surrogatepass")
    return salted_hmac("driftwatch.lockout", value, algorithm="sha256").hexdigest()
