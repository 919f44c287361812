"""The start of a process: nothing but the service itself is loaded and run."""

import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.live import ROOT
from tests.test_background_tasks import environment

# A program that prints the names of the programs that its start runs.
PROGRAMS = """
import sys
started = []
sys.addaudithook(lambda event, details: started.append(details[0]) if event == "subprocess.Popen" else None)
import django
django.setup()
print(started)
"""


def test_a_start_runs_no_other_program() -> None:
    """Django looks for its geographical library with a compiler, up to 36 times."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAMS], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


def test_geography_is_refused_with_the_place_to_change() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"core\.mongodb\.geography refuses django\.contrib\.gis"):
        __import__("django.contrib.gis.geos")
