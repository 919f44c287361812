"""`manage.py loaddata`, which is refused: Django cannot serialize embedded objects."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import loaddata


class Command(loaddata.Command):
    help = (
        "loaddata is not available for MongoDB. Store an export with `manage.py import`, or restore a whole database "
        "with mongorestore (MongoDB Database Tools)."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError(self.help)
