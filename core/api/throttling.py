"""Where requests are counted, and as whose."""

import ipaddress
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from pymongo.errors import PyMongoError
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from core.api.errors import away, is_database_away, refusal
from core.api.rate_limits import TooManyRequests, limiter, rate_of
from core.client import client_address
from core.identity import identity_of

LOGIN_PATHS = frozenset({"/login", "/admin/login/"})


class RateLimits(BaseThrottle):
    """Counts an API request for the identity of its token, or without one for its address.

    What a view names in `tightly_limited` is counted as logins are, besides.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        identity = identity_of(request)
        caller = "" if identity.is_anonymous else f"{identity.issuer} {identity.subject}"
        try:
            if getattr(view, "action", None) in getattr(view, "tightly_limited", ()):
                count_login(address_of(request), caller)
            if caller:
                count("identity", caller, settings.RATE_LIMIT)
            else:
                count("address", address_of(request), settings.RATE_LIMIT_ANONYMOUS)
        except TooManyRequests as error:
            raise Throttled(error.wait, str(error)) from error
        return True


class LoginLimits:
    """Counts what is sent to the login pages, for its address and for the account that it names.

    Who is over the limit is refused whatever the password, so that guessing stops. Somebody else can
    keep an account out of password login that way; logins through a provider and tokens go on.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        if request.method != "POST" or request.path_info not in LOGIN_PATHS:
            return None
        # As the login form reads it: other spellings of a name are the same account.
        account = AbstractBaseUser.normalize_username(request.POST.get("username", "").strip())
        try:
            count_login(address_of(request), account)
        except TooManyRequests as error:
            refused = refusal(request, 429, str(error))
            refused["Retry-After"] = str(error.wait)
            return refused
        except (DatabaseError, PyMongoError) as error:
            if not is_database_away(error):
                raise
            return away(request)
        return None


def count(scope: str, caller: str, setting: str) -> None:
    if rate := rate_of(setting):
        limiter().count(scope, caller, rate, exact=False)


def count_login(address: str, account: str) -> None:
    """Count for both. An address that is refused is not counted for the account it tries."""
    if rate := rate_of(settings.RATE_LIMIT_LOGIN):
        limiter().count("login from", address, rate, exact=True)
        if account:
            limiter().count("login as", account, rate, exact=True)


def address_of(request: HttpRequest | Request) -> str:
    """Whom a request counts for: an IPv4 address, or the /64 network that an IPv6 host has to itself."""
    text = client_address(request)
    if text is None:
        return "unknown"
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address.packed, 64), strict=False))
