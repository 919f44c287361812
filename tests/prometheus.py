"""The files of `deploy/prometheus/`, and the programs that judge them."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.live import ROOT

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
