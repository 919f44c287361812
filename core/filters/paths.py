r"""Paths to values inside JSON: names joined by dots, such as `parameters.window.size`.

In a path, `\.` is a dot inside a name, `\$` a dollar at the start of one, and `\\` a backslash. A backslash before any
other character is a backslash.
"""

import re
from collections.abc import Iterable

MAX_PATH = 250
TOKEN = re.compile(r"\\([\\.$])|(.)", re.DOTALL)
TO_ESCAPE = re.compile(r"[\\.]|\A\$")
ADVICE = (
    "Write names separated by single dots, such as parameters.window.size. "
    rf"\. is a dot inside a name, \$ a dollar at the start of one. {MAX_PATH} characters at most."
)


def join(names: Iterable[str]) -> str:
    """Return the path of these names. Different names have different paths."""
    return ".".join(TO_ESCAPE.sub(r"\\\g<0>", name) for name in names)


def split(path: str) -> tuple[str, ...]:
    """Return the names in a path. Raises `ValueError` with a message for the client if it is not a path."""
    names = [""]
    if len(path) > MAX_PATH:
        raise ValueError(ADVICE)
    for escaped, plain in TOKEN.findall(path):
        if plain == "$" and not names[-1]:
            raise ValueError(ADVICE)
        if plain == ".":
            names.append("")
        else:
            names[-1] += escaped or plain
    if not all(names):
        raise ValueError(ADVICE)
    return tuple(names)


def is_path(path: str) -> bool:
    """Return whether the text is a path."""
    try:
        split(path)
    except ValueError:
        return False
    return True


def is_plain(name: str) -> bool:
    """Return whether MongoDB's dotted paths can hold the name."""
    return "." not in name and not name.startswith("$")
