"""The documents of the predecessor: what they say, and what this service cannot store or serve of it.

Its database holds whatever its server, or somebody with a shell, has stored. Values beyond the limits of today's API
are taken over: longer texts, more tags, empty names. A document is unusable if a field is missing that has no default,
has another type, or holds a value that no response could show.
"""

import datetime
import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from bson import Int64

from core.api.json_input import problem_in, text_problem
from core.identity import Level
from core.mongodb.documents import Document, without_references
from core.printable import escaped
from drifts.verdict import JobStatus

SCHEMA_VERSION = "1.0.0"
USER_FIELDS = frozenset({"_id", "email", "subject", "issuer", "created_at"})
EXPERIMENT_FIELDS = frozenset({"_id", "name", "description", "public", "permissions", "created_at"})
RUN_FIELDS = frozenset(
    {"_id", "job_status", "tags", "model", "drift_detected", "parameters", "schema_version", "created_at"}
)
# The most bytes of a text that searches sort by: a cursor must hold it (`MAX_CURSOR` in core/api/search.py).
MAX_SORTED = 4 * 255
# The API takes no time before 1970 (`BEGINNING` in drifts/intervals.py), and a timeline spans at most 7,000 years.
FIRST_YEAR, LAST_YEAR = 1970, 2999
# The most characters of a value in a message.
MAX_SHOWN = 80
# Subclasses, such as the driver's type of JavaScript code, are other values. Large integers are an `Int64`.
JSON_TYPES = frozenset({type(None), str, bool, int, float, Int64})
MISSING: Any = object()


class Unusable(Exception):
    """Raised for a document, or a part of one, that cannot be taken over. The message is the reason."""


