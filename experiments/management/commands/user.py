"""`manage.py user`: exports all data of an account, and erases it."""

import json
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from accounts.management.users import HELP, get_user
from accounts.models import User
from experiments.personal_data import OnlyManager, erase, erase_rest, export_of, refuse_only_manager

# The most experiments that a refusal names.
MAX_NAMED = 20
OTHER_SUCCESSOR = "The successor must be another account, and active. Name another one."
NOT_ERASED = (
    "The account is not erased: it is the only manager of {}. Name a --successor, or delete these experiments first."
)
STOPPED = f"{NOT_ERASED} Its sessions have ended, and some of its permissions may be removed already."
LEFT = (
    "The account is erased, but its id is the only manager of {}. Erase this id again with a --successor, or delete "
    "these experiments."
)


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
            return
        successor = get_successor(options["successor"])
        if erased_id := id_without_account(options["user"]):
            self.erase_rest(erased_id, successor)
        else:
            self.erase(get_user(options["user"]), successor)

    def erase(self, user: User, successor: User | None) -> None:
        user_id = user.pk
        if successor == user:
            raise CommandError(OTHER_SUCCESSOR)
        try:
            refuse_only_manager(user_id, successor)
        except OnlyManager as refusal:
            raise CommandError(NOT_ERASED.format(named(refusal))) from None
        self.stderr.write(f"Erasing the account {user_id}. If this is interrupted, erase this id again.")
        try:
            count = erase(user, successor)
        except OnlyManager as refusal:
            is_deleted = id_without_account(str(user_id))
            raise CommandError((LEFT if is_deleted else STOPPED).format(named(refusal))) from None
        self.stdout.write(f"The account {user_id} is erased; its {count} events have only this id.")

    def erase_rest(self, erased_id: uuid.UUID, successor: User | None) -> None:
        try:
            count = erase_rest(erased_id, successor)
        except OnlyManager as refusal:
            raise CommandError(LEFT.format(named(refusal))) from None
        if not count:
            raise CommandError(f"No account and no event has the id {erased_id}.")
        self.stdout.write(f"No account has the id {erased_id}; {count} events have only this id.")


def get_successor(name: str | None) -> User | None:
    successor = get_user(name) if name else None
    if successor and not successor.is_active:
        raise CommandError(OTHER_SUCCESSOR)
    return successor


def named(refusal: OnlyManager) -> str:
    names = [f"{experiment.name!r} ({experiment.pk})" for experiment in refusal.experiments[:MAX_NAMED]]
    more = len(refusal.experiments) - len(names)
    return f"{', '.join(names)}{f' and {more} more' if more else ''}"


def id_without_account(name: str) -> uuid.UUID | None:
    """Return the id that the name is, if no account has it."""
    try:
        user_id = uuid.UUID(name)
    except ValueError:
        return None
    return None if User.objects.filter(pk=user_id).exists() else user_id
