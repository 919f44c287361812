"""Identifiers of runs and events sort by creation, which bulk ingest relies on."""

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from uuid_utils.compat import uuid7

from core import timestamps
from drifts.documents import time_of
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import LIBFAKETIME, RUN

# Make identifiers before and after the clock is set back by one minute, and then forward by two.
STEPS = """
import sys
from itertools import pairwise
from pathlib import Path
from uuid_utils.compat import uuid7
made = []
for step in ("+0", "-60", "+60"):
    Path(sys.argv[1]).write_text(step)
    made += [uuid7() for _ in range(1_000)]
sys.stdout.write(" ".join(map(str, made)))
"""


def test_an_identifier_is_a_uuid_of_version_7_with_its_millisecond() -> None:
    before = timestamps.now()
    made = uuid7()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= time_of(made) <= timestamps.now() + timedelta(milliseconds=1)


def test_the_time_is_read_as_in_the_standard() -> None:
    """RFC 9562, appendix A.6."""
    example = uuid.UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    assert time_of(example) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_a_million_identifiers_of_one_thread_are_in_order() -> None:
    made = [uuid7().int for _ in range(1_000_000)]
    assert all(one < next_ for one, next_ in pairwise(made))


def test_identifiers_of_many_threads_are_in_order_and_distinct() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [uuid7() for _ in range(2_000)], range(8)))
    assert all(those == sorted(those) for those in made)
    assert len({one for those in made for one in those}) == 16_000


@pytest.mark.skipif(not LIBFAKETIME, reason="there is no libfaketime here")
def test_identifiers_stay_in_order_when_the_clock_is_set(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", "LD_PRELOAD": str(LIBFAKETIME)}
    command = [sys.executable, "-c", STEPS, str(clock)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    made = [uuid.UUID(text) for text in done.stdout.split()]
    assert len(made) == 3_000
    assert made == sorted(set(made))
    # The clock really was set back.
    assert timedelta(seconds=50) < time_of(made[-1]) - time_of(made[1_999]) < timedelta(seconds=70)


def test_runs_sort_by_id_as_by_creation_time(editor: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.id}/drift"
    posted = [editor.post(path, RUN).json()["id"] for _ in range(30)]
    assert posted == sorted(posted)
    assert [str(pk) for pk in Drift.objects.order_by("created_at", "pk").values_list("pk", flat=True)] == posted
    assert all(run.created_at == time_of(run.id) for run in Drift.objects.all())
