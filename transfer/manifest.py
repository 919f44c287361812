"""The manifest of an export: its parts, and the state that an interrupted export continues from."""

import hashlib
import json
import os
import re
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from core.var_dir import write_whole

FORMAT = 1
FILE = "manifest.json"
# The names that an export gives its parts. None leads out of the directory.
PART_FILE = re.compile(r"\d{5,}-[a-z_.]+\.ndjson\.gz")


class Refusal(Exception):
    """An export or import cannot go on. The message is for the operator: what is wrong, and what to do."""


@dataclass(frozen=True)
class Part:
    """One file of an export: compressed NDJSON, documents of one collection in order.

    `last` is the position of the last document, in canonical Extended JSON. The documents were read as they were at
    `moment`.
    """

    file: str
    collection: str
    documents: int
    sha256: str
    last: str
    moment: str


@dataclass
class Manifest:
    """The description of an export. `finished_at` is None until its end.

    `experiment` is the id of the only experiment, or None for a whole service. `complete` names the collections that
    are exported to their end.
    """

    release: str
    migrations: list[str]
    database: str
    experiment: str | None
    started_at: str
    format: int = FORMAT
    finished_at: str | None = None
    complete: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Read the manifest of a directory. Raises `Refusal`."""
        try:
            stored = json.loads((directory / FILE).read_text())
            if stored["format"] > FORMAT:
                raise Refusal(later_release(stored["release"]))
            manifest = cls(**{**stored, "parts": [Part(**part) for part in stored["parts"]]})
            manifest.check()
        except FileNotFoundError:
            raise Refusal(f"{directory} has no {FILE}. Name the directory of an export.") from None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Refusal(f"{directory / FILE} is damaged: {error}. Restore it, or export again.") from error
        return manifest

    def check(self) -> None:
        """Raise a `ValueError` or a `TypeError` for values that no export has, such as a part elsewhere."""
        if self.experiment is not None:
            uuid.UUID(str(self.experiment))
        if not all(isinstance(name, str) for name in self.migrations):
            raise ValueError("migrations are names")
        for part in self.parts:
            if not (PART_FILE.fullmatch(part.file) and isinstance(part.collection, str)):
                raise ValueError(f"{part.file!r} is no part of an export")
            if not isinstance(part.documents, int):
                raise TypeError(f"the number of documents of {part.file} is {part.documents!r}")

    def write(self, directory: Path) -> None:
        """Write the manifest. After a crash the file has its old content or the new one."""
        write_whole(directory / FILE, f"{json.dumps(asdict(self), indent=1, ensure_ascii=False)}\n")
        flush_names(directory)

    def parts_of(self, collection: str) -> list[Part]:
        return [part for part in self.parts if part.collection == collection]

    @property
    def documents(self) -> int:
        return sum(part.documents for part in self.parts)


def later_release(release: str) -> str:
    return f"The export is of a later release, {release}. Upgrade this service first."


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_names(directory: Path) -> None:
    """Make new names of files in a directory survive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
