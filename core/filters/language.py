"""Translation of filters to MongoDB match documents."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from core.filters import paths
from core.filters.expressions import condition
from core.filters.fields import (
    ALL_OPERATORS,
    ComputedField,
    ExpressionField,
    Field,
    FilterError,
    JSONField,
    ObjectListField,
    SortedObjectField,
    StringField,
    StringListField,
)
from core.mongodb.match import Mql

MAX_DEPTH = 10
MAX_CLAUSES = 100
MAX_LIST = 1_000
MAX_PATTERN = 200
MAX_PATTERNS = 10
# No stored value is nested deeper (`MAX_DEPTH` in core/api/json_input.py), and MongoDB refuses much deeper expressions.
MAX_NAMES = 50
LOGICAL = ("$and", "$or", "$nor")
BSON_TYPES = frozenset(
    "double string object array binData objectId bool date null regex int timestamp long decimal number".split()
)


def translate(document: Any, fields: Mapping[str, Field]) -> Mql:
    """Translate a filter, given as parsed JSON, to a match document.

    Raises `FilterError` for anything outside the grammar of this package. The result holds only operators of
    the grammar, on columns of `fields`.
    """
    return Translation().filter(document, fields, "", 0)


class Translation:
    """The translation of one filter. Counts its clauses and regular expressions."""

    def __init__(self) -> None:
        self.clauses = 0
        self.patterns = 0

    def filter(self, document: Any, fields: Mapping[str, Field] | None, path: str, depth: int) -> Mql:
        """Translate a filter. `fields` is None inside a JSON value, where any name is allowed."""
        if not isinstance(document, dict):
            raise FilterError(path, "A filter is a JSON object.")
        if depth > MAX_DEPTH:
            raise FilterError(path, f"Nested deeper than {MAX_DEPTH} levels.")
        parts = [self.member(name, value, fields, join(path, name), depth) for name, value in document.items()]
        return parts[0] if len(parts) == 1 else {"$and": parts} if parts else {}

    def member(self, name: str, value: Any, fields: Mapping[str, Field] | None, path: str, depth: int) -> Mql:
        self.count(path)
        if name in LOGICAL:
            if not isinstance(value, list) or not value:
                raise FilterError(path, f"{name} takes a list of at least one filter.")
            return {name: [self.filter(item, fields, join(path, i), depth + 1) for i, item in enumerate(value)]}
        if name.startswith("$"):
            raise FilterError(path, f"{name} is not allowed. Allowed here: {', '.join(LOGICAL)} and names of fields.")
        field, guard = find(name, fields, path)
        conditions = self.conditions(value, field, path, depth)
        if isinstance(field, ComputedField):
            return {"$and": [computed(operator, operand, field) for operator, operand in conditions.items()]}
        if isinstance(field, ExpressionField):
            return condition(field.expression, conditions)
        leaf = {field.column: conditions}
        return {"$and": [guard, leaf]} if guard else leaf

    def conditions(self, value: Any, field: Field, path: str, depth: int) -> Mql:
        """Translate the conditions on a field. A plain value means equality."""
        if not is_operators(value):
            return {"$eq": self.value(value, field, path)}
        if "$options" in value and "$regex" not in value:
            raise FilterError(join(path, "$options"), "$options goes with $regex.")
        return {name: self.operand(name, value[name], field, join(path, name), depth) for name in value}

    def operand(self, operator: str, operand: Any, field: Field, path: str, depth: int) -> Any:
        self.count(path)
        if operator not in field.operators:
            names = ", ".join(sorted(field.operators))
            where = "for a name with a dot or a $" if isinstance(field, ExpressionField) else "on this field"
            raise FilterError(path, f"{operator} is not allowed here. Allowed {where}: {names}.")
        match operator:
            case "$in" | "$nin":
                return self.values(operand, field, path)
            case "$all":
                # Unlike the values of $in, each value of $all costs a search through the array.
                values = self.values(operand, field, path)
                self.count(path, len(values))
                return values
            case "$not":
                if not is_operators(operand):
                    raise FilterError(path, "$not takes operators, such as {'$gt': 1}.")
                return self.conditions(operand, field, path, self.deeper(depth, path))
            case "$elemMatch":
                return self.element(operand, field, path, self.deeper(depth, path))
            case "$exists" | "$size" | "$type" | "$mod" | "$regex" | "$options":
                if not OPERANDS[operator][0](operand):
                    raise FilterError(path, f"{operator} takes {OPERANDS[operator][1]}.")
                return self.pattern(operand, field, path) if operator == "$regex" else operand
        return self.value(operand, field, path)

    def pattern(self, pattern: str, field: Field, path: str) -> str:
        self.patterns += 1
        if self.patterns > MAX_PATTERNS:
            raise FilterError(path, f"A filter has at most {MAX_PATTERNS} regular expressions. Join them with |.")
        return field.pattern(pattern)

    def element(self, operand: Any, field: Field, path: str, depth: int) -> Mql:
        """Translate the operand of $elemMatch: operators for plain elements, a filter for objects."""
        if not isinstance(operand, dict) or not operand:
            raise FilterError(path, "$elemMatch takes operators or a filter.")
        if isinstance(field, ObjectListField):
            return self.filter(operand, field.fields, path, depth)
        if is_operators(operand) and not any(name in LOGICAL for name in operand):
            element: Field = StringField(field.column) if isinstance(field, StringListField) else field
            return self.conditions(operand, element, path, depth)
        if isinstance(field, JSONField):
            return self.filter(operand, None, path, depth)
        raise FilterError(path, "$elemMatch takes operators here: the elements are strings.")

    def values(self, operand: Any, field: Field, path: str) -> list[Any]:
        if not isinstance(operand, list) or len(operand) > MAX_LIST:
            raise FilterError(path, f"Takes a list of at most {MAX_LIST} values.")
        return [self.value(item, field, join(path, index)) for index, item in enumerate(operand)]

    def value(self, value: Any, field: Field, path: str) -> Any:
        try:
            return field.value(value)
        except ValueError as error:
            raise FilterError(path, str(error)) from error

    def count(self, path: str, clauses: int = 1) -> None:
        self.clauses += clauses
        if self.clauses > MAX_CLAUSES:
            raise FilterError(path, f"A filter has at most {MAX_CLAUSES} clauses.")

    def deeper(self, depth: int, path: str) -> int:
        if depth >= MAX_DEPTH:
            raise FilterError(path, f"Nested deeper than {MAX_DEPTH} levels.")
        return depth + 1


def find(name: str, fields: Mapping[str, Field] | None, path: str) -> tuple[Field, Mql]:
    """Return the field of this name or path, and the guard to add to conditions on it."""
    root, dot, below = name.partition(".")
    if fields is None:
        return JSONField(column_inside(name, path)), {}
    field = fields.get(root)
    match field:
        case None:
            raise FilterError(path, f"Unknown field. Fields: {', '.join(fields)}.")
        case ObjectListField() if below in field.fields:
            part = field.fields[below]
            return replace(part, column=f"{field.column}.{part.column}"), field.guard
        case ObjectListField() if not dot:
            return field, field.guard
        case JSONField():
            _, *names = names_in(name, path)
            if isinstance(field, SortedObjectField) and len(names) > 1:
                advised = paths.join([root, paths.join(names)])
                raise FilterError(path, f"A name in {root} is one name. Write {advised}.")
            return value_inside(field, tuple(names), path), {}
        case _ if dot:
            raise FilterError(path, f"{root} has no such part.")
    return field, {}


def names_in(name: str, path: str) -> tuple[str, ...]:
    try:
        return paths.split(name)
    except ValueError as error:
        raise FilterError(path, str(error)) from error


def value_inside(field: JSONField, names: tuple[str, ...], path: str) -> JSONField:
    if all(map(paths.is_plain, names)):
        return replace(field, column=".".join((field.column, *names)))
    if len(names) > MAX_NAMES:
        raise FilterError(path, f"No value is nested deeper than {MAX_NAMES} levels.")
    return ExpressionField(field.column, names)


def column_inside(name: str, path: str) -> str:
    """Return the dotted path of a value inside the elements of a list."""
    names = names_in(name, path)
    if not all(map(paths.is_plain, names)):
        raise FilterError(
            path,
            "A name that has a dot or begins with $ is not allowed inside $elemMatch. "
            "Name the element instead, such as parameters.tests.0.p\\.value.",
        )
    return ".".join(names)


def computed(operator: str, operand: Any, field: ComputedField) -> Mql:
    chosen = [field.values[value] for value in (operand if isinstance(operand, list) else [operand])]
    if operator in ("$eq", "$in"):
        return {"$or": chosen} if chosen else {"$nor": [{}]}
    return {"$nor": chosen} if chosen else {}


def is_operators(value: Any) -> bool:
    """Return whether a value is an object of operators only. Mixed objects are refused as values with a `$` key."""
    return isinstance(value, dict) and bool(value) and all(key.startswith("$") for key in value)


def join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Operators whose operand is not a value of the field: the test of the operand, and its description.
OPERANDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "$exists": (lambda value: isinstance(value, bool), "true or false"),
    "$size": (lambda value: is_whole(value) and 0 <= value < 2**31, "a number of elements"),
    "$type": (
        lambda value: (
            all(
                isinstance(item, str) and item in BSON_TYPES for item in (value if isinstance(value, list) else [value])
            )
            and value != []
        ),
        f"one or a list of: {', '.join(sorted(BSON_TYPES))}",
    ),
    "$mod": (
        lambda value: isinstance(value, list) and len(value) == 2 and all(map(is_whole, value)) and value[0] != 0,
        "[divisor, remainder], two whole numbers, the divisor not 0",
    ),
    "$regex": (
        lambda value: isinstance(value, str) and 0 < len(value) <= MAX_PATTERN,
        f"a regular expression of at most {MAX_PATTERN} characters",
    ),
    "$options": (
        lambda value: isinstance(value, str) and set(value) <= set("imsx") and len(set(value)) == len(value),
        "a string of the letters i, m, s and x, each at most once",
    ),
}
assert OPERANDS.keys() < ALL_OPERATORS
