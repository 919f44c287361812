"""The user that an argument of a command names."""

import uuid

from django.conf import settings
from django.core.management.base import CommandError

from accounts.models import User

HELP = "the id, the email or the local name of a user"


def find_user(name: str) -> User | None:
    """Return the user with this id, local name or email, or None. Raises `CommandError` if several match."""
    try:
        return User.objects.get(pk=uuid.UUID(name))
    except ValueError:
        pass
    except User.DoesNotExist:
        raise CommandError(f"No user has the id {name}.") from None
    found = User.objects.filter(issuer=settings.LOCAL_ISSUER, subject=name) or User.objects.filter(email=name)
    if len(found) > 1:
        ids = ", ".join(f"{user.id} ({user.issuer})" for user in found)
        raise CommandError(f"Several users have this email. Give the id of one: {ids}.")
    return found[0] if found else None


def get_user(name: str) -> User:
    """Return the user with this id, local name or email. Raises `CommandError` if there is not exactly one."""
    user = find_user(name)
    if user is None:
        raise CommandError(f"No user has the local name or the email {name}. The portal lists all under Users.")
    return user
