"""Sparklines: the drift rate over time in the space of a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from drifts.verdict import Verdict, drift_rate, percent

WIDTH, HEIGHT = 120, 28
# Pixels between the line and the edges, which would cut off half of its width.
MARGIN = 3
POINTS = 20
LATELY = 10


@dataclass(frozen=True)
class Sparkline:
    """A drawing for the template. Screen readers read its `label`. `points` is empty without known verdicts."""

    label: str
    lately: str = ""
    points: str = ""
    width: int = WIDTH
    height: int = HEIGHT


def sparkline_of(verdicts: Sequence[Verdict]) -> Sparkline:
    """Draw the drift rate of an experiment's newest runs from their verdicts, newest first.

    `lately` is the rate of the last `LATELY` known verdicts.
    """
    drifted = [verdict is Verdict.DRIFT for verdict in reversed(verdicts) if verdict is not Verdict.UNKNOWN]
    if not drifted:
        return Sparkline("No verdict yet")
    overall, lately = percent(rate(drifted)), percent(rate(drifted[-LATELY:]))
    runs = f"newest {len(verdicts)} runs" if len(verdicts) > 1 else "only run"
    label = f"Drift rate of the {runs}: {overall}"
    if len(drifted) > LATELY:
        label += f"; of the newest {LATELY}: {lately}"
    return Sparkline(label, lately, line_through(rates_over_time(drifted)))


def rates_over_time(drifted: Sequence[bool]) -> list[float]:
    """At most `POINTS` rates, oldest first. Each covers the same number of runs, or one more."""
    points = min(POINTS, len(drifted))
    ends = [len(drifted) * point // points for point in range(points + 1)]
    return [rate(drifted[start:end]) for start, end in pairwise(ends)]


def line_through(rates: list[float]) -> str:
    """The points of an SVG line. A single rate becomes a horizontal line."""
    rates = rates * 2 if len(rates) == 1 else rates
    step, height = (WIDTH - 2 * MARGIN) / (len(rates) - 1), HEIGHT - 2 * MARGIN
    return " ".join(
        f"{MARGIN + step * number:.1f},{MARGIN + height * (1 - rate):.1f}" for number, rate in enumerate(rates)
    )


def rate(drifted: Sequence[bool]) -> float:
    return drift_rate(drifted.count(True), drifted.count(False)) or 0
