"""Versions of what runs here, the settings in force without secrets, and Django's system checks of them."""

import json
import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import django
from django.conf import settings
from django.core import checks

from driftwatch.doctor.finding import Finding, State
from driftwatch.settings import env

# The names of settings that hold secrets, as a whole.
SECRET = re.compile(r"(SECRET|TOKEN|PASSWORD|KEY|FALLBACKS|HEADERS)$")
# The parts of an address that do: the password of its user, or a user without one, and some options of MongoDB. An
# address that is mistyped may lack its slashes or its scheme.
PASSWORD = re.compile(r"^((?:[\w+.-]+://|mongodb(?:\+srv)?:/?)?)(?:([^:@/]*):)?.*(?=@)", re.DOTALL)
OPTION = re.compile(r"([^?&=]*(?:password|token|secret|api.?key|authMechanismProperties)[^=&]*)=[^&]*", re.IGNORECASE)
PACKAGES = ("django-mongodb-backend", "pymongo", "gunicorn")


def versions() -> Iterator[Finding]:
    yield Finding("Drift Watch", State.OK, settings.VERSION)
    yield Finding("Python", State.OK, platform.python_version())
    yield Finding("Django", State.OK, django.get_version())
    for package in PACKAGES:
        yield Finding(package, State.OK, version(package))


def settings_in_force() -> Iterator[Finding]:
    """Return each setting that `driftwatch/settings.py` reads, with its value; of a secret, whether it is set."""
    for name, value in sorted(env.dump().items()):
        is_default = not {name, f"{name}_FILE"} & os.environ.keys()
        yield Finding(name, State.OK, f"{shown(name, value)}{' (default)' if is_default else ''}")


def shown(name: str, value: Any) -> str:
    """Return the value of a setting, without secrets."""
    if SECRET.search(name):
        # The secret of a development service is not read from the environment.
        return "set" if value or getattr(settings, name, None) else "not set"
    if value in ("", None, []):
        return "not set"
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    hidden = PASSWORD.sub(lambda found: found[1] + (f"{found[2]}:***" if found[2] is not None else "***"), value)
    return OPTION.sub(r"\1=***", hidden)


def checked_settings() -> Iterator[Finding]:
    """Return what `manage.py check` reports; in production, also what `manage.py check --deploy` does."""
    found = [
        message
        for message in checks.run_checks(include_deployment_checks=settings.PRODUCTION)
        if message.level >= checks.WARNING and not message.is_silenced()
    ]
    for message in found:
        state = State.PROBLEM if message.is_serious() else State.WARNING
        yield Finding(message.id or "check", state, str(message.msg), str(message.hint or ""))
    if not found:
        yield Finding("checks", State.OK, "nothing to report")
