"""The form of an experiment: its texts, and the API request that they make."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from rest_framework.exceptions import APIException, ValidationError

from core.api.errors import sentences
from core.api.json_input import refuse_unstorable
from core.json_text import parsed_text
from core.tags import MAX_TAG, tags_of, written_tags
from experiments.models import Experiment

TEXTS = ("name", "description", "tags", "config")
FIELDS = (*TEXTS, "public")


@dataclass
class ExperimentForm:
    """The values of the controls by name. `public` is true or false, the others are texts.

    `config` is None if it is too large for the form, which then has no control for it and leaves it unchanged.

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
        values = {
            "name": experiment.name,
            "description": experiment.description,
            "tags": written_tags(experiment.tags),
            "config": experiment.config_text(),
            "public": experiment.public,
        }
        return cls(values, version=experiment.version(*(name for name in FIELDS if values[name] is not None)))

    @classmethod
    def sent(cls, data: Mapping[str, Any]) -> Self:
        """Read a submitted form. Browsers leave out an unticked box, and end lines with CR LF."""
        values: dict[str, Any] = {name: data.get(name, "").replace("\r\n", "\n") for name in TEXTS}
        if "config" not in data:
            values["config"] = None
        return cls({**values, "public": "public" in data}, version=data.get("version", ""))

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
            if name not in refused:
                self.errors.setdefault(name or "non_field", []).append(shown)

    def compare(self, experiment: Experiment) -> None:
        """Take the current version of the form's fields, and fill `newer` with the values that differ from the form."""
        # The configuration may have become too large for a form meanwhile, or small enough.
        sent = [name for name in FIELDS if self.values[name] is not None]
        now = ExperimentForm.of(experiment).values
        self.version = experiment.version(*sent)
        shown = {**now, "public": "public" if experiment.public else "private"}
        self.newer = {
            name: "too large to show" if shown[name] is None else shown[name] or "empty"
            for name in sent
            if now[name] != self.values[name]
        }


def problem_of_tag(tag: str, sentence: str) -> str:
    """The problem of a tag, of which long ones are quoted in part."""
    if len(tag) > MAX_TAG:
        return f'Tag "{tag[:MAX_TAG]}…" has more than {MAX_TAG} characters.'
    return f'Tag "{tag}": {sentence}'


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


READERS: dict[str, Callable[[str], Any]] = {"tags": sent_tags, "config": config_of}
