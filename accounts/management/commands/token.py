"""`manage.py token`: issues a service token without an OpenID provider."""

import datetime
import uuid
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError
from django.utils import timezone

from accounts.management.users import HELP, find_user
from accounts.models import ServiceToken, User
from accounts.tokens import access_token
from core.identity import Level
from core.printable import escaped

MAX_DAYS = 3650


class Command(BaseCommand):
    help = "Create an access token for a user, and print it. An unknown name is registered as a local user first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help=HELP)
        parser.add_argument(
            "--entitlement", action="append", default=[], help="a group or role that the token carries; may be repeated"
        )
        parser.add_argument("--name", help='a name for the token (default: "Command line" and the time)')
        parser.add_argument(
            "--level", choices=Level.values, default=Level.MANAGE, help="the token's highest level (default: Manage)"
        )
        parser.add_argument(
            "--experiment",
            action="append",
            default=[],
            help="the id of an experiment that the token may use (default: all); may be repeated",
        )
        parser.add_argument("--days", default="30", help="days until the token expires (default: 30)")

    def handle(self, *args: Any, **options: Any) -> None:
        lifetime = datetime.timedelta(days=days(options["days"]))
        options["experiment"] = [experiment_id(text) for text in options["experiment"]]
        user = find_user(options["user"]) or self.register(options["user"])
        record = self.issue(user, lifetime, options)
        wanted = {*settings.OIDC_USER_ENTITLEMENTS, *settings.OIDC_ADMIN_ENTITLEMENTS}
        if settings.OIDC_USER_ENTITLEMENTS and wanted.isdisjoint(options["entitlement"]):
            self.stderr.write(f"The service will refuse this token: it carries none of {', '.join(sorted(wanted))}.")
        if not user.is_active:
            self.stderr.write(f"The service will refuse this token: the account of {escaped(str(user))} is disabled.")
        self.stdout.write(access_token(record))

    def issue(self, user: User, lifetime: datetime.timedelta, options: dict[str, Any]) -> ServiceToken:
        name = options["name"] or unused_name(user)
        try:
            return ServiceToken.objects.issue(
                user,
                name,
                lifetime,
                level=options["level"],
                experiments=options["experiment"],
                entitlements=sorted(set(options["entitlement"])),
                issued_by_operator=True,
            )
        except IntegrityError:
            raise CommandError(
                f"{escaped(str(user))} already has a token named {name!r}. Revoke it, or choose another name."
            ) from None

    def register(self, name: str) -> User:
        user = User(subject=name, email=name if "@" in name else f"{name}@localhost")
        user.set_unusable_password()
        try:
            user.full_clean()
        except ValidationError as error:
            raise CommandError(
                f"{name!r} cannot be a local user. Give an email address, or a name without spaces."
            ) from error
        user.register_by(None)
        self.stderr.write(f"Registered the local user {name}, id {user.id}.")
        return user


def days(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= MAX_DAYS:
            return float(text)
    raise CommandError(f"--days takes a number above 0, at most {MAX_DAYS}.")


def experiment_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise CommandError(f"{text} is not an experiment's id.") from None


def unused_name(user: User) -> str:
    """Return a name of the time in seconds. If the user has a token of that name, it has the microseconds too."""
    now = timezone.now()
    name = f"Command line, {now:%Y-%m-%d %H:%M:%S} UTC"
    is_used = ServiceToken.objects.filter(user=user, name=name).exists()
    return f"Command line, {now:%Y-%m-%d %H:%M:%S.%f} UTC" if is_used else name
