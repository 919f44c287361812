"""Suggestions for the filter form: the values that the runs of the experiment have."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from django.utils.functional import cached_property

from core.cache import Cached
from core.filters.paths import MAX_PATH, is_path, join
from core.mongodb.documents import find_one
from core.mongodb.match import Mql
from drifts.display import FILTER_CONTROLS, TABLE_CHOICES
from drifts.models import Drift
from drifts.parameters import leaves
from experiments.models import Experiment
from pages.parameters import kind_of

MAX_VALUES = 50
# The number of newest runs to read, and the most bytes of one. Of larger runs, the parameters at the top are read, and
# only of the newest `MAX_LARGE`: MongoDB takes up to 30 ms for each.
NEWEST = 200
MAX_BYTES = 20_000
MAX_LARGE = 5
MAX_TOP = 1_000
MAX_PATHS = 100
SUGGESTED = tuple(control for control in FILTER_CONTROLS if control.is_suggested)


Names = tuple[str, ...]


@dataclass(frozen=True)
class Suggestions:
    """The sorted values for each control of the filter form, and the kinds of values of each parameter.

    The parameters with the fewest names in their path come first. `fields` has the labels of the fields that may be
    columns and have a value. `large` is the number of runs that were not read as a whole.
    """

    values: dict[str, list[str]]
    fields: dict[str, str]
    kinds: dict[Names, str]
    runs: int
    large: int

    @classmethod
    def of(cls, experiment: Experiment) -> "Suggestions":
        """The suggestions from the runs of an experiment. They are cached, because they take most of a page's time."""
        return SUGGESTIONS.get(experiment.pk, lambda: cls.read(experiment))

    @classmethod
    def read(cls, experiment: Experiment) -> Self:
        """Read the suggestions from the runs of an experiment."""
        newest = newest_of(experiment)
        values = {
            control.name: stored(experiment, control.field, control.index)
            if control.index
            else sorted({value for run in newest if (value := run.get(control.field))})[:MAX_VALUES]
            for control in SUGGESTED
        }
        fields = {name: field.label for name, field in TABLE_CHOICES.items() if any(run["has"][name] for run in newest)}
        whole = [run["parameters"] for run in newest if "parameters" in run]
        large = [run["_id"] for run in newest if "parameters" not in run]
        kinds = kinds_of([*whole, *tops_of(experiment, large[:MAX_LARGE])])
        return cls(values, fields, kinds, len(newest), len(large))

    @cached_property
    def paths(self) -> dict[str, str]:
        """The kinds of values at the first `MAX_PATHS` paths."""
        return first_paths(self.kinds)

    @cached_property
    def numbers(self) -> list[str]:
        """The first `MAX_PATHS` paths that hold a number in one of the runs."""
        return list(first_paths(self.kinds_of_numbers))

    @cached_property
    def kinds_of_numbers(self) -> dict[Names, str]:
        return {names: kinds for names, kinds in self.kinds.items() if "number" in kinds}

    @property
    def left_out(self) -> str:
        """Sentences about the parameters and runs that are missing in `paths`; empty if none is."""
        return " ".join([*self._left_out("parameters", len(self.paths), len(self.kinds)), *self._unread()])

    @property
    def left_out_of_numbers(self) -> str:
        """The same about `numbers`."""
        of_numbers = self._left_out("numeric parameters", len(self.numbers), len(self.kinds_of_numbers))
        return " ".join([*of_numbers, *self._unread()])

    def _left_out(self, things: str, shown: int, of: int) -> Iterator[str]:
        if shown < of:
            yield f"Only the {shown} shortest of {of:,} {things} are suggested."

    def _unread(self) -> Iterator[str]:
        if self.runs == NEWEST:
            yield f"Suggestions come from the newest {NEWEST} runs."
        if self.large:
            runs = "1 run" if self.large == 1 else f"{self.large} runs"
            newest = f" of the newest {MAX_LARGE}" if self.large > MAX_LARGE else ""
            yield f"Of {runs} above {MAX_BYTES // 1_000} kB, only top-level parameters{newest} are suggested."


