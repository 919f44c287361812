"""`manage.py upgrade_runs`: upgrade stored runs to the current schema while the service serves."""

import time
from typing import Any

import pymongo
from django.core.management.base import BaseCommand, CommandError, CommandParser

from drifts import schema
from drifts.models import Drift
from drifts.upgrades import Overtaken, make_pass, visit_all_again
from experiments.models import Experiment

# Every run of an experiment is read.
COUNT_SECONDS = 600


class Command(BaseCommand):
    help = "Upgrade stored runs to the current schema. The service may serve meanwhile; an interrupted upgrade resumes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--all",
            action="store_true",
            help="visit all runs again: after an older release has changed runs, or runs of one were loaded",
        )
        parser.add_argument("--dry-run", action="store_true", help="count the runs of older versions; change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self.count()
            return
        if options["all"]:
            visit_all_again()
        started = time.monotonic()
        try:
            place = make_pass(should_stop=lambda: False, report=self.show)
        except KeyboardInterrupt:
            raise CommandError("Stopped before the end. Run the command again: it continues here.") from None
        except Overtaken:
            raise CommandError("Another process upgrades the runs now. Run the command again after it.") from None
        seconds = time.monotonic() - started
        self.show(f"Visited {place.visited:,} runs and changed {place.changed:,}. This command took {seconds:.0f} s.")

    def count(self) -> None:
        total = 0
        older = {"schema_version": {"$in": schema.older()}}
        for experiment in Experiment.objects.only("name"):
            with pymongo.timeout(COUNT_SECONDS):
                count = Drift.objects.of(experiment).matching(older).count()
            total += count
            if count:
                self.show(f"{experiment.name!r} ({experiment.pk}): {count:,} runs")
        self.show(f"{total:,} runs are older than schema {schema.current()}.")
        if total:
            self.show("If upgrade_runs leaves some, because they were restored from a dump, run it with --all.")

    def show(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
