"""Tests of the watch on templates: a name without a value fails the test that renders it (`undefined_variables`)."""

from contextlib import suppress
from typing import Any

import pytest
from django.conf import settings
from django.template import Origin, RequestContext, Template, VariableDoesNotExist
from django.test import RequestFactory

USES = [
    "{{ missing }}",
    "{{ missing|default:'none' }}",
    "{{ known.missing }}",
    "{{ known.missing.0 }}",
    "{{ known.0.missing }}",
    "{{ nothing.missing }}",
    "{{ known.index }}",  # A method that takes an argument.
    "{{ known|join:missing }}",
    "{{ known|default:missing }}",
    "{% if missing %}{% endif %}",
    "{% if not missing %}{% endif %}",
    "{% if known and missing %}{% endif %}",
    "{% if known|length > missing %}{% endif %}",
    "{% if nothing %}{% elif missing %}{% endif %}",
    "{% for each in missing %}{% endfor %}",
    "{% with name=missing %}{% endwith %}",
    "{% include 'messages.html' with messages=missing %}",
    "{% extends 'page.html' %}{% block content %}{{ missing }}{% endblock %}",
]


@pytest.mark.parametrize("source", USES)
def test_an_undefined_variable_is_found(source: str, undefined_variables: list[str]) -> None:
    with suppress(VariableDoesNotExist, TypeError):
        rendered(source, settings.BASE_DIR / "templates" / "some.html")
    first, *_ = undefined_variables
    assert first.startswith("some.html, line 1: ")
    assert first.endswith(("missing", "missing.0", "known.index"))
    undefined_variables.clear()


def test_the_watch_names_the_line_and_leaves_the_result_as_it_is(undefined_variables: list[str]) -> None:
    source = "{{ known.0 }}\n{% if missing %}never{% else %}always{% endif %}{{ missing }}"
    assert rendered(source, settings.BASE_DIR / "templates" / "some.html") == "a\nalways"
    assert undefined_variables == ["some.html, line 2: missing"] * 2
    undefined_variables.clear()


def test_empty_values_and_optional_keys_are_defined() -> None:
    source = "{% load lookup %}{{ nothing }}{{ empty }}{% if empty %}{% endif %}{{ mapping|item:'missing' }}"
    rendered(source, settings.BASE_DIR / "templates" / "some.html")


def test_templates_of_packages_are_not_watched() -> None:
    assert rendered("{{ missing }}{% if missing %}{% endif %}", "/usr/lib/python3/django/contrib/admin/some.html") == ""


def rendered(source: str, path: Any) -> str:
    values = {"known": ["a"], "nothing": None, "empty": "", "mapping": {"a": 1}}
    template = Template(source, origin=Origin(str(path), "some.html"))
    return template.render(RequestContext(RequestFactory().get("/"), values))
