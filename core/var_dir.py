"""Files of a development service in `settings.VAR_DIR`. Several processes may start with one directory at once."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


@contextmanager
def usable(directory: Path) -> Iterator[None]:
    """Create the directory, and raise `ImproperlyConfigured` if it or a file of the block cannot be used."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield
    except OSError as error:
        advice = "Set the path of a directory that the service may write to."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = f"Free space there, or s{advice[1:]}"
        raise ImproperlyConfigured(
            f"VAR_DIR is {str(directory)!r}, which cannot be used: {error.strerror}. {advice}"
        ) from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time run the block. Others on this machine wait."""
    with (directory / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def created_once(file: Path, content: Callable[[], str]) -> str:
    """Return the text of a private file, created with this content unless it exists."""
    if not has_text(file):
        with locked(file.parent):
            if not has_text(file):
                write_whole(file, content())
    return file.read_text()


def write_whole(file: Path, text: str) -> None:
    """Write a private file. Another process reads its old text or the new one, never a part."""
    part = file.with_name(f"{file.name}.part")
    part.touch(mode=0o600)
    with part.open("w") as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    part.replace(file)


def has_text(file: Path) -> bool:
    """Return whether the file exists. An empty one is left over from a disk that was full."""
    return file.exists() and file.stat().st_size > 0