@dataclass
class Reading:
    """The reading of a document of the predecessor.

    `left_out` names the parts that are not taken over, `notes` are facts that its reader should know.
    """

    document: Document
    zone: ZoneInfo
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def id(self) -> uuid.UUID:
        """The id, which must be written as the predecessor did, so that it stays the same for clients."""
        value = self.document.get("_id")
        try:
            if isinstance(value, str) and value == str(found := uuid.UUID(value)):
                return found
        except ValueError:
            pass
        raise Unusable("its id is not a UUID in lower case with dashes")

    def text(self, name: str, default: Any = MISSING, *, most_bytes: int | None = None) -> str:
        value = self.value(name, default)
        if not is_text(value):
            raise self.unusable(name, value, "which is not a text")
        if problem := text_problem(value):
            raise Unusable(f"{name} cannot be stored. {problem}")
        if most_bytes and len(value.encode()) > most_bytes:
            raise Unusable(f"{name} has more than {most_bytes:,} bytes in UTF-8, so that no page could end with it")
        return str(value)

    def boolean(self, name: str, default: Any = MISSING) -> bool:
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise self.unusable(name, value, "which is neither true nor false")
        return value

    def choice(self, name: str, choices: list[str]) -> str:
        value = self.value(name)
        if value not in choices:
            raise self.unusable(name, value, f"which is none of {', '.join(choices)}")
        return str(value)

    def texts(self, name: str) -> list[str]:
        values = self.value(name, [])
        if not isinstance(values, list):
            raise self.unusable(name, values, "which is not a list")
        for value in values:
            if not is_text(value):
                raise self.unusable(f"an element of {name}", value, "which is not a text")
            if problem := text_problem(value):
                raise Unusable(f"an element of {name} cannot be stored. {problem}")
        return values

    def json_object(self, name: str) -> Document:
        """An object of values that JSON has. Numbers that are not finite stay, and a note names the first one."""
        value = without_references(self.value(name, {}))
        if not isinstance(value, dict):
            raise self.unusable(name, value, "which is not an object")
        not_finite: list[str] = []
        if found := problem_in(checked(value, name, not_finite), name, depth=1):
            raise Unusable(f"{shown(found.path)} cannot be stored. {found.sentence}")
        if not_finite:
            self.notes.append(f"{not_finite[0]} is not finite; it is kept, but JSON and so the API show null")
        return value

    def time(self, name: str) -> datetime.datetime:
        """A time in UTC, without a zone, in whole milliseconds. A text without a zone has the predecessor's."""
        value = self.value(name)
        try:
            time = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise self.unusable(name, value, "which is not an ISO time") from None
        try:
            # Times of MongoDB are in UTC.
            time = self.in_utc(name, time) if isinstance(value, str) else time
        except OverflowError:
            raise self.unusable(name, value, "which is no time in UTC") from None
        if not FIRST_YEAR <= time.year <= LAST_YEAR:
            raise self.unusable(name, value, f"which is outside the years {FIRST_YEAR} to {LAST_YEAR}")
        return time.replace(microsecond=time.microsecond // 1000 * 1000)

    def in_utc(self, name: str, time: datetime.datetime) -> datetime.datetime:
        """A time in UTC, without a zone. A note names one that the clocks of the predecessor's zone skip or repeat."""
        if time.tzinfo is not None:
            return time.astimezone(datetime.UTC).replace(tzinfo=None)
        first, second = (time.replace(tzinfo=self.zone, fold=fold) for fold in (0, 1))
        utc = first.astimezone(datetime.UTC).replace(tzinfo=None)
        if first.utcoffset() != second.utcoffset():
            is_repeated = first.astimezone(datetime.UTC) < second.astimezone(datetime.UTC)
            problem = "the clocks showed twice" if is_repeated else "the clocks skipped"
            self.notes.append(
                f"{name} is {time.isoformat()}, which {problem} in {self.zone.key}; it is taken as {utc.isoformat()}Z"
            )
        return utc

    def value(self, name: str, default: Any = MISSING) -> Any:
        """The value of a field. The default stands for a missing one and for null."""
        value = self.document.get(name)
        if value is not None:
            return value
        if default is MISSING:
            raise Unusable(f"its {name} is {'null' if name in self.document else 'missing'}")
        return default

    def leave_out_others(self, known: frozenset[str]) -> None:
        """Note the fields that the predecessor's schema does not have."""
        if others := sorted(self.document.keys() - known):
            fields = "the field" if len(others) == 1 else "the fields"
            self.left_out.append(
                f"{fields} {', '.join(map(shown, others))}, which the predecessor's schema does not have"
            )

    def unusable(self, name: str, value: Any, reason: str) -> Unusable:
        return Unusable(f"{name} is {shown(value)}, {reason}")


@dataclass(frozen=True)
class LegacyUser:
    """A user of the predecessor."""

    id: uuid.UUID
    issuer: str
    subject: str
    email: str
    created_at: datetime.datetime

    @classmethod
    def of(cls, reading: Reading) -> "LegacyUser":
        """Read a user. Raises `Unusable`."""
        texts = {name: reading.text(name, most_bytes=MAX_SORTED) for name in ("issuer", "subject")}
        if blank := [name for name, text in texts.items() if not text.strip()]:
            raise Unusable(f"its {blank[0]} is blank")
        email = reading.text("email", "", most_bytes=MAX_SORTED)
        user = cls(reading.id(), **texts, email=email, created_at=reading.time("created_at"))
        reading.leave_out_others(USER_FIELDS)
        return user


@dataclass(frozen=True)
class LegacyExperiment:
    """An experiment of the predecessor. `permissions` are pairs of an entity and a level."""

    id: uuid.UUID
    name: str
    description: str
    public: bool
    permissions: list[tuple[str, Level]]
    created_at: datetime.datetime

    @classmethod
    def of(cls, reading: Reading) -> "LegacyExperiment":
        """Read an experiment. Raises `Unusable`."""
        experiment = cls(
            reading.id(),
            reading.text("name", most_bytes=MAX_SORTED),
            reading.text("description", ""),
            reading.boolean("public", False),
            list(permissions_in(reading)),
            reading.time("created_at"),
        )
        reading.leave_out_others(EXPERIMENT_FIELDS)
        return experiment


def permissions_in(reading: Reading) -> Iterator[tuple[str, Level]]:
    """The entries of a permission list. Those that mean nothing here are left out."""
    entries = reading.value("permissions", [])
    if not isinstance(entries, list):
        raise reading.unusable("permissions", entries, "which is not a list")
    for entry in entries:
        entity, level = (entry.get("entity"), entry.get("level")) if isinstance(entry, dict) else (None, None)
        if is_text(entity) and entity and not text_problem(entity) and level in Level.values:
            yield entity, Level(level)
        else:
            reading.left_out.append(
                f"the permission {shown(entry)}, which names no entity, or no level of this service"
            )


def run_in(reading: Reading) -> Document:
    """The values of a run by their names, as a new run takes them. Raises `Unusable`."""
    if (version := reading.value("schema_version", SCHEMA_VERSION)) != SCHEMA_VERSION:
        raise reading.unusable("schema_version", version, f"and only {SCHEMA_VERSION} is known")
    job_status = reading.choice("job_status", JobStatus.values)
    created_at = reading.time("created_at")
    run: Document = {
        "_id": reading.id().hex,
        "job_status": job_status,
        "model": reading.text("model", most_bytes=MAX_SORTED),
        # The verdict of a completed run follows from it, so no default would be true.
        "drift_detected": reading.boolean("drift_detected", MISSING if job_status == JobStatus.COMPLETED else False),
        "parameters": reading.json_object("parameters"),
        "tags": reading.texts("tags"),
        "created_at": created_at,
        "updated_at": created_at,
    }
    reading.leave_out_others(RUN_FIELDS)
    return run


def checked(value: Any, path: str, not_finite: list[str]) -> Any:
    """Return a value as its JSON is parsed, with null for numbers that are not finite. Append their paths.

    Raises `Unusable` for a value that JSON does not have.
    """
    if isinstance(value, dict):
        return {name: checked(part, f"{path}.{name}", not_finite) for name, part in value.items()}
    if isinstance(value, list):
        return [checked(part, f"{path}.{index}", not_finite) for index, part in enumerate(value)]
    if type(value) not in JSON_TYPES:
        raise Unusable(f"{shown(path)} is a value of the type {type(value).__name__}, which JSON does not have")
    if isinstance(value, float) and not math.isfinite(value):
        not_finite.append(path)
        return None
    # Python would search a range for a subclass number by number.
    return int(value) if isinstance(value, Int64) else value


def is_text(value: Any) -> bool:
    """Return whether a value is a text, and not JavaScript code, which the driver makes a subclass."""
    return type(value) is str


def shown(value: Any) -> str:
    """Write a value for a message: in one line, of bounded length."""
    text = escaped(value if isinstance(value, str) else repr(plain(value)))
    text = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    return f'"{text}"' if isinstance(value, str) else text


def plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
