"""The service as it runs in production: gunicorn workers, over HTTP."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from driftwatch.mongodb.embedded import free_port

ROOT = Path(__file__).resolve().parent.parent


class LiveServer:
    """gunicorn over one database. `environment` adds to, or overrides, the settings it starts with."""

    def __init__(self, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.api = f"{self.url}/api/v1"
        self.log = Path(tempfile.mkstemp(suffix=".log")[1])
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "driftwatch.settings",
            "PORT": str(port),
            "WEB_CONCURRENCY": "2",
            **environment,
        }

    def start(self) -> None:
        self.manage("migrate", "--verbosity=0")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "driftwatch.wsgi"],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        for _ in range(300):
            if self.process.poll() is None and self.answers():
                return
            time.sleep(0.1)
        raise RuntimeError(f"gunicorn did not start:\n{self.log.read_text()}")

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/livez", timeout=2).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.unlink()

    def manage(self, *arguments: str) -> str:
        """Run a management command against the same database and settings; return what it prints."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
