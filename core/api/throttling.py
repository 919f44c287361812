"""Limits on requests and logins: which caller each request counts for."""

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, wraps
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from core.api.error_pages import retry_later
from core.api.rate_limits import TooManyRequests, limiter, rate_of
from core.client import client_address, seconds_since_start
from core.identity import Identity, identity_of

# The part of each request's time that is not charged.
FREE_SECONDS = 0.1
# The renewals of sessions that an address may make for each login that it may make: they come again and again.
RENEWALS_PER_LOGIN = 10


class Allowance(NamedTuple):
    """The limit of a request: for whom it counts, the setting, and how many requests use it up by their time alone.

    That is, if so many requests run all the time. A caller with fewer connections is never refused for its time.
    """

    scope: str
    caller: str
    setting: str
    at_once: int


class RequestLimit(BaseThrottle):
    """`RATE_LIMIT` for the identity of the token; `RATE_LIMIT_ANONYMOUS` for the address of a request without one."""

    def allow_request(self, request: Request, view: Any) -> bool:
        allowance = allowance_of(request)
        count(allowance.scope, allowance.caller, allowance.setting)
        return True


class LoginLimit(BaseThrottle):
    """`RATE_LIMIT_LOGIN` for the address and the identity of a request that hands out tokens."""

    def allow_request(self, request: Request, view: Any) -> bool:
        count_login_from(address_of(request))
        count_login_as(caller_of(request))
        return True


class LookupLimit(BaseThrottle):
    """`RATE_LIMIT_LOGIN` for the identity of a request that looks up a user."""

    def allow_request(self, request: Request, view: Any) -> bool:
        count_lookup(identity_of(request))
        return True


def limit_provider_logins(
    view: Callable[..., HttpResponseBase], scope: str, is_renewal: Callable[[HttpRequest], bool] = lambda request: False
) -> Callable[..., HttpResponseBase]:
    """Decorate a view of the login at the provider: its requests count for their address, within the scope.

    Renewals of sessions, which their users do not notice, count apart from it and have a higher limit.
    """

    @wraps(view)
    def limited(request: HttpRequest) -> HttpResponseBase:
        try:
            if is_renewal(request):
                count_renewal(address_of(request))
            else:
                count(scope, address_of(request), settings.RATE_LIMIT_LOGIN)
        except TooManyRequests as error:
            return retry_later(request, error)
        return view(request)

    return limited


def allowance_of(request: Request) -> Allowance:
    if caller := caller_of(request):
        return Allowance("identity", caller, settings.RATE_LIMIT, 8)
    return Allowance("address", address_of(request), settings.RATE_LIMIT_ANONYMOUS, 2)


def charge_time(request: Request) -> None:
    """Count a slow request as several, in proportion to its time until now. This refuses later requests only."""
    seconds = seconds_since_start() - FREE_SECONDS
    if seconds <= 0:
        return
    allowance = allowance_of(request)
    if rate := rate_of(allowance.setting):
        number = int(seconds * rate.limit / (rate.seconds * allowance.at_once))
        limiter().charge(allowance.scope, allowance.caller, rate, number)


def count(scope: str, caller: str, setting: str) -> None:
    if rate := rate_of(setting):
        limiter().count(scope, caller, rate)


def count_login_from(address: str) -> None:
    """Count a login for its address. Call it first: an address over the limit must not count for the account."""
    count("login from", address, settings.RATE_LIMIT_LOGIN)


def count_login_as(account: str) -> None:
    """Count a login for its account."""
    if account:
        count("login as", account, settings.RATE_LIMIT_LOGIN)


def count_lookup(identity: Identity) -> None:
    """Count a lookup of a user, which could be a guess of an email."""
    count("lookup by", name_of(identity), settings.RATE_LIMIT_LOGIN)


def count_renewal(address: str) -> None:
    if rate := rate_of(settings.RATE_LIMIT_LOGIN):
        limiter().count("renewal from", address, replace(rate, limit=RENEWALS_PER_LOGIN * rate.limit))


def caller_of(request: Request) -> str:
    """Return the identity of the request in one string; an empty one for an anonymous request."""
    return name_of(identity_of(request))


def name_of(identity: Identity) -> str:
    return "" if identity.is_anonymous else f"{identity.issuer} {identity.subject}"


def address_of(request: HttpRequest | Request) -> str:
    """Return the address that a request counts for: an IPv4 address, or the /64 network of an IPv6 host."""
    address = client_address(request)
    return "unknown" if address is None else network_of(address)


@lru_cache(maxsize=1_000)
def network_of(text: str) -> str:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address.packed, 64), strict=False))
