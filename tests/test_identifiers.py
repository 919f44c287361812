"""Identifiers: new ones sort behind those that were made before."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from core import identifiers, timestamps
from core.identifiers import time_of, uuid7
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN


def test_one_is_a_uuid_of_version_7_that_tells_its_millisecond() -> None:
    before = timestamps.now()
    made = uuid7()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= time_of(made) <= timestamps.now() + timedelta(milliseconds=1)


def test_the_time_is_where_the_standard_has_it() -> None:
    """RFC 9562, appendix A.6."""
    example = uuid.UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    assert time_of(example) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_those_of_one_thread_are_in_order() -> None:
    made = [uuid7() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_those_of_many_threads_are_in_order_and_differ() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [uuid7() for _ in range(2_000)], range(8)))
    assert all(those == sorted(those) for those in made)
    assert len({one for those in made for one in those}) == 16_000


@pytest.fixture
def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock that shows what the test says, in nanoseconds; the last identifier was made in 1970."""
    shown = [0]
    monkeypatch.setattr(identifiers, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: shown[0])
    return shown


def test_a_clock_that_stands_still_or_goes_back_leaves_them_in_order(frozen_clock: list[int]) -> None:
    frozen_clock[0] = 1_800_000_000_000_000_000
    made = [uuid7() for _ in range(1_000)]
    frozen_clock[0] -= 60_000_000_000
    made += [uuid7() for _ in range(1_000)]
    assert {time_of(one) for one in made} == {datetime(2027, 1, 15, 8, tzinfo=UTC)}
    frozen_clock[0] += 60_001_000_000
    made.append(uuid7())
    assert time_of(made[-1]) == datetime(2027, 1, 15, 8, 0, 0, 1_000, tzinfo=UTC)
    assert made == sorted(set(made))


def test_runs_are_in_the_order_of_their_ids_as_in_that_of_their_times(editor: Caller, experiment: Experiment) -> None:
    path = f"/experiment/{experiment.id}/drift"
    posted = [editor.post(path, RUN).json()["id"] for _ in range(30)]
    assert posted == sorted(posted)
    assert [str(pk) for pk in Drift.objects.order_by("created_at", "pk").values_list("pk", flat=True)] == posted
    assert all(run.created_at == time_of(run.id) for run in Drift.objects.all())
