"""`manage.py import`: stores the data of an export in this service."""
# ruff: noqa: N999 - the file has the name of the command

import time
import uuid
import zlib
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from transfer.importing import Import, checked
from transfer.manifest import Refusal
from transfer.progress import Progress

KINDS = ("inserted", "already there", "clashes", "left out")


class Command(BaseCommand):
    help = (
        "Store the data of an export in this service. Stored documents never change: those that differ are listed, and "
        "the status is 1. The same command completes an interrupted import."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path, help="the directory of a finished export")
        parser.add_argument("--experiment", type=uuid.UUID, help="the id of the only experiment to import")
        parser.add_argument("--dry-run", action="store_true", help="compare and report; change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        try:
            manifest = checked(options["directory"])
            progress = Progress(self.stderr, manifest.documents)
            chosen = options["experiment"] or (manifest.experiment and uuid.UUID(manifest.experiment))

            def tell(line: str) -> None:
                progress.clear()
                self.stdout.write(line)

            work = Import(
                options["directory"],
                manifest,
                chosen.hex if chosen else None,
                is_dry_run=options["dry_run"],
                tell=tell,
                count=progress.advance,
            )
            work.run()
        except Refusal as refusal:
            raise CommandError(str(refusal)) from None
        except (OSError, EOFError, zlib.error) as error:
            raise CommandError(f"The export cannot be read: {error}. Mend it, and run the command again.") from error
        except KeyboardInterrupt:
            raise CommandError("Stopped before the end. Run the command again: it completes the import.") from None
        progress.clear()
        self.report(work, time.monotonic() - started)
        if work.clashes:
            raise CommandError(f"Clashes: {work.clashes:,}. The lines above name the documents that are not imported.")

    def report(self, work: Import, seconds: float) -> None:
        if work.is_dry_run:
            self.stdout.write("This is a dry run: nothing is changed.")
        for collection, numbers in work.numbers.items():
            counts = ", ".join(f"{numbers[kind]:,} {kind}" for kind in KINDS if numbers[kind])
            self.stdout.write(f"{collection}: {counts}")
        self.stdout.write(f"This command took {seconds:,.0f} s.")
