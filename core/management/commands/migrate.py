"""`manage.py migrate`: Django's command, by one process of all instances at a time."""

from contextlib import nullcontext
from typing import Any

from django.core.management.commands import migrate

from core.mongodb.lock import locked


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        is_read_only = options["check_unapplied"] or options["plan"]
        with nullcontext() if is_read_only else locked("migrate"):
            super().handle(*args, **options)
