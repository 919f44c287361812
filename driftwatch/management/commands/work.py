"""`manage.py work`: runs the background tasks."""

import logging
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.background import Task, Worker
from driftwatch.metrics import serve_metrics
from driftwatch.tasks import TASKS

log = logging.getLogger(__name__)

# The longest time from a signal to the stop of the worker.
TURN_SECONDS = 0.5


class Command(BaseCommand):
    help = "Run the background tasks until interrupted. Any number of copies may run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="run the tasks that are due now, and exit")

    def handle(self, *args: Any, **options: Any) -> None:
        with ExitStack() as stack:
            tasks: Sequence[Task] = TASKS
            if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
                from driftwatch import tracing  # noqa: PLC0415 - it imports OpenTelemetry

                tracing.start()
                stack.callback(tracing.stop)
                tasks = [tracing.traced(task) for task in TASKS]
            self.work(Worker(tasks), once=options["once"])

    def work(self, worker: Worker, *, once: bool) -> None:
        """Run the tasks that are due now, with `once`, or else until a signal interrupts."""
        # No handler may call `Worker.stop`, which takes a lock: a signal can interrupt the handler of another one.
        signals: list[int] = []
        for interruption in (signal.SIGINT, signal.SIGTERM):
            signal.signal(interruption, lambda number, _: signals.append(number))
        if not once:
            if port := settings.WORK_METRICS_PORT:
                start_metrics(port)
            log.info("Background tasks run in this process: %s.", ", ".join(task.name for task in TASKS))
        run: Callable[[], list[Task] | None] = worker.run_once if once else worker.run
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(run)
            # In short turns: a signal that comes just before this thread blocks does not wake it.
            while not future.done():
                wait([future], TURN_SECONDS)
                if signals:
                    worker.stop()
        if failed := future.result():
            names = ", ".join(task.name for task in failed)
            raise CommandError(f"Failed: {names}. The log above has the causes. The tasks are tried again.")


def start_metrics(port: int) -> None:
    """Serve the metrics of this process. As with gunicorn, in development only this machine reaches them."""
    try:
        # The view has its own rule of who may read.
        serve_metrics("0.0.0.0" if settings.PRODUCTION else "127.0.0.1", port)  # noqa: S104  # nosec B104
    except OSError as error:
        message = f"Port {port} cannot be used ({error.strerror}). Set WORK_METRICS_PORT to another one."
        raise CommandError(message) from error
