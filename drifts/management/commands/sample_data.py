"""`manage.py sample_data`: something to look at from the first minute."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from drifts.sample_data import store_samples
from experiments.models import Experiment


class Command(BaseCommand):
    help = "Store public experiments with sample runs, for the first administrator of an empty development service."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("Sample data is for development: this is a production service.")
        owner = User.objects.filter(is_superuser=True).order_by("created_at").first()
        if owner is None:
            raise CommandError("There is no local administrator to own it: make one with manage.py createsuperuser.")
        if Experiment.objects.exists():
            self.stdout.write("There are experiments here already: nothing is stored.")
            return
        experiments, runs = store_samples(owner)
        self.stdout.write(f"Stored {experiments} public experiments of {owner}, with {runs} sample runs.")
