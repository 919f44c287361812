"""The form of an experiment: its texts, and the API request that they make."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from django.conf import settings
from django.http import QueryDict
from django.template.defaultfilters import pluralize
from rest_framework.exceptions import APIException, ValidationError

from core.api.errors import sentences
from core.api.json_input import bounded_int, refuse_unstorable
from core.filters.paths import is_path
from core.json_text import parsed_text
from core.tags import MAX_TAG, tags_of, written_tags
from drifts.display import LABELS
from drifts.parameters import ROOT
from experiments.models import Experiment
from experiments.run_rules import MAPPABLE_FIELDS, MAX_SERIES_BY, SERIES_FIELDS

TEXTS = ("name", "description", "tags", "config", "run_timeout", "retention_days")
FIELDS = (*TEXTS, "public", "series_by", "field_map")
RUN_FIELDS = ("series_by", "field_map", "run_timeout", "retention_days")
# A form without a control for one of these leaves it unchanged.
OPTIONAL = ("config", *RUN_FIELDS)
MAP = "field_map."


@dataclass
class ExperimentForm:
    """The values of the controls by name. `public` is true or false, `series_by` lists fields and paths, `field_map`
    maps fields to paths, and the others are texts.

    A value is None if the form has no control for it, such as a `config` that is too large. It stays unchanged then.

    `version` is the version of the experiment that the form was filled from. `errors` holds the
    sentences for each control, and other sentences under `non_field`. After a conflict `newer` holds the
    current values that differ.
    """

    values: dict[str, Any]
    version: str = ""
    errors: dict[str, list[str]] = field(default_factory=dict)
    newer: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """Fill the form from an experiment."""
        rules = experiment.run_rules
        values = {
            "name": experiment.name,
            "description": experiment.description,
            "tags": written_tags(experiment.tags),
            "config": experiment.config_text(),
            "run_timeout": "" if experiment.run_timeout is None else str(experiment.run_timeout),
            "retention_days": "" if experiment.retention_days is None else str(experiment.retention_days),
            "public": experiment.public,
            "series_by": list(rules.series_by),
            "field_map": dict(rules.field_map),
        }
        return cls(values, version=experiment.version(*(name for name in FIELDS if values[name] is not None)))

    @property
    def retention_hint(self) -> str:
        """Say what the number of days does, and what happens if there is none."""
        longest = settings.RETENTION_DAYS
        kept = (
            f"None is kept for longer than {longest} day{pluralize(longest)}."
            if longest
            else "Leave empty to keep them."
        )
        return f"Older runs that have ended are removed, for good. {kept}"

    @classmethod
    def sent(cls, data: QueryDict) -> Self:
        """Read a submitted form. Browsers leave out an unticked box, and end lines with CR LF."""
        values: dict[str, Any] = {name: data.get(name, "").replace("\r\n", "\n") for name in TEXTS}
        values["public"] = "public" in data
        values["series_by"] = [name for name in map(str.strip, data.getlist("series_by")) if name]
        paths = {name: data.get(f"{MAP}{name}", "").strip() for name in MAPPABLE_FIELDS}
        values["field_map"] = {name: path for name, path in paths.items() if path}
        present = {name.partition(".")[0] for name in data}
        return cls(values | dict.fromkeys(set(OPTIONAL) - present), version=data.get("version", ""))

    def document(self) -> dict[str, Any]:
        """The body of the API request. Tags or a configuration that cannot be read become an error of the form."""
        document = {name: value for name, value in self.values.items() if value is not None}
        for name in READERS.keys() & document.keys():
            try:
                document[name] = READERS[name](self.values[name])
            except ValidationError as error:
                self.refuse(error)
        return document

    def refuse(self, error: ValidationError) -> None:
        """Add the sentences of an error to the controls that have no error yet."""
        refused = set(self.errors)
        for path, sentence in sentences(error.detail):
            name, _, place = path.partition(".")
            is_of_tag = name == "tags" and place
            shown = problem_of_tag(tags_of(self.values["tags"])[int(place)], sentence) if is_of_tag else sentence
            if name == "series_by" and place:
                shown = problem_of_series(self.values[name][int(place)], sentence)
            control = path if name == "field_map" else name
            if control not in refused:
                self.errors.setdefault(control or "non_field", []).append(shown)

    def compare(self, experiment: Experiment) -> None:
        """Take the current version of the form's fields, and fill `newer` with the values that differ from the form."""
        # The configuration may have become too large for a form meanwhile, or small enough.
        sent = [name for name in FIELDS if self.values[name] is not None]
        now = ExperimentForm.of(experiment).values
        self.version = experiment.version(*sent)
        rules = {
            "series_by": ", ".join(LABELS.get(name, name) for name in now["series_by"]),
            "field_map": ", ".join(f"{LABELS[name]}: {path}" for name, path in now["field_map"].items()),
        }
        shown = {**now, **rules, "public": "public" if experiment.public else "private"}
        self.newer = {
            name: "too large to show" if shown[name] is None else shown[name] or "empty"
            for name in sent
            if now[name] != self.values[name]
        }

    @property
    def opens_runs(self) -> bool:
        """True if the controls about runs have an error or a newer value to show."""
        return any(name.partition(".")[0] in RUN_FIELDS for name in (*self.errors, *self.newer))

    @property
    def series_fields(self) -> list[tuple[str, str, bool]]:
        """The fields that a series may have, the chosen ones first and in their order: name, label, whether chosen."""
        chosen = [name for name in self.values["series_by"] if name in SERIES_FIELDS]
        return [(name, LABELS[name], name in chosen) for name in dict.fromkeys((*chosen, *SERIES_FIELDS))]

    @property
    def series_paths(self) -> list[str]:
        """The paths of the series, and empty ones to add: at least one, which may replace a field."""
        names = self.values["series_by"]
        return [*(name for name in names if name not in SERIES_FIELDS), *[""] * max(MAX_SERIES_BY - len(names), 1)]

    @property
    def mapped_fields(self) -> list[tuple[str, str, str, list[str]]]:
        """The fields that parameters may fill: the name of the control, the label, the path and the errors."""
        controls = {name: f"{MAP}{name}" for name in MAPPABLE_FIELDS}
        paths = self.values["field_map"]
        return [(each, LABELS[name], paths.get(name, ""), self.errors.get(each, [])) for name, each in controls.items()]


