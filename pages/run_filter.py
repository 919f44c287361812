"""Which runs a page shows: a filter that a person writes into a form, and that stands in the page's address.

    status, model, since, …            the name of a control: its field is compared with this value
    where=<path> <operator> <value>    a condition; any number of them
    path op value                      one more condition, of the form's controls for it
    filter                             a JSON filter of the API, for what is left
    patient=1                          look for as long as a search of the API may

Operators are `eq ne lt lte gt gte exists contains`. What is compared with a parameter is typed as a person means
it: a number, true or false, or else text; in double quotes it is text in any case. `exists` takes true, false or
nothing; `contains` looks for a part of a text, in upper and lower case alike.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

from django.http import QueryDict
from rest_framework.exceptions import APIException

from core import filters
from core.api.errors import sentences
from core.api.json_input import bounded_int, parsed, refuse_unstorable, scalar_problem
from core.api.search import bounded_time
from core.filters.fields import BooleanField, JSONField
from core.mongodb.match import Mql
from drifts.display import FILTER_CONTROLS, FilterControl
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
CONDITION = re.compile(rf"(?P<path>\S|\S.*?\S)\s+(?P<op>{'|'.join(OPERATORS)})(?:\s+(?P<value>.*))?", re.DOTALL)
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?P<fraction>\.[0-9]*)?|\.[0-9]+)(?P<power>[eE][+-]?[0-9]+)?")
TRUTHS = {"true": True, "false": False}
MAX_CONDITIONS = 20
MAX_LENGTH = 1_000
MAX_FILTER = 4_000
# Seconds: a page is there within one, unless its reader is patient.
SOON = 0.6
PATIENCE = "Search longer"
ADVICE = "choose a model, a status or a shorter period"


NOTHING: Mql = {"_id": {"$exists": False}}
# What a text in a control means in the API's language. Raises `Refused`.
Meaning = Callable[[str], Any]


class Refused(Exception):
    """Something that was typed means nothing here; the message says why, and what to type."""


@dataclass
class Control:
    """What was typed into one control of the form, and what is wrong with it."""

    value: str = ""
    error: str = ""


@dataclass(frozen=True)
class RunFilter:
    """A filter as it was typed. `match` is what it means, and only `filters.translate` makes it.

    With an error in it there is no meaning, and `match` matches nothing.
    """

    controls: dict[str, Control]
    conditions: list[Control]
    match: Mql = field(default_factory=dict)
    is_patient: bool = False

    @classmethod
    def of(cls, query: QueryDict) -> Self:
        """The filter in an address. Nothing in it raises: what is wrong is the `error` of its control."""
        controls = {name: Control(query.get(name, "")) for name in (*CONTROLS, "filter")}
        written = [text for text in query.getlist("where") if text.strip()]
        conditions = [Control(text) for text in [*written, *added(query)]]
        is_patient = query.get("patient") == "1"
        documents = list(documents_of(controls, conditions))
        if any(control.error for control in [*controls.values(), *conditions]):
            return cls(controls, conditions, NOTHING, is_patient)
        try:
            match = filters.translate({"$and": documents} if documents else {}, FIELDS)
        except filters.FilterError as error:
            # Each of them is a filter by itself: together they are too many.
            controls["filter"].error = error.problem
            return cls(controls, conditions, NOTHING, is_patient)
        return cls(controls, conditions, match, is_patient)

    @property
    def errors(self) -> list[str]:
        return [control.error for control in [*self.controls.values(), *self.conditions] if control.error]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The query parameters that say the same, for links and for hidden controls."""
        named = [(name, control.value) for name, control in self.controls.items() if control.value.strip()]
        patience = [("patient", "1")] if self.is_patient else []
        return [*named, *(("where", control.value) for control in self.conditions), *patience]

    @property
    def query(self) -> str:
        return urlencode(self.pairs)

    def bounded_time(self) -> AbstractContextManager[None]:
        """The time limit for what looks for these runs. Inside, `ValidationError` says when it is over.

        Parameters have no index: to find the few runs that have a rare one, MongoDB looks at all runs.
        """
        if self.is_patient:
            return bounded_time(ADVICE)
        return bounded_time(f"{ADVICE}, or choose “{PATIENCE}” in the filter", SOON)

    @property
    def patience(self) -> str:
        """What the control for it says."""
        return PATIENCE

    @property
    def operators(self) -> dict[str, str]:
        """What a condition may say, and in which words."""
        return OPERATORS

    @property
    def named(self) -> list[tuple[FilterControl, Control]]:
        """The controls that compare one field, in the order of the form, and what was typed into each."""
        return [(control, self.controls[name]) for name, control in CONTROLS.items()]


