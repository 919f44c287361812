"""`manage.py user`: exports all data of an account, and erases it."""

import json
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from accounts.management.users import HELP, get_user
from accounts.models import User
from audit.personal_data import erase_from_events
from experiments.personal_data import OnlyManager, erase, export_of, refuse_only_manager

# The most experiments that a refusal names.
MAX_NAMED = 20


class Command(BaseCommand):
    help = "Export all data of an account as JSON, or erase the account. Its experiments and their runs stay."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["export", "erase"])
        parser.add_argument("user", help=HELP)
        parser.add_argument(
            "--successor", help=f"erase: the new manager of experiments that would otherwise have none, by {HELP}"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "export":
            exported = export_of(get_user(options["user"]))
            self.stdout.write(json.dumps(exported, cls=DjangoJSONEncoder, indent=2, ensure_ascii=False))
        elif erased_id := id_without_account(options["user"]):
            count = erase_from_events(erased_id)
            if not count:
                raise CommandError(f"No account and no event has the id {erased_id}.")
            self.stdout.write(f"No account has the id {erased_id}; {count} events have only this id.")
        else:
            self.erase(get_user(options["user"]), options["successor"])

    def erase(self, user: User, successor_name: str | None) -> None:
        user_id = user.pk
        successor = get_user(successor_name) if successor_name else None
        if successor and (successor == user or not successor.is_active):
            raise CommandError("The successor must be another account, and active. Name another one.")
        try:
            refuse_only_manager(user, successor)
            self.stderr.write(f"Erasing the account {user_id}. If this is interrupted, erase this id again.")
            count = erase(user, successor)
        except OnlyManager as refusal:
            raise CommandError(sentence(refusal)) from None
        self.stdout.write(f"The account {user_id} is erased; its {count} events have only this id.")


def sentence(refusal: OnlyManager) -> str:
    named = [f"{experiment.name!r} ({experiment.pk})" for experiment in refusal.experiments[:MAX_NAMED]]
    more = len(refusal.experiments) - len(named)
    return (
        f"The account is not erased: it is the only manager of {', '.join(named)}"
        f"{f' and {more} more' if more else ''}. Name a --successor, or delete these experiments first."
    )


def id_without_account(name: str) -> uuid.UUID | None:
    """Return the id that the name is, if no account has it."""
    try:
        user_id = uuid.UUID(name)
    except ValueError:
        return None
    return None if User.objects.filter(pk=user_id).exists() else user_id
