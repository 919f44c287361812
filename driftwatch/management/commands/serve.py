"""`manage.py serve`: runs the service with its database in one command."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError

from accounts.models import User
from core.mongodb import embedded
from core.mongodb.lock import locked
from core.var_dir import usable, write_whole
from drifts.sample_data import store_samples
from experiments.models import Experiment

START_SECONDS = 60
STOP_SECONDS = 20
TICK_SECONDS = 0.5
# The pauses before `manage.py work` is started again, in seconds.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
GUNICORN = ("-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "driftwatch.wsgi")
WORK = ("manage.py", "work")

WELCOME = """
Drift Watch runs at {url}
  Experiments                {url}/experiments{samples}
  API documentation          {url}/api/v1/docs
  Admin portal               {url}/admin/{administrator}
  Create an access token     {python} manage.py token you@example.org
Ctrl-C stops it.
"""


class Command(BaseCommand):
    help = "Start MongoDB unless MONGODB_URI is set, migrate, and serve until interrupted, with background tasks."

    def handle(self, *args: Any, **options: Any) -> None:
        if not is_free(settings.PORT):
            raise CommandError(f"Port {settings.PORT} is in use. Stop the program there, or set PORT to another port.")
        database = None if settings.MONGODB_URI else embedded.server()
        call_command("migrate", interactive=False, verbosity=0)
        administrator, samples = ("", "") if settings.PRODUCTION else first_start()
        # Both processes use the database of this process, and never start their own.
        environment = os.environ | ({"MONGODB_URI": database.uri} if database else {})
        with tempfile.TemporaryDirectory(prefix="driftwatch-counts-") as counts:
            self.serve(environment | {"PROMETHEUS_MULTIPROC_DIR": counts}, welcome(administrator, samples), database)

    def serve(self, environment: Mapping[str, str], text: str, database: embedded.EmbeddedServer | None) -> None:
        """Start both processes, greet once gunicorn responds, and stop them at an interruption."""
        gunicorn = start(GUNICORN, environment)
        worker = BackgroundWorker(environment)
        on_interruption(signal.default_int_handler)
        try:
            wait_until_ready(gunicorn)
            self.stdout.write(text)
            self.stdout.flush()
            watch(gunicorn, worker, database)
        except KeyboardInterrupt:
            self.stderr.write("Stopping.")
        finally:
            on_interruption(signal.SIG_IGN)
            gunicorn.terminate()
            worker.stop()
            gunicorn.wait()


class BackgroundWorker:
    """`manage.py work` beside gunicorn. When it ends, it is started again after a pause, which grows."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None
        self.pause = FIRST_PAUSE
        self.started_at = self.starts_at = 0.0

    def keep_running(self) -> None:
        """Start the process if it is time for that. If it has ended, say so in one line."""
        now = time.monotonic()
        if self.process and self.process.poll() is not None:
            pause = FIRST_PAUSE if now > self.started_at + LONGEST_PAUSE else self.pause
            self.starts_at, self.pause = now + pause, min(2 * pause, LONGEST_PAUSE)
            sys.stderr.write(
                f"manage.py work ended with status {self.process.returncode}, and no background task runs. "
                f"It starts again in {pause:.0f} s.\n"
            )
            self.process = None
        if self.process is None and now >= self.starts_at:
            self.started_at = now
            self.process = start(WORK, self.environment)

    def stop(self) -> None:
        """Have the process end after its running batches; kill it if they take longer than `STOP_SECONDS`."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(arguments: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start a Python program. In its own session, it does not receive Ctrl-C: this process stops it."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env=environment,
        start_new_session=True,
        preexec_fn=embedded.die_with_parent,  # noqa: PLW1509 - it only makes one system call
    )


def on_interruption(handler: Any) -> None:
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, handler)


def welcome(administrator: str, samples: str) -> str:
    url = f"http://localhost:{settings.PORT}"
    return WELCOME.format(url=url, samples=samples, administrator=administrator, python=os.path.relpath(sys.executable))


def wait_until_ready(gunicorn: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and gunicorn.poll() is None:
        if not is_free(settings.PORT):
            return
        time.sleep(0.1)
    raise CommandError("gunicorn did not start. See its log above.")


def is_free(port: int) -> bool:
    """Return whether nothing listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def watch(
    gunicorn: "subprocess.Popen[bytes]", worker: BackgroundWorker, database: embedded.EmbeddedServer | None
) -> None:
    """Wait until gunicorn ends. Restart the worker and the embedded database when they end. Raises `CommandError`."""
    reported = ""
    while gunicorn.poll() is None:
        worker.keep_running()
        time.sleep(TICK_SECONDS)
        if database and not database.is_running:
            try:
                with usable(settings.VAR_DIR):
                    database.start()
                reported = ""
            except ImproperlyConfigured as error:
                # A full disk stays full for many attempts.
                if reported != (reported := str(error)):
                    sys.stderr.write(f"{reported}\n")
    raise CommandError(f"gunicorn ended with status {gunicorn.returncode}. See its log above.")


def first_start() -> tuple[str, str]:
    """Create the first administrator and the sample data of a new service; return what to say about them."""
    with usable(settings.VAR_DIR), locked("first start"):
        is_new = not User.objects.filter(is_superuser=True).exists()
        administrator = first_administrator()
        return administrator, sample_data() if is_new and settings.SAMPLE_DATA else ""


def sample_data() -> str:
    """Store sample data unless there are experiments, and return its summary."""
    if Experiment.objects.exists():
        return ""
    experiments, runs = store_samples(User.objects.get(is_superuser=True))
    return f"  ({experiments} sample experiments with {runs} runs)"


def first_administrator() -> str:
    """Create the first local administrator with a random password, stored in `var/`; return the credentials."""
    file = settings.VAR_DIR / "admin_password"
    if not User.objects.filter(is_superuser=True).exists():
        password = secrets.token_urlsafe(12)
        # The file comes first: a password that could not be stored would be lost.
        write_whole(file, password)
        try:
            User.objects.create_superuser("admin", "admin@localhost", password)
        except IntegrityError:
            file.unlink()
            raise CommandError(
                "A local user is named admin, but is no administrator. Create one with manage.py createsuperuser."
            ) from None
    return f"  (user name admin, password {file.read_text()})" if file.exists() else ""
