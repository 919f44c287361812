"""`manage.py purge`: the rest of deletions that were broken off."""

from typing import Any

from django.core.management.base import BaseCommand

from experiments.models import LONGEST_REQUEST, DeletedExperiment


class Command(BaseCommand):
    help = "Remove what is left of deleted experiments. A deletion does so itself, unless it is broken off."

    def handle(self, *args: Any, **options: Any) -> None:
        for deleted in DeletedExperiment.objects.all():
            deleted.purge()
            self.stdout.write(f"Removed all that belonged to {deleted}.")
        if kept := DeletedExperiment.objects.count():
            minutes = f"{LONGEST_REQUEST.total_seconds() / 60:.0f}"
            self.stdout.write(
                f"Records kept: {kept}, since a request that is still at work may add runs for {minutes} minutes after "
                "a deletion. Run this again later, or delete another experiment: either removes them."
            )
        else:
            self.stdout.write("Nothing is left of deleted experiments.")
