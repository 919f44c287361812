"""`manage.py dumpdata`, which is refused: Django cannot serialize embedded objects."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import dumpdata


class Command(dumpdata.Command):
    help = (
        "dumpdata is not available for MongoDB. Take data along with `manage.py export`, or save the whole database "
        "with mongodump (MongoDB Database Tools)."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError(self.help)