def added(query: QueryDict) -> list[str]:
    """The condition of the three controls, written as the others are."""
    path, value = query.get("path", "").strip(), query.get("value", "").strip()
    return [f"{path} {query.get('op', 'eq')} {value}".strip()] if path or value else []


def documents_of(controls: dict[str, Control], conditions: list[Control]) -> Iterator[Any]:
    """What the controls mean in the API's language, each accepted by itself; the others get their `error`."""
    for name, control in controls.items():
        if control.value.strip():
            yield from accepted(control, expert_filter if name == "filter" else comparison(name))
    for number, condition in enumerate(conditions):
        if number == MAX_CONDITIONS:
            condition.error = f"At most {MAX_CONDITIONS} filters can be added. Write the others as JSON."
            return
        yield from accepted(condition, condition_of)


def accepted(control: Control, meaning: Meaning) -> Iterator[Any]:
    try:
        document = meaning(control.value)
        filters.translate(document, FIELDS)
    except Refused as refusal:
        control.error = str(refusal)
    except filters.FilterError as error:
        control.error = error.problem if meaning is not expert_filter or not error.path else str(error)
    else:
        yield document


def comparison(name: str) -> Meaning:
    """The meaning of a control that one field is compared with."""
    control = CONTROLS[name]
    choices = [value for value, _ in control.choices]

    def meaning(text: str) -> Any:
        if choices and text not in choices:
            raise Refused(f"Choose one of: {', '.join(choices)}.")
        return {control.field: {control.operator: storable(text if control.operator == "$eq" else text.strip())}}

    return meaning


def expert_filter(text: str) -> Any:
    if len(text) > MAX_FILTER:
        raise Refused(f"The filter is too long: at most {MAX_FILTER:,} characters are allowed.")
    try:
        document = parsed(text.encode(errors="replace"), "The filter")
        refuse_unstorable(document)
    except APIException as error:
        path, sentence = next(sentences(error.detail))
        raise Refused(f"{path}: {sentence}" if path else sentence) from error
    return document


def condition_of(text: str) -> Any:
    """The meaning of `<path> <operator> <value>`."""
    found = CONDITION.fullmatch(text.strip())
    if len(text) > MAX_LENGTH or not found:
        raise Refused(
            f"Write a field or a path, one of {', '.join(OPERATORS)}, and a value, such as "
            f"parameters.p_value lt 0.05, in at most {MAX_LENGTH:,} characters."
        )
    path, operator, value = storable(found["path"]), found["op"], (found["value"] or "").strip()
    known = FIELDS.get(path.partition(".")[0])
    if known is None:
        raise Refused(f"Unknown field. Did you mean parameters.{path}? Fields: {', '.join(FIELDS)}.")
    if operator == "exists":
        is_there = existence(value)
        # A field is always stored: one that was not given is null.
        return {path: {"$exists": is_there} if isinstance(known, JSONField) else {"$ne" if is_there else "$eq": None}}
    if not value:
        raise Refused('Write a value to compare with; "" is the empty text.')
    if operator == "contains":
        return {path: {"$regex": re.escape(storable(unquoted(value))), "$options": "i"}}
    return {
        path: {
            f"${operator}": typed(value) if isinstance(known, JSONField | BooleanField) else storable(unquoted(value))
        }
    }


def existence(text: str) -> bool:
    if text and text not in TRUTHS:
        raise Refused("“is set” takes true, false or nothing.")
    return TRUTHS.get(text, True)


def typed(text: str) -> Any:
    """What a person means who types this."""
    if text in TRUTHS:
        return TRUTHS[text]
    if number := NUMBER.fullmatch(text):
        is_whole = number["fraction"] is None and number["power"] is None and "." not in text
        return storable(bounded_int(text) if is_whole else float(text))
    return storable(unquoted(text))


def unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def storable(value: Any) -> Any:
    if problem := scalar_problem(value):
        raise Refused(problem)
    return value
