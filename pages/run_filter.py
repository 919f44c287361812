"""The filter of the runs on a page. People write it into a form, and the page's address holds it.

    status, model, since, …            the name of a control: its field is compared with this value
    where=<path> <operator> <value>    a condition; any number of them
    path op value                      a condition from three controls of the form; any number of them
    filter                             a JSON filter of the API, for anything else
    patient=1                          allow the time of an API search

Operators are `eq ne lt lte gt gte exists contains`. A value to compare with a parameter is a number, true or false, or
else a text; in double quotes it is always a text. `exists` takes true, false or nothing; `contains` searches
for a part of a text and ignores case. The fields `series` and `parameters` themselves are compared with JSON objects.

A path may also be the label of a field, in any case.
The path in `where` is a JSON string if the text would mean something else without the quotes: in
`"parameters.rate gt mean" lt 0.5` the name is "rate gt mean".
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Self
from urllib.parse import urlencode

from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from core import filters
from core.api.errors import sentences
from core.api.json_input import bounded_int, scalar_problem, text_problem
from core.api.search import bounded_time, search_time_limit
from core.filters import paths
from core.filters.fields import BooleanField, ComputedField, Field, JSONField, NumberField, TimeField, parse_time
from core.json_text import parsed_text
from core.mongodb.match import NOTHING, Mql
from drifts.display import FILTER_CONTROLS, LABELS, FilterControl
from drifts.parameters import ROOT
from drifts.views import FIELDS

CONTROLS = {control.name: control for control in FILTER_CONTROLS}
OPERATORS = {
    "eq": "is",
    "ne": "is not",
    "lt": "less than",
    "lte": "at most",
    "gt": "greater than",
    "gte": "at least",
    "exists": "is set",
    "contains": "contains",
}
QUOTED, BARE = r'"(?:[^"\\]|\\.)*"', r'[^\s"](?:.*?\S)?'
CONDITION = re.compile(rf"(?P<path>{QUOTED}|{BARE})\s+(?P<op>{'|'.join(OPERATORS)})(?:\s+(?P<value>.*))?", re.DOTALL)
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?P<fraction>\.[0-9]*)?|\.[0-9]+)(?P<power>[eE][+-]?[0-9]+)?")
TRUTHS = {"true": True, "false": False}
NAMES = {label.lower(): name for name, label in LABELS.items()}
# The fields whose own value is an object, with a name and a value for an example.
OBJECTS = {"series": ("model", "forest"), ROOT: ("p_value", 0.05)}
MAX_CONDITIONS = 20
MAX_LENGTH = 1_000
MAX_FILTER = 4_000
# The time limit in seconds, so that a page takes less than one, unless the reader allows more.
SOON = 0.6
PATIENCE = "Search longer"
INCOMPLETE = "Enter a field, a comparison and a value, such as parameters.p_value lt 0.05 (lt: less than)."
NO_TIME = "Write a time in UTC, such as 2026-01-31 or 2026-01-31 12:00."
ADVICE = "choose a model, a status or a shorter period"


# Translates the text of a control to the API's filter language. Raises `Refused`.
Meaning = Callable[[str], Any]


class Refused(Exception):
    """Raised for a text without a meaning. The message gives the reason, and an example or the choices."""


@dataclass
class Control:
    """The text of one control of the form, and its error."""

    value: str = ""
    error: str = ""


@dataclass
class Condition:
    """A condition as the text in `where`, its parts, and its error. Without an operator, the text is no condition."""

    text: str = ""
    path: str = ""
    operator: str = ""
    value: str = ""
    error: str = ""

    @classmethod
    def of(cls, text: str) -> Self:
        """Read the text of a condition."""
        found = CONDITION.fullmatch(text.strip()) if len(text) <= MAX_LENGTH else None
        if not found:
            return cls(text)
        try:
            path = json.loads(found["path"], strict=False) if text.strip().startswith('"') else found["path"]
        except ValueError:
            return cls(text)
        if problem := text_problem(path):
            return cls(text, error=problem)
        return cls(text, path, found["op"], (found["value"] or "").strip())

    @classmethod
    def joined(cls, path: str, operator: str, value: str) -> Self:
        """Join a path, an operator and a value, and write them as one text."""
        plain = cls.of(f"{path} {operator} {value.strip()}".strip())
        if (plain.path, plain.operator) == (path, operator):
            return plain
        return cls.of(f"{json.dumps(path, ensure_ascii=False)} {operator if operator in OPERATORS else '?'} {value}")


@dataclass(frozen=True)
class RunFilter:
    """A filter as it was typed. `match` is its match document, which only `filters.translate` makes.

    If the filter has an error, `match` matches nothing.
    """

    controls: dict[str, Control]
    conditions: list[Condition]
    match: Mql = field(default_factory=dict)
    is_patient: bool = False

    @classmethod
    def of(cls, query: QueryDict) -> Self:
        """The filter in an address. Problems become the `error` of their control; none raises."""
        controls = {name: Control(query.get(name, "")) for name in (*CONTROLS, "filter")}
        written = [Condition.of(text) for text in query.getlist("where") if text.strip()]
        conditions = [*written, *entered(query)]
        is_patient = query.get("patient") == "1"
        documents = list(documents_of(controls, conditions))
        if any(control.error for control in controls.values()) or any(condition.error for condition in conditions):
            return cls(controls, conditions, NOTHING, is_patient)
        try:
            match = filters.translate({"$and": documents} if documents else {}, FIELDS)
        except filters.FilterError as error:
            # Each document is valid by itself, but together they are too many.
            controls["filter"].error = error.problem
            return cls(controls, conditions, NOTHING, is_patient)
        return cls(controls, conditions, match, is_patient)

    @property
    def errors(self) -> list[str]:
        """The errors, each with the label of its control."""
        labelled: list[tuple[str, Control | Condition]] = [
            *((control.label, self.controls[name]) for name, control in CONTROLS.items()),
            ("JSON filter", self.controls["filter"]),
            *((f"Filter {number}", condition) for number, condition in enumerate(self.conditions, 1)),
        ]
        return [f"{label}: {control.error}" for label, control in labelled if control.error]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The query parameters of this filter, for links and hidden controls."""
        named = [(name, control.value) for name, control in self.controls.items() if control.value.strip()]
        patience = [("patient", "1")] if self.is_patient else []
        return [*named, *(("where", condition.text) for condition in self.conditions), *patience]

    @property
    def query(self) -> str:
        return urlencode(self.pairs)

    def bounded_time(self) -> AbstractContextManager[None]:
        """Limit the time of queries for these runs. Raises `ValidationError` on a timeout.

        Parameters have no index: to find a few runs by a rare value, MongoDB reads all runs.
        """
        if self.is_patient:
            return bounded_time(ADVICE)
        return bounded_time(f"{ADVICE}, or choose “{PATIENCE}” in the filter", SOON)

    @property
    def patience(self) -> str:
        """The label of the control that allows more time."""
        return f"{PATIENCE} (up to {search_time_limit():g} s)"

    @property
    def words(self) -> list[str]:
        """The filter in words: one text for each query parameter."""
        return [words_of(*pair) for pair in self.pairs]

    @property
    def operators(self) -> dict[str, str]:
        """The operators of conditions, with their words for people."""
        return OPERATORS

    @property
    def rows(self) -> list[Condition]:
        """The conditions, and an empty one to add."""
        return [*self.conditions, Condition()]

    @property
    def named(self) -> list[tuple[FilterControl, Control]]:
        """The controls that compare one field, in the order of the form, each with its text."""
        return [(control, self.controls[name]) for name, control in CONTROLS.items()]