def problem_of_tag(tag: str, sentence: str) -> str:
    """The problem of a tag, of which long ones are quoted in part."""
    if len(tag) > MAX_TAG:
        return f'Tag "{tag[:MAX_TAG]}…" has more than {MAX_TAG} characters.'
    return f'Tag "{tag}": {sentence}'


def problem_of_series(name: str, sentence: str) -> str:
    """The problem of a parameter of the series. Fields have boxes to tick, so that other names are paths."""
    path = f"{ROOT}.{name}"
    if name.startswith(f"{ROOT}.") or not is_path(path):
        return f"{name}: {sentence}"
    return f"{name}: Write the path of a parameter, such as {path}."


def config_of(text: str) -> Any:
    """Read a configuration from JSON; an empty text is `{}`. Raises `ValidationError`."""
    if not text.strip():
        return {}
    try:
        config = parsed_text(text)
        refuse_unstorable({"config": config})
    except APIException as error:
        raise ValidationError({"config": [sentence for _, sentence in sentences(error.detail)]}) from error
    return config


def sent_tags(text: str) -> list[str]:
    """Read tags. Raises `ValidationError`."""
    try:
        return tags_of(text)
    except ValueError as error:
        raise ValidationError({"tags": [str(error)]}) from error


def number_of(text: str) -> int | str | None:
    """Read a number of seconds or days; None for an empty text. The serializer refuses other texts."""
    text = text.strip()
    return bounded_int(text) if text.removeprefix("-").isdecimal() else text or None


READERS: dict[str, Callable[[str], Any]] = {
    "tags": sent_tags,
    "config": config_of,
    "run_timeout": number_of,
    "retention_days": number_of,
}
