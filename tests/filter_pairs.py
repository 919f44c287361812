"""Pairs of a filter and the MongoDB query that it must mean, and runs that tell such filters apart.

The queries are written by hand, with knowledge of how the fields are stored.
"""

import datetime
import random
import uuid
from typing import Any, TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from core.mongodb.match import Mql
from drifts.models import Drift

LOGICAL = ("$and", "$or", "$nor")
COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")

reproducible = settings(
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Pair: TypeAlias = tuple[Mql, Mql]

TEXTS = ["", "a", "b", "forest", "Forest"]
STATUSES = ["Running", "Completed", "Failed"]
TAGS = ["nightly", "a", "b"]
JSON_VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, -3, 0.5, 1.0, "", "a", "Ab"),
    *([], [1], [1, "a"], [[1]], [0, 1, 2], [{"b": 1}, {"b": 2}], [{"b": [1]}, 1]),
    *({}, {"b": 1}, {"b": {"c": 1}}, {"b": [1, 2]}, {"b": None}),
]
PATHS = ["parameters.a", "parameters.a.b", "parameters.a.b.c", "parameters.a.0", "parameters.a.0.b", "parameters.c"]
TIMES = [
    ("2026-01-01T05:00:00Z", datetime.datetime(2026, 1, 1, 5, tzinfo=datetime.UTC)),
    ("2026-01-01T05:00:00+02:00", datetime.datetime(2026, 1, 1, 3, tzinfo=datetime.UTC)),
    ("2026-01-02", datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)),
]
VERDICTS: dict[str, Mql] = {
    "drift": {"job_status": "Completed", "drift_detected": True},
    "no_drift": {"job_status": "Completed", "drift_detected": False},
    "unknown": {"job_status": {"$in": ["Running", "Failed"]}},
}
IDS = [uuid.uuid5(uuid.NAMESPACE_URL, str(number)) for number in range(100)]
NOTHING: Mql = {"_id": {"$exists": False}}


def random_runs(chance: random.Random, count: int, experiments: list[uuid.UUID]) -> list[Drift]:
    """Runs with random values from the lists above. `IDS` limits their number."""
    return [
        Drift(
            id=key,
            experiment_id=chance.choice(experiments),
            job_status=chance.choice(STATUSES),
            model=chance.choice(TEXTS),
            drift_detected=chance.choice([True, False]),
            tags=chance.sample(TAGS, chance.randrange(4)),
            parameters={name: chance.choice(JSON_VALUES) for name in "aabc" if chance.randrange(3)},
            created_at=datetime.datetime(2026, 1, 1, chance.randrange(24), tzinfo=datetime.UTC),
        )
        for key in chance.sample(IDS, count)
    ]


def operator(name: str, operands: st.SearchStrategy[Any]) -> st.SearchStrategy[Mql]:
    return st.fixed_dictionaries({name: operands})


def merged(parts: st.SearchStrategy[Mql]) -> st.SearchStrategy[Mql]:
    """Merge two objects into one, or give one of them."""
    return st.lists(parts, min_size=1, max_size=2).map(lambda some: {k: v for part in some for k, v in part.items()})


def comparisons(values: list[Any]) -> st.SearchStrategy[Mql]:
    value, several = st.sampled_from(values), st.lists(st.sampled_from(values), max_size=3)
    return st.one_of(
        *(operator(name, value) for name in COMPARISONS),
        *(operator(name, several) for name in ("$in", "$nin")),
        operator("$exists", st.booleans()),
        operator("$type", st.sampled_from(["string", "number", "int", "bool", "null", "object", ["array", "double"]])),
    )


def perhaps_negated(conditions: st.SearchStrategy[Mql]) -> st.SearchStrategy[Mql]:
    return merged(conditions | operator("$not", merged(conditions)))


PATTERNS = st.fixed_dictionaries(
    {"$regex": st.sampled_from(["a", "^f", "T$", "^$", "."])}, optional={"$options": st.sampled_from(["", "i"])}
)
TEXT_CONDITIONS = comparisons([*TEXTS, None]) | PATTERNS
TAG_CONDITIONS = (
    comparisons([*TAGS, [], ["a"], ["a", "b"], None])
    | operator("$all", st.lists(st.sampled_from(TAGS), max_size=3))
    | operator("$size", st.integers(0, 3))
    | operator("$elemMatch", perhaps_negated(comparisons(TAGS) | PATTERNS))
    | PATTERNS
)
FREE_CONDITIONS = (
    comparisons(JSON_VALUES)
    | operator("$all", st.lists(st.sampled_from(JSON_VALUES), max_size=3))
    | operator("$size", st.integers(0, 3))
    | operator("$mod", st.sampled_from([[2, 0], [2, 1], [-3, 0], [1, 0]]))
    | PATTERNS
)
ELEMENTS = operator("$elemMatch", perhaps_negated(FREE_CONDITIONS)) | operator(
    "$elemMatch",
    st.dictionaries(st.sampled_from(["b", "b.c", "0"]), perhaps_negated(FREE_CONDITIONS), min_size=1, max_size=2),
)
VALUES_OR_CONDITIONS = {
    "model": st.sampled_from(TEXTS) | perhaps_negated(TEXT_CONDITIONS),
    "job_status": st.sampled_from(STATUSES) | perhaps_negated(comparisons(STATUSES)),
    "drift_detected": st.booleans() | perhaps_negated(comparisons([True, False, None])),
    "tags": st.sampled_from([*TAGS, ["a", "b"]]) | perhaps_negated(TAG_CONDITIONS),
    **{path: st.sampled_from(JSON_VALUES) | perhaps_negated(FREE_CONDITIONS | ELEMENTS) for path in PATHS},
}


@st.composite
def the_same(draw: st.DrawFn) -> Pair:
    """A filter of stored fields, which is already a MongoDB query."""
    fields = (operator(name, values) for name, values in VALUES_OR_CONDITIONS.items())
    document = draw(merged(st.one_of(*fields)))
    return document, document


def compared(name: str, column: str, values: list[tuple[str, Any]]) -> st.SearchStrategy[Pair]:
    """Comparisons of a field whose values have one form in a filter and another in the database."""
    return st.builds(
        lambda comparison, value: ({name: {comparison: value[0]}}, {column: {comparison: value[1]}}),
        st.sampled_from(COMPARISONS),
        st.sampled_from(values),
    )


@st.composite
def verdicts(draw: st.DrawFn) -> Pair:
    name = draw(st.sampled_from(sorted(VERDICTS)))
    several = draw(st.lists(st.sampled_from(sorted(VERDICTS)), max_size=3))
    alternatives = [NOTHING, *(VERDICTS[other] for other in several)]
    choices: list[Pair] = [
        ({"verdict": name}, VERDICTS[name]),
        ({"verdict": {"$ne": name}}, {"$nor": [VERDICTS[name]]}),
        ({"verdict": {"$in": several}}, {"$or": alternatives}),
        ({"verdict": {"$nin": several}}, {"$nor": alternatives}),
    ]
    return draw(st.sampled_from(choices))


def pairs() -> st.SearchStrategy[Pair]:
    def combined(logical: str, parts: list[Pair]) -> Pair:
        return {logical: [document for document, _ in parts]}, {logical: [plain for _, plain in parts]}

    leaves = (
        the_same()
        | compared("id", "_id", [(str(key), key.hex) for key in IDS[:9]])
        | compared("created_at", "created_at", TIMES)
        | verdicts()
    )
    return st.recursive(
        leaves,
        lambda inner: st.builds(combined, st.sampled_from(LOGICAL), st.lists(inner, min_size=1, max_size=3)),
        max_leaves=5,
    )
