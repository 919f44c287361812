"""`manage.py purge`: remove deleted experiments for good whose time in the trash is over."""

from typing import Any

from django.core.management.base import BaseCommand

from experiments.models import LONGEST_REQUEST, DeletedExperiment


class Command(BaseCommand):
    help = "Remove deleted experiments for good whose TRASH_DAYS are over, with their runs. TRASH_DAYS=0 takes all."

    def handle(self, *args: Any, **options: Any) -> None:
        for deleted in DeletedExperiment.objects.due_for_purge():
            name, is_purged = f"{deleted.name!r} ({deleted.pk})", deleted.purged_at is not None
            if deleted.claim_for_purge():
                deleted.purge()
                if not is_purged:
                    self.stdout.write(f"Removed the runs of {name}.")
        if kept := DeletedExperiment.objects.in_trash().count():
            number = "1 experiment is" if kept == 1 else f"{kept:,} experiments are"
            self.stdout.write(f"{number} in the trash, and can be restored.")
        if left := DeletedExperiment.objects.due().count():
            minutes = f"{LONGEST_REQUEST.total_seconds() / 60:.0f}"
            are, records = ("deletion is", "its record") if left == 1 else ("deletions are", "their records")
            self.stdout.write(
                f"{left} {are} less than {minutes} minutes old. Run purge again later to remove {records}."
            )
        else:
            self.stdout.write("Nothing left to remove.")
