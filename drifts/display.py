"""The fields of a run as people see them: their labels, their order, and the pages that show them.

The table of runs, the details of a run, the comparison, the filter form and its suggestions are made from the two lists
here. The portal and the exports take their fields from the serializer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drifts.models import Drift
from drifts.parameters import text_of
from drifts.verdict import JobStatus, Verdict

Kind = Literal["text", "word", "number", "tags", "time", "verdict", "series", "id"]


@dataclass(frozen=True)
class DisplayField:
    """A field of a run, or a property of it: its label, and the places that show it.

    `kind` selects how a value is written; a `word` is a short text that does not wrap. `table` puts the field left or
    right of the chosen columns in the table of runs, or makes it a column to choose. `sort` is the API's `sort_by` for
    this column.
    """

    name: str
    label: str
    kind: Kind = "text"
    table: Literal["left", "choice", "right"] | None = None
    in_details: bool = True
    in_comparison: bool = True
    sort: str = ""

    @property
    def heading(self) -> str:
        """The label beside times that do not name their zone."""
        return f"{self.label} (UTC)" if self.kind == "time" else self.label


@dataclass(frozen=True)
class DisplayValue:
    """The value that a run has for a field."""

    field: DisplayField
    value: Any

    @property
    def kind(self) -> Kind:
        return self.field.kind

    @property
    def is_empty(self) -> bool:
        return self.value is None or self.value in ("", [], {})

    @property
    def text(self) -> str:
        """The value in words. Times, tags and the verdict need markup, and have none here."""
        return series_in_words(self.value) if self.kind == "series" else text_of(self.value)


# In the order of the columns and of the details.
DISPLAY_FIELDS = (
    DisplayField("observed_at", "Time", "time", table="left", in_details=False, sort="observed_at"),
    DisplayField("verdict", "Verdict", "verdict", table="left", sort="drift_detected"),
    DisplayField("job_status", "Status", "word", table="left", sort="job_status"),
    DisplayField("model", "Model", table="left", sort="model"),
    DisplayField("model_version", "Version", table="right"),
    DisplayField("detector", "Detector", table="right"),
    DisplayField("environment", "Environment", table="right"),
    DisplayField("feature", "Feature", table="right"),
    DisplayField("p_value", "p-value", "number", table="choice"),
    DisplayField("statistic", "Statistic", "number", table="choice"),
    DisplayField("threshold", "Threshold", "number", table="choice"),
    DisplayField("sample_size", "Sample size", "number", table="choice"),
    DisplayField("window_start", "Window start", "time", table="choice"),
    DisplayField("window_end", "Window end", "time", table="choice"),
    DisplayField("tags", "Tags", "tags", table="right"),
    DisplayField("note", "Note", table="choice"),
    DisplayField("series", "Series", "series"),
    # The verdict shows these two as marks.
    DisplayField("unsupported", "Unsupported", in_details=False),
    DisplayField("overdue", "Overdue", in_details=False),
    DisplayField("run_timeout", "Time-out (seconds)", "number"),
    DisplayField("heartbeat_at", "Last heartbeat", "time"),
    DisplayField("created_at", "Reported", "time", table="choice", in_comparison=False, sort="created_at"),
    DisplayField("updated_at", "Updated", "time", in_comparison=False),
    DisplayField("schema_version", "Schema", "word", table="choice", sort="schema_version"),
    DisplayField("id", "Id", "id", in_comparison=False),
)
TABLE_LEFT = tuple(field for field in DISPLAY_FIELDS if field.table == "left")
TABLE_RIGHT = tuple(field for field in DISPLAY_FIELDS if field.table == "right")
# The fields that people may choose as columns of the table, by name.
TABLE_CHOICES = {field.name: field for field in DISPLAY_FIELDS if field.table == "choice"}
DETAILS = tuple(field for field in DISPLAY_FIELDS if field.in_details)
COMPARISON = tuple(field for field in DISPLAY_FIELDS if field.in_comparison)
# The label of each field that a search sorts by.
SORT_LABELS = {field.sort: field.label for field in DISPLAY_FIELDS if field.sort}
LABELS = {field.name: field.label for field in DISPLAY_FIELDS}


def display_values(run: Drift, fields: Sequence[DisplayField]) -> list[DisplayValue]:
    """The values of a run for these fields."""
    return [DisplayValue(field, getattr(run, field.name)) for field in fields]


def details_of(run: Drift) -> list[DisplayValue]:
    """The values in the details of a run. Most runs are reported at their own time, which the title shows."""
    repeated = "created_at" if run.created_at == run.observed_at else ""
    values = display_values(run, DETAILS)
    return [value for value in values if not value.is_empty and value.field.name != repeated]


def series_in_words(series: Mapping[str, Any]) -> str:
    """The names and values of a series. A path stands for itself."""
    return ", ".join(f"{LABELS.get(name, name)}: {text_of(value)}" for name, value in series.items())


@dataclass(frozen=True)
class FilterControl:
    """A control of the filter form: its name in addresses, and the field that it is compared with.

    `choices` make it a list to choose from. A control for equality without `choices` suggests stored values, read from
    the `index` that begins with the field, or else from the newest runs.
    """

    name: str
    field: str
    operator: Literal["$eq", "$gte", "$lt"] = "$eq"
    own_label: str = ""
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    index: str = ""

    @property
    def label(self) -> str:
        """The label of its own, or that of the field."""
        return self.own_label or LABELS[self.field]

    @property
    def is_suggested(self) -> bool:
        return self.operator == "$eq" and not self.choices


# In the order of the form.
FILTER_CONTROLS = (
    FilterControl("status", "job_status", choices=tuple(JobStatus.choices)),
    FilterControl("verdict", "verdict", choices=tuple(Verdict.choices)),
    FilterControl("model", "model", index="drift_model"),
    FilterControl("model_version", "model_version"),
    FilterControl("detector", "detector", index="drift_detector"),
    FilterControl("environment", "environment", index="drift_environment"),
    FilterControl("feature", "feature"),
    FilterControl("tag", "tags", own_label="Tag", index="drift_tags"),
    FilterControl(
        "since", "observed_at", "$gte", own_label="Since", hint="UTC, such as 2026-01-31 or 2026-01-31 12:00"
    ),
    FilterControl("until", "observed_at", "$lt", "Before", hint="UTC, such as 2026-02-01"),
)
