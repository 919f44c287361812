"""`manage.py purge`: the rest of deletions that were broken off."""

from typing import Any

from django.core.management.base import BaseCommand

from experiments.models import LONGEST_REQUEST, DeletedExperiment


class Command(BaseCommand):
    help = "Remove the runs that broken-off deletions of experiments left, and the records of deletions."

    def handle(self, *args: Any, **options: Any) -> None:
        for deleted in DeletedExperiment.objects.all():
            name, is_purged = f"{deleted} ({deleted.pk})", deleted.purged_at is not None
            deleted.purge()
            if not is_purged:
                self.stdout.write(f"Removed the runs of {name}.")
        if kept := DeletedExperiment.objects.count():
            minutes = f"{LONGEST_REQUEST.total_seconds() / 60:.0f}"
            self.stdout.write(
                f"Records kept: {kept}, of deletions in the last {minutes} minutes. A later purge removes them."
            )
        else:
            self.stdout.write("Nothing is left of deleted experiments.")
