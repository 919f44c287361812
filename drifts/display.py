"""The fields of a run as people see them: their labels, their order, and the pages that show them.

The table of runs, the details of a run, the comparison, the filter form and its suggestions are made from the two lists
here. The portal and the exports take their fields from the serializer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drifts.models import Drift
from drifts.verdict import JobStatus, Verdict

Kind = Literal["text", "word", "tags", "time", "verdict", "id"]


@dataclass(frozen=True)
class DisplayField:
    """A field of a run, or a property of it: its label, and the places that show it.

    `kind` selects how a value is written; a `word` is a short text that does not wrap. `table` puts the field left or
    right of the parameters in the table of runs. `sort` is the API's `sort_by` for this column.
    """

    name: str
    label: str
    kind: Kind = "text"
    table: Literal["left", "right"] | None = None
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
    DisplayField("p_value", "p-value"),
    DisplayField("statistic", "Statistic"),
    DisplayField("threshold", "Threshold"),
    DisplayField("sample_size", "Sample size"),
    DisplayField("window_start", "Window start", "time"),
    DisplayField("window_end", "Window end", "time"),
    DisplayField("tags", "Tags", "tags", table="right"),
    DisplayField("note", "Note"),
    DisplayField("series", "Series"),
    DisplayField("unsupported", "Unsupported"),
    DisplayField("run_timeout", "Time-out (seconds)"),
    DisplayField("heartbeat_at", "Last heartbeat", "time"),
    DisplayField("created_at", "Reported", "time", in_comparison=False, sort="created_at"),
    DisplayField("updated_at", "Updated", "time", in_comparison=False),
    DisplayField("schema_version", "Schema", sort="schema_version"),
    DisplayField("id", "Id", "id", in_comparison=False),
)
TABLE_LEFT = tuple(field for field in DISPLAY_FIELDS if field.table == "left")
TABLE_RIGHT = tuple(field for field in DISPLAY_FIELDS if field.table == "right")
DETAILS = tuple(field for field in DISPLAY_FIELDS if field.in_details)
COMPARISON = tuple(field for field in DISPLAY_FIELDS if field.in_comparison)
# The label of each field that a search sorts by.
SORT_LABELS = {field.sort: field.label for field in DISPLAY_FIELDS if field.sort}


def display_values(run: Drift, fields: Sequence[DisplayField]) -> list[DisplayValue]:
    """The values of a run for these fields."""
    return [DisplayValue(field, getattr(run, field.name)) for field in fields]


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
        return self.own_label or next(field.label for field in DISPLAY_FIELDS if field.name == self.field)

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
    FilterControl("tag", "tags", own_label="Tag", index="drift_tags"),
    FilterControl("since", "created_at", "$gte", own_label="Since", hint="UTC, such as 2026-01-31 or 2026-01-31 12:00"),
    FilterControl("until", "created_at", "$lt", own_label="Before", hint="UTC, such as 2026-02-01"),
)
