"""The versions of the record of a run, and how this release reads the older ones. docs/schema.md has the promises."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class SchemaVersion:
    """A version of the record: the fields that it added, and the values that runs of older versions have for some.

    The other fields are null for older runs.
    """

    name: str
    fields: tuple[str, ...] = ()
    values: Mapping[str, Callable[[Values], Any]] = field(default_factory=dict)


# The oldest first. A new version is added at the end.
VERSIONS = [
    SchemaVersion("1.0.0"),
    SchemaVersion(
        "1.1.0",
        fields=(
            "observed_at",
            "window_start",
            "window_end",
            "feature",
            "p_value",
            "statistic",
            "threshold",
            "sample_size",
            "note",
            "heartbeat_at",
            "run_timeout",
            "overdue",
            "series",
            "derived",
            "rules_version",
        ),
        # The data was looked at before the run was reported. Nothing more is known.
        values={"observed_at": lambda run: run.get("created_at"), "derived": lambda run: ["observed_at"]},
    ),
]


def current() -> str:
    """Return the version of the records that this release writes."""
    return VERSIONS[-1].name


def older() -> list[str]:
    """Return the versions that this release upgrades."""
    return [version.name for version in VERSIONS[:-1]]


def newer_than(name: str | None) -> Iterator[SchemaVersion]:
    """The versions after this one. A version that this release does not know is newer than all."""
    names = [version.name for version in VERSIONS]
    yield from VERSIONS[names.index(name) + 1 :] if name in names else ()


def complete(run: Values) -> None:
    """Give a run the values of the fields that versions after its own have added.

    `run` maps names of fields to values, null for those that are not stored. Fields that were not read are left out.
    """
    if run.get("schema_version") == current():
        return
    for version in newer_than(run.get("schema_version")):
        for name, value_of in version.values.items():
            if name in run and run[name] is None:
                run[name] = value_of(run)


def upgraded(document: Values) -> Values:
    """Return the document of a run in the current version. A version that this release does not know stays."""
    run = {**dict.fromkeys(added_fields()), **document}
    complete(run)
    if document.get("schema_version") in older():
        run["schema_version"] = current()
    return run


def added_fields() -> list[str]:
    """Return the fields that came after version 1.0.0. They are stored only if they have a value."""
    return [name for version in VERSIONS for name in version.fields]