def encoded(suggestions: Suggestions) -> list[Any]:
    kinds = list(suggestions.kinds.items())
    return [suggestions.values, suggestions.fields, kinds, suggestions.runs, suggestions.large]


def decoded(content: list[Any]) -> Suggestions:
    values, fields, kinds, runs, large = content
    return Suggestions(values, fields, {tuple(names): kind for names, kind in kinds}, runs, large)


# The suggestions of an experiment. In a cache of the process, they miss what other processes stored within seconds.
SUGGESTIONS = Cached("suggestions", encoded, decoded, late_seconds=10)


def stored(experiment: Experiment, column: str, index: str) -> list[str]:
    """The distinct texts of a column, at most the last `MAX_VALUES`, read by a loose scan of an index.

    Each query seeks the next distinct text and reads one key, however many runs have the same text. MongoDB does
    the same for `distinct`, but not for arrays, and without a limit.
    """
    found: list[str] = []
    condition = {"$gt": ""}
    while len(found) < MAX_VALUES:
        match = {"experiment_id": experiment.pk.hex, column: condition}
        # Read only the index key. For an array, its value is the one element that matched.
        key = find_one(Drift, match, hint=index, return_key=True)
        if key is None:
            break
        found.append(key[column])
        condition = {"$gt": "", "$lt": key[column]}
    return found[::-1]


def newest_of(experiment: Experiment) -> list[dict[str, Any]]:
    """The newest runs, and which of the fields each has. Those of more than `MAX_BYTES` have no `parameters`."""
    is_small: Mql = {"$lte": [{"$bsonSize": "$$ROOT"}, MAX_BYTES]}
    fields: Mql = {control.field: 1 for control in SUGGESTED if not control.index}
    parameters: Mql = {"$cond": [is_small, "$parameters", "$$REMOVE"]}
    has: Mql = {name: {"$gt": [f"${name}", None]} for name in TABLE_CHOICES}
    shape: Mql = {"$project": {"observed_at": 1, "parameters": parameters, "has": has, **fields}}
    return Drift.objects.of(experiment).newest(NEWEST, shape)


def tops_of(experiment: Experiment, ids: list[str]) -> list[dict[str, Any]]:
    """The parameters at the top of these runs, without lists and objects. Texts are empty."""
    if not ids:
        return []
    part_type: Mql = {"$type": "$$this.v"}
    is_short: Mql = {"$lte": [{"$strLenBytes": "$$this.k"}, MAX_PATH]}
    is_top: Mql = {"$and": [is_short, {"$not": [{"$in": [part_type, ["object", "array"]]}]}]}
    tops: Mql = {"$filter": {"input": {"$objectToArray": "$parameters"}, "cond": is_top, "limit": MAX_TOP}}
    value: Mql = {"$cond": [{"$eq": [part_type, "string"]}, "", "$$this.v"]}
    pairs: Mql = {"$map": {"input": tops, "in": {"name": "$$this.k", "value": value}}}
    runs = Drift.objects.of(experiment).matching({"_id": {"$in": ids}}).aggregated({"$project": {"tops": pairs}})
    return [{pair["name"]: pair["value"] for pair in run["tops"]} for run in runs]


def kinds_of(several: list[dict[str, Any]]) -> dict[Names, str]:
    """The kinds of values of each parameter that a path can name, the fewest names and then the alphabet first."""
    kinds: dict[Names, set[str]] = defaultdict(set)
    for parameters in several:
        for names, value in leaves(parameters):
            if len(names) > 1 and is_path(join(names)):
                kinds[names].add(kind_of(value))
    ordered = sorted(kinds, key=lambda names: (len(names), names))
    return {names: ", ".join(sorted(kinds[names])) for names in ordered}


def first_paths(kinds: dict[Names, str]) -> dict[str, str]:
    """The kinds of values at each of the first paths."""
    return {join(names): found for names, found in islice(kinds.items(), MAX_PATHS)}
