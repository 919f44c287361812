"""`manage.py purge`: finish interrupted deletions of experiments."""

from typing import Any

from django.core.management.base import BaseCommand

from experiments.models import LONGEST_REQUEST, DeletedExperiment


class Command(BaseCommand):
    help = "Finish interrupted deletions of experiments: remove their runs and records."

    def handle(self, *args: Any, **options: Any) -> None:
        for deleted in DeletedExperiment.objects.all():
            name, is_purged = f"{deleted.name!r} ({deleted.pk})", deleted.purged_at is not None
            deleted.purge()
            if not is_purged:
                self.stdout.write(f"Removed the runs of {name}.")
        if kept := DeletedExperiment.objects.count():
            minutes = f"{LONGEST_REQUEST.total_seconds() / 60:.0f}"
            are, records = ("deletion is", "its record") if kept == 1 else ("deletions are", "their records")
            self.stdout.write(
                f"{kept} {are} less than {minutes} minutes old. Run purge again later to remove {records}."
            )
        else:
            self.stdout.write("Nothing left to remove.")
