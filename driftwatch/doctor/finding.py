"""One line of the report of `manage.py doctor`."""

import math
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of what was examined. Only a problem makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """The state of one thing, what was seen, and what the operator should do."""

    name: str
    state: State
    text: str
    advice: str = ""


def size(number: float) -> str:
    """Return a number of bytes as people read it."""
    if number < 1024:
        return f"{number:.0f} bytes"
    units = ("KiB", "MiB", "GiB")
    power = min(int(math.log(number, 1024)), len(units))
    return f"{number / 1024**power:,.1f} {units[power - 1]}"
