"""`manage.py import_legacy`: take over the predecessor's database."""

from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.core.management.base import BaseCommand, CommandError, CommandParser

from transfer.legacy.database import LegacyDatabase, Unreadable
from transfer.legacy.takeover import Takeover

INTERRUPTED = "Stopped before the end. Run the command again: it continues with what is not here yet."
NOT_WHOLE = "The lines above name what was not taken over, or differs here. Nothing that was here has changed."


class Command(BaseCommand):
    help = "Take over the users, experiments and drift runs of the predecessor's database. It may be repeated."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "uri", help="the address of the predecessor's MongoDB with its database: mongodb://host/name"
        )
        parser.add_argument(
            "--time-zone",
            default="UTC",
            help="the time zone of the predecessor's server, whose times name none: Europe/Berlin, for example (UTC)",
        )
        parser.add_argument("--dry-run", action="store_true", help="write nothing, but print the same report")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["time_zone"]
        if name not in available_timezones():
            raise CommandError(f"{name!r} is no time zone. Write a name such as Europe/Berlin.")
        try:
            with LegacyDatabase(options["uri"]) as source:
                takeover = Takeover(
                    source,
                    ZoneInfo(name),
                    is_dry_run=options["dry_run"],
                    tell=self.show,
                    show_progress=self.stderr.write,
                )
                report = takeover.run()
        except Unreadable as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError(INTERRUPTED) from None
        for line in report.lines():
            self.show(line)
        if options["dry_run"]:
            self.show("Nothing was written, because this was a dry run.")
        if not report.is_whole:
            raise CommandError(NOT_WHOLE)

    def show(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
