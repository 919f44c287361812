"""`manage.py sample_data`: store sample experiments in an empty development service."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from drifts.sample_data import store_samples
from experiments.models import Experiment


class Command(BaseCommand):
    help = "Store public experiments with sample runs in an empty development service."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("This is a production service. Sample data is for development only.")
        owner = User.objects.filter(is_superuser=True).order_by("created_at").first()
        if owner is None:
            raise CommandError("There is no local administrator. Create one with manage.py createsuperuser.")
        if Experiment.objects.exists():
            self.stdout.write("The service already has experiments. No sample data was stored.")
            return
        experiments, runs = store_samples(owner)
        self.stdout.write(f"Stored {experiments} public experiments of {owner}, with {runs} sample runs.")