def words_of(name: str, value: str) -> str:
    """Describe a query parameter of a filter to people."""
    match name:
        case "where":
            return words_of_condition(value)
        case "filter":
            return value
        case "patient":
            return PATIENCE
        case _:
            control = CONTROLS[name]
            return f"{control.label}: {dict(control.choices).get(value, value)}"


def words_of_condition(text: str) -> str:
    """A condition with the words of its operator, or the text itself if it is not a condition."""
    condition = Condition.of(text)
    path, operator, value = condition.path, condition.operator, condition.value
    if not operator:
        return text
    if operator == "exists" and value in ("", *TRUTHS):
        return f"{path} is not set" if value == "false" else f"{path} is set"
    return f"{path} {OPERATORS[operator]} {value}"


def entered(query: QueryDict) -> list[Condition]:
    """The conditions in the controls `path`, `op` and `value`. Empty ones are left out."""
    names = ("path", "op", "value")
    rows = zip_longest(*map(query.getlist, names))
    parts = [(path or "", operator or "eq", value or "") for path, operator, value in rows]
    return [Condition.joined(*each) for each in parts if each[0].strip() or each[2].strip()]


def documents_of(controls: dict[str, Control], conditions: list[Condition]) -> Iterator[Any]:
    """The filters of the valid controls, in the API's language. Invalid controls get their `error`."""
    for name, control in controls.items():
        if control.value.strip():
            meaning = expert_filter if name == "filter" else comparison(name)
            yield from accepted(control, meaning, control.value)
    for number, condition in enumerate(conditions):
        if number == MAX_CONDITIONS:
            condition.error = f"At most {MAX_CONDITIONS} filters can be added. Write the others as JSON."
            return
        yield from accepted(condition, document_of, condition)


