"""`manage.py token`: a signed token without an OpenID provider."""

import datetime
import uuid
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import User
from accounts.tokens import LocalToken
from driftwatch.deeds import announce


class Command(BaseCommand):
    help = "Print a bearer token for a user. A name that nobody has is registered as a local user first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the id, the email or the local name of a user")
        parser.add_argument(
            "--entitlement", action="append", default=[], help="a group or role the token carries; may be repeated"
        )
        parser.add_argument("--days", type=float, default=30, help="how long the token is valid (default: 30)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["days"] <= 3650:
            raise CommandError("--days takes a number above 0, at most 3650.")
        lifetime = datetime.timedelta(days=options["days"])
        user = find(options["user"]) or self.register(options["user"])
        token = LocalToken.issue(user, options["entitlement"], lifetime)
        # Never the token itself: its id is enough to know it by.
        issued = {"id": token["jti"], "entitlements": token["entitlements"], "days": options["days"]}
        announce("token_issued", None, user, after=issued)
        wanted = {*settings.OIDC_USER_ENTITLEMENTS, *settings.OIDC_ADMIN_ENTITLEMENTS}
        if settings.OIDC_USER_ENTITLEMENTS and wanted.isdisjoint(options["entitlement"]):
            self.stderr.write(f"This token is not admitted: it carries none of {', '.join(sorted(wanted))}.")
        self.stdout.write(str(token))

    def register(self, name: str) -> User:
        user = User(subject=name, email=name if "@" in name else f"{name}@localhost")
        user.set_unusable_password()
        user.full_clean()
        user.register_by(None)
        self.stderr.write(f"Registered the local user {name}, id {user.id}.")
        return user


def find(name: str) -> User | None:
    """The registered user of that id, local name or email. Raises `CommandError` when an email is ambiguous."""
    try:
        return User.objects.get(pk=uuid.UUID(name))
    except ValueError:
        pass
    except User.DoesNotExist:
        raise CommandError(f"No user has the id {name}.") from None
    found = User.objects.filter(issuer=settings.LOCAL_ISSUER, subject=name) or User.objects.filter(email=name)
    if len(found) > 1:
        ids = ", ".join(f"{user.id} ({user.issuer})" for user in found)
        raise CommandError(f"Several users have this email; name one by id: {ids}.")
    return found[0] if found else None
