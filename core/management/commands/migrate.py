"""`manage.py migrate`: Django's command, by one process of all instances at a time."""

from typing import Any

from django.core.management.commands import migrate

from core.mongodb.lock import locked


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with locked("migrate"):
            super().handle(*args, **options)