def accepted(control: Control | Condition, meaning: Callable[[Any], Any], typed: Any) -> Iterator[Any]:
    """Yield the control's filter if it is valid; otherwise set the control's error."""
    try:
        document = meaning(typed)
        filters.translate(document, FIELDS)
    except Refused as refusal:
        control.error = str(refusal)
    except filters.FilterError as error:
        control.error = error.problem if meaning is not expert_filter or not error.path else str(error)
    else:
        yield document


def comparison(name: str) -> Meaning:
    """The meaning of a control that compares one field."""
    control = CONTROLS[name]
    choices = dict(control.choices)

    def meaning(text: str) -> Any:
        if choices and text not in choices:
            raise Refused(f"Choose one of: {', '.join(choices.values())}.")
        if control.operator == "$eq":
            return {control.field: {"$eq": storable(text)}}
        return {control.field: {control.operator: comparable(text.strip(), FIELDS[control.field])}}

    return meaning


def expert_filter(text: str) -> Any:
    """Parse a JSON filter. Raises `Refused`."""
    if len(text) > MAX_FILTER:
        raise Refused(f"The filter is too long: at most {MAX_FILTER:,} characters are allowed.")
    try:
        return parsed_text(text)
    except ValidationError as error:
        _, sentence = next(sentences(error.detail))
        raise Refused(sentence) from error


def document_of(condition: Condition) -> Any:
    """The filter for a condition. Raises `Refused`."""
    if len(condition.text) > MAX_LENGTH:
        raise Refused(f"At most {MAX_LENGTH:,} characters are allowed.")
    if not condition.operator:
        raise Refused(condition.error or INCOMPLETE)
    if not condition.path:
        raise Refused("Enter a field, such as parameters.p_value.")
    path, operator, value = (
        NAMES.get(condition.path.strip().lower(), condition.path),
        condition.operator,
        condition.value,
    )
    known = FIELDS.get(path.partition(".")[0])
    if known is None:
        raise Refused(unknown_field(path))
    if operator == "exists":
        is_there = existence(value)
        # A field without a value is null or not stored, which equals null.
        return {path: {"$exists": is_there} if isinstance(known, JSONField) else {"$ne" if is_there else "$eq": None}}
    if not value:
        raise Refused('Write a value to compare with; "" is the empty text.')
    if operator == "contains":
        if "$regex" not in known.operators or path in OBJECTS:
            raise Refused(f"“{OPERATORS[operator]}” searches texts only. Choose another comparison.")
        return {path: {"$regex": re.escape(storable(unquoted(value))), "$options": "i"}}
    if f"${operator}" not in known.operators:
        raise Refused(f"{path} has no order. Choose “is” or “is not”.")
    return {path: {f"${operator}": whole_object(value, path) if path in OBJECTS else comparable(value, known)}}


def unknown_field(path: str) -> str:
    stripped = path.strip()
    if stripped != path and stripped.partition(".")[0] in FIELDS:
        return "The field begins or ends with a space. Remove it."
    advice = f"Unknown field. For a parameter write {ROOT}.{paths.join([path]) if path.startswith('$') else path}."
    if "." in path.strip("."):
        advice += f" If the dot belongs to the name, write {paths.join([ROOT, path])}."
    return advice


def comparable(text: str, known: Field) -> Any:
    """The value to compare a field with. Raises `Refused`."""
    if isinstance(known, JSONField | BooleanField | NumberField | ComputedField):
        return typed(text)
    if isinstance(known, TimeField):
        try:
            parse_time(unquoted(text))
        except ValueError:
            raise Refused(NO_TIME) from None
    return storable(unquoted(text))


def whole_object(text: str, path: str) -> Any:
    """The object to compare a field of objects with. Raises `Refused`."""
    if text.startswith("{"):
        return expert_filter(text)
    name, value = OBJECTS[path]
    example = json.dumps({name: value})
    raise Refused(f"Compare {path} with its values in braces, such as {example}, or choose {path}.{name}.")


def existence(text: str) -> bool:
    if text and text not in TRUTHS:
        raise Refused("“is set” takes true, false or nothing.")
    return TRUTHS.get(text, True)


def typed(text: str) -> Any:
    """Read a typed value: true or false, a number, or else a text."""
    if text in TRUTHS:
        return TRUTHS[text]
    if number := NUMBER.fullmatch(text):
        is_whole = number["fraction"] is None and number["power"] is None and "." not in text
        return storable(bounded_int(text) if is_whole else float(text))
    return storable(unquoted(text))


def unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def storable(value: Any) -> Any:
    """Return a value that MongoDB can store. Raises `Refused` for any other."""
    if problem := scalar_problem(value):
        raise Refused(problem)
    return value
