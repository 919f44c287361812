"""`manage.py export`: writes the data of the service, or of one experiment, to a directory."""

import time
import uuid
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.mongodb.documents import mongodb
from experiments.models import Experiment
from transfer.collections import EXPORTED
from transfer.exporting import export, opened
from transfer.manifest import Refusal
from transfer.progress import Progress


class Command(BaseCommand):
    help = (
        "Write the data of the service, or of one experiment, to a directory. The same command continues an "
        "interrupted export."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path, help="a new directory; it will have personal data")
        parser.add_argument("--experiment", type=uuid.UUID, help="the id of the only experiment to export")

    def handle(self, *args: Any, **options: Any) -> None:
        directory: Path = options["directory"]
        started = time.monotonic()
        try:
            with opened(directory, options["experiment"]) as manifest:
                progress = Progress(self.stderr, total(options["experiment"]))
                progress.done = manifest.documents
                export(directory, manifest, progress.advance)
                progress.clear()
        except Refusal as refusal:
            raise CommandError(str(refusal)) from None
        except OSError as error:
            raise CommandError(f"The export cannot be written: {error}. Mend it, and run the command again.") from error
        except KeyboardInterrupt:
            raise CommandError("Stopped before the end. Run the command again: it continues here.") from None
        size = sum((directory / part.file).stat().st_size for part in manifest.parts)
        seconds = time.monotonic() - started
        self.stdout.write(
            f"Exported {manifest.documents:,} documents in {len(manifest.parts):,} parts, {size / 1e6:,.1f} MB. "
            f"This command took {seconds:,.0f} s."
        )
        moments = sorted({part.moment for part in manifest.parts})
        if len(moments) > 1:
            self.stdout.write(f"The parts are of {len(moments):,} moments, from {moments[0]} to {moments[-1]}.")


def total(experiment: uuid.UUID | None) -> int:
    """Return about how many documents there are. An experiment has few others than its runs."""
    if experiment:
        return int(Experiment.runs().count_of(experiment))
    return sum(mongodb().database[name].estimated_document_count() for name in EXPORTED)
