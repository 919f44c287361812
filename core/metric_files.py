"""The files in which each process counts for `/metrics`. Without them, requests are served as before.

prometheus_client maps sparse files into memory. On a full disk, the first write to a new page ends the process by a
signal (SIGBUS); without the directory, each request raises an error. Here, the space of a file is reserved before it is
written. A process that cannot have it counts in memory, where `/metrics` does not see it.

It relies on prometheus_client 0.26 beyond its documentation: on the attributes of `MmapedDict`, and on `values`, which
looks the class up when a process opens a file.
"""

import contextlib
import logging
import mmap
import os
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

log = logging.getLogger(__name__)

FIRST_SIZE = 1 << 16
# The bytes of the head of a file, and the most of an entry besides its key.
HEAD, ENTRY = 8, 32


class CountFile(MmapedDict):
    """The file of one kind of metrics of one process, or memory in its place."""

    _f: Any
    _m: Any

    def __init__(self, filename: str) -> None:
        try:
            with Path(filename).open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, FIRST_SIZE)
            super().__init__(filename)  # type: ignore[no-untyped-call]
        except OSError as error:
            # An empty file could not be read.
            with contextlib.suppress(OSError):
                Path(filename).unlink()
            self._f, self._m, self._positions = None, bytes(FIRST_SIZE), {}
            self._used, self._capacity = HEAD, FIRST_SIZE
            self._go_on_in_memory(error)

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + ENTRY > self._capacity:
            self._grow(2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self, capacity: int) -> None:
        if self._f is not None:
            try:
                os.posix_fallocate(self._f.fileno(), 0, capacity)
                self._m = mmap.mmap(self._f.fileno(), capacity)
            except OSError as error:
                self._f.close()
                self._f = None
                self._go_on_in_memory(error)
        if self._f is None:
            self._m += bytes(capacity - len(self._m))
        self._capacity = capacity

    def _go_on_in_memory(self, error: OSError) -> None:
        log.warning("/metrics does not see what this process counts from now on: %s", error)
        self._m = bytearray(self._m)


def use_count_files() -> None:
    """Have the metrics of this process, and of those forked from it, use these files."""
    values.MmapedDict = CountFile  # type: ignore[assignment, attr-defined]
