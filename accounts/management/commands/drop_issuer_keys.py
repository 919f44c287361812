"""`manage.py drop_issuer_keys`: lets the running service forget the keys of OpenID providers."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.authentication import RECENT_SECONDS
from accounts.issuers import DROP_CHECK_SECONDS
from accounts.models import DroppedKeys


class Command(BaseCommand):
    help = (
        "Drop the cached keys, metadata and userinfo of OpenID providers in all workers and instances, such as after a "
        "key was stolen. They are fetched again when a token needs them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("issuer", nargs="*", help="an issuer of OIDC_ISSUERS or OIDC_RP_ISSUER (default: all)")

    def handle(self, *args: Any, **options: Any) -> None:
        configured = sorted({entry["issuer"] for entry in settings.OIDC_ISSUERS} | {settings.OIDC_RP_ISSUER} - {""})
        if not configured:
            raise CommandError("No issuer is configured. Set OIDC_ISSUERS or OIDC_RP_ISSUER.")
        for issuer in options["issuer"]:
            if issuer not in configured:
                known = ", ".join(configured) or "none"
                raise CommandError(f"{issuer} is not a configured issuer. Configured issuers: {known}.")
        seconds = DROP_CHECK_SECONDS + RECENT_SECONDS
        for issuer in options["issuer"] or configured:
            DroppedKeys.objects.drop(issuer)
            self.stdout.write(f"{issuer}: within {seconds} seconds, no process accepts a token by the cached keys.")
