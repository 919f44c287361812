"""Conditions on a value as aggregation expressions, for names that match documents cannot hold.

They mean the same as the operators of match documents: a condition on an array is true if it is true for the array or
for one of its elements, and values are ordered within their type only. Unlike in match documents, a name in a path does
not search the elements of a list. Every value from a client is inside a `$literal`, and so is every name with a dot or
with a `$` at its start. Other names can be parts of a field path only.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from core.filters import paths
from core.mongodb.match import Mql

LIST_INDEX = re.compile("0|[1-9][0-9]{0,5}")
NUMBERS = ("int", "long", "double", "decimal")
# A missing value is like null to every operator but $exists and $type.
ALTERNATIVES: Mql = {
    "$cond": [{"$isArray": ["$$value"]}, {"$concatArrays": ["$$value", ["$$value"]]}, ["$$value"]],
}
NEVER: Mql = {"$literal": False}


def value_at(column: str, names: Iterable[str]) -> Any:
    """Return the expression of the value at a path below a column. A number is a list index or a name, as in filters.

    It is missing where the path leads nowhere.
    """
    value: Any = f"${column}"
    for name in names:
        if isinstance(value, str):
            value = part_of(value, name)
        else:
            value = {"$let": {"vars": {"value": value}, "in": part_of_one("$$value", name)}}
    return value


def part_of_one(value: str, name: str) -> Any:
    """Return the part of a value that is not searched: a name has no part of a list, which `$value.name` maps over."""
    part = part_of(value, name)
    return {"$cond": [{"$isArray": [value]}, "$$REMOVE", part]} if isinstance(part, str) else part


def part_of(value: str, name: str) -> Any:
    if not paths.is_plain(name):
        # The part of null would be null.
        return {"$getField": {"field": {"$literal": name}, "input": {"$ifNull": [value, "$$REMOVE"]}}}
    named = f"{value}.{name}"
    if LIST_INDEX.fullmatch(name):
        return {"$cond": [{"$isArray": [value]}, {"$arrayElemAt": [value, int(name)]}, named]}
    return named


def condition(value: Any, operators: Mql) -> Mql:
    """Return the match document for a value, given as an expression, and its operators, such as `{"$gt": 1}`."""
    alternatives = {"$let": {"vars": {"alternatives": ALTERNATIVES}, "in": all_of(operators)}}
    return {"$expr": {"$let": {"vars": {"value": value}, "in": alternatives}}}


def all_of(operators: Mql) -> Mql:
    parts = [EXPRESSIONS[name](operand) for name, operand in operators.items() if name in EXPRESSIONS]
    if "$regex" in operators:
        parts.append(has_match(operators["$regex"], operators.get("$options", "")))
    return {"$and": parts}


def is_one_of(values: list[Any]) -> Mql:
    return {"$ne": [{"$setIntersection": ["$$alternatives", {"$literal": values}]}, []]}


def is_ordered(operator: str, operand: Any) -> Mql:
    if operand is None:
        return is_one_of([None]) if operator in ("$gte", "$lte") else NEVER
    return any_is({"$and": [has_type(types_of(operand)), {operator: ["$$item", {"$literal": operand}]}]})


def is_stored(wanted: bool) -> Mql:
    return {"$ne" if wanted else "$eq": [{"$type": "$$value"}, "missing"]}


def is_of_type(types: str | list[str]) -> Mql:
    return {"$and": [is_stored(True), any_is(has_type(types if isinstance(types, list) else [types]))]}


def has_all(values: list[Any]) -> Mql:
    return {"$and": [is_one_of([value]) for value in values]} if values else NEVER


def has_size(size: int) -> Mql:
    return {"$eq": [{"$cond": [{"$isArray": ["$$value"]}, {"$size": "$$value"}, None]}, {"$literal": size}]}


def has_match(pattern: str, options: str) -> Mql:
    matches = {"$regexMatch": {"input": "$$item", "regex": {"$literal": pattern}, "options": options}}
    return any_is({"$cond": [has_type(["string"]), matches, False]})


def negated(expression: Mql) -> Mql:
    return {"$not": [expression]}


def any_is(expression: Mql) -> Mql:
    """Return whether an expression of `$$item` is true for the value or one of its elements."""
    return {"$anyElementTrue": [{"$map": {"input": "$$alternatives", "as": "item", "in": expression}}]}


def has_type(types: Iterable[str]) -> Mql:
    names = [name for each in types for name in (NUMBERS if each == "number" else [each])]
    return {"$in": [{"$type": "$$item"}, names]}


def types_of(value: Any) -> list[str]:
    match value:
        case bool():
            return ["bool"]
        case int() | float():
            return ["number"]
        case str():
            return ["string"]
        case list():
            return ["array"]
    return ["object"]


# The expression for the operand of each operator, apart from $regex, whose $options are an operand of its own.
EXPRESSIONS: dict[str, Callable[[Any], Mql]] = {
    "$eq": lambda value: is_one_of([value]),
    "$ne": lambda value: negated(is_one_of([value])),
    "$in": is_one_of,
    "$nin": lambda values: negated(is_one_of(values)),
    **{operator: partial(is_ordered, operator) for operator in ("$gt", "$gte", "$lt", "$lte")},
    "$exists": is_stored,
    "$type": is_of_type,
    "$all": has_all,
    "$size": has_size,
    "$not": lambda operators: negated(all_of(operators)),
}
