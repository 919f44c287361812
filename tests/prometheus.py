"""Prometheus and Alertmanager with the files of `deploy/prometheus/`, and a receiver of their notifications."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import requests
import yaml

from tests.live import ROOT
from tests.ports import free_port

DEPLOYED = ROOT / "deploy" / "prometheus"
ALERTS: list[dict[str, Any]] = [
    alert for group in yaml.safe_load((DEPLOYED / "alerts.yml").read_text())["groups"] for alert in group["rules"]
]
# Debian names the program of Alertmanager after its package.
PROGRAMS = [shutil.which(name) for name in ("prometheus", "promtool", "prometheus-alertmanager", "amtool")]
PROMETHEUS = all(PROGRAMS)
MISSING = "there is no Prometheus with Alertmanager here (apt-get install prometheus prometheus-alertmanager)"


def judge(*command: str | Path) -> None:
    """Run promtool or amtool. Raises `AssertionError` with its output if it fails."""
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def copied(name: str, directory: Path, changes: Mapping[str, str]) -> Path:
    """Copy a deployed file with replacements for these patterns, each of which it has."""
    text = (DEPLOYED / name).read_text()
    for pattern, replacement in changes.items():
        text, found = re.subn(pattern, replacement, text)
        assert found, pattern
    file = directory / name
    file.write_text(text)
    return file


class Server:
    """A program that responds at `url`. Its files are in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"

    def run(self, *command: str) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log)

    def is_ready(self) -> bool:
        """Return whether it responds. Raises `AssertionError` with its log if it has ended."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}/-/ready", timeout=2).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Alertmanager(Server):
    """Alertmanager, which notifies a receiver at once, and of a change within a second."""

    def start(self, receiver: str) -> None:
        changes = {
            r"group_wait: \w+": "group_wait: 0s",
            r"group_interval: \w+": "group_interval: 1s",
            r"http://127\.0\.0\.1:9000": receiver,
        }
        file = copied("alertmanager.yml", self.directory, changes)
        self.run(
            "prometheus-alertmanager",
            f"--config.file={file}",
            f"--storage.path={self.directory / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        )


class Prometheus(Server):
    """Prometheus, which scrapes one service, and whose alerts fire without delay."""

    def start(self, service: str, token: str, alertmanager: str) -> None:
        # A scrape may take as long as the pause between two. Without a database, it takes one or two seconds.
        changes = {
            r"(scrape|evaluation)_interval: \w+": r"\1_interval: 4s",
            r"127\.0\.0\.1:9093": alertmanager,
            r'\["127\.0\.0\.1:8001", "127\.0\.0\.1:8002"\]': f'["{urlsplit(service).netloc}"]',
            r'\["127\.0\.0\.1:8003"\]': "[]",
        }
        file = copied("prometheus.yml", self.directory, changes)
        copied("alerts.yml", self.directory, {r"for: \w+": "for: 0s"})
        (self.directory / "metrics_token").write_text(token)
        self.run(
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self.address}",
        )

    def value(self, expression: str) -> float | None:
        """Return the value of an expression that has one at most."""
        response = requests.get(f"{self.url}/api/v1/query", {"query": expression}, timeout=10)
        found = response.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None


class Receiver:
    """Receives notifications at `url`: of each alert in them, its receiver, its state, and what it says."""

    def __init__(self) -> None:
        alerts: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                alerts.extend({**alert, "receiver": notification["receiver"]} for alert in notification["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        self.alerts = alerts
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=self.server.serve_forever)
        self.thread.start()

    def find(self, name: str, status: str) -> dict[str, Any] | None:
        """Return the first notification that this alert is `firing` or `resolved`."""
        for alert in self.alerts:
            if (alert["labels"]["alertname"], alert["status"]) == (name, status):
                return alert
        return None

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
