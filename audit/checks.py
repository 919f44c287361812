"""System checks of the audit trail's settings."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

# Expiry times must stay within the range of MongoDB and Python.
MAX_DAYS = 36_500


@register
def check_audit_settings(**options: Any) -> list[CheckMessage]:
    """Report an `AUDIT_DAYS` that is out of bounds."""
    problems: list[CheckMessage] = []
    if not 0 < settings.AUDIT_DAYS <= MAX_DAYS:
        hint = f"Set the number of days to keep events, above 0 and at most {MAX_DAYS}."
        problems.append(Error(f"AUDIT_DAYS is {settings.AUDIT_DAYS:g}.", hint=hint, id="audit.E001"))
    return problems
