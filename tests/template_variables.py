"""A watch on the templates of this repository: names that a template uses, and that its context does not have.

Django renders such a name as nothing, and takes it as false in `{% if %}`. So a renamed variable can remove a part of a
page unseen. Templates of packages, such as Django's admin, use undefined names on purpose, and are not watched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.conf import settings
from django.template import Context
from django.template.base import Node, Variable, VariableDoesNotExist

# The innermost node that is being rendered: it knows its template and line, also below `{% extends %}`.
rendered: ContextVar[Node | None] = ContextVar("rendered", default=None)


class Invalid(str):
    """Django's result for a variable that it cannot use, such as a method with arguments. Renders as nothing."""


INVALID = Invalid()


@contextmanager
def watched(found: list[str]) -> Iterator[None]:
    """Append each undefined variable to `found`: its template, its line and its name.

    They are recorded, not raised, because `{% if %}` takes an exception as false.
    """
    render_annotated, resolve_variable = Node.render_annotated, Variable.resolve

    def render(node: Node, context: Context) -> Any:
        reset = rendered.set(node)
        try:
            return render_annotated(node, context)
        finally:
            rendered.reset(reset)

    def resolve(variable: Variable, context: Context) -> Any:
        try:
            value = resolve_variable(variable, context)
        except VariableDoesNotExist:
            report(variable)
            raise
        if value is INVALID:
            report(variable)
        return value

    def report(variable: Variable) -> None:
        node = rendered.get()
        if node is not None and node.token is not None and is_own(node.origin.name):
            found.append(f"{node.origin.template_name!s}, line {node.token.lineno}: {variable.var}")

    with patch.object(Node, "render_annotated", render), patch.object(Variable, "resolve", resolve):
        yield


def is_own(template: str) -> bool:
    return Path(template).is_relative_to(settings.BASE_DIR / "templates")
