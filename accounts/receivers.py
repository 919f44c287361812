"""Receivers of Django's login signals: sessions and counts of local accounts, and audit events."""

from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from accounts import session_lifetime
from accounts.lockout import forget_failures
from accounts.models import User
from audit.models import Action
from audit.trail import record
from core.api.throttling import address_of
from core.identity import identity_of_user
from core.metrics import FAILED_AUTHENTICATIONS


@receiver(user_logged_in)
def begin_local_session(request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Begin the lifetime of a local account's session, and end the count of its failed logins."""
    if user.is_local:
        session_lifetime.start(request.session)
        forget_failures(user.subject, address_of(request))


@receiver(user_logged_in)
def record_visit(user: User, **kwargs: Any) -> None:
    """Record the visit, which keeps the user's tokens in force."""
    user.record_visit()


@receiver(user_logged_in)
def record_login(user: User, **kwargs: Any) -> None:
    """Record a login."""
    record(Action.LOGIN, user.identity or identity_of_user(user), user)


@receiver(user_logged_out)
def record_logout(user: User | None, **kwargs: Any) -> None:
    """Record a logout. The end of an anonymous session is not recorded."""
    if user:
        record(Action.LOGOUT, user.identity or identity_of_user(user), user)


@receiver(user_login_failed)
def record_failed_login(credentials: dict[str, Any], **kwargs: Any) -> None:
    """Record a failed login, with the name only if the account exists: other names may be mistyped passwords."""
    FAILED_AUTHENTICATIONS.labels("login").inc()
    name = credentials.get("username")
    tried = User.objects.filter(issuer=settings.LOCAL_ISSUER, subject=name).first() if isinstance(name, str) else None
    record(Action.LOGIN_FAILED, None, tried)
