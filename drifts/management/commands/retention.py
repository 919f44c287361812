"""`manage.py retention`: count the runs that are too old, before `RETENTION_DAYS` is set."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import pluralize

from drifts.retention import days_that_count, exactly, preview_of
from experiments.models import Experiment
from experiments.run_rules import MAX_RETENTION_DAYS


class Command(BaseCommand):
    help = "Count the runs of each experiment that retention would remove now. Removes nothing: manage.py work does."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, help="the RETENTION_DAYS to try (default: the setting)")

    def handle(self, *args: Any, days: int | None, **options: Any) -> None:
        if days is not None and not 0 < days <= MAX_RETENTION_DAYS:
            raise CommandError(f"--days is {days}. Name 1 to {MAX_RETENTION_DAYS} days.")
        runs = experiments = 0
        for experiment in Experiment.objects.only("name", "retention_days").order_by("name"):
            preview = preview_of(experiment.pk, days_that_count(experiment.retention_days, days), exactly)
            number = preview.runs.number
            if preview.cutoff and number:
                old = f"{number:,} run{pluralize(number)} older than {preview.days:,} day{pluralize(preview.days)}"
                until = f"from before {preview.cutoff:%Y-%m-%d %H:%M} UTC"
                self.stdout.write(f"{experiment.name!r} ({experiment.pk}): {old}, {until}")
                runs, experiments = runs + number, experiments + 1
        of = f"{runs:,} run{pluralize(runs)} of {experiments:,} experiment{pluralize(experiments)}"
        self.stdout.write(f"Would remove {of}.")
