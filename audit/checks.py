"""Refuses settings with which the audit trail would not be kept, or would say what is not so."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

# A time of expiry must be one that MongoDB and Python can write down.
MAX_DAYS = 36_500


@register
def check_audit_settings(**options: Any) -> list[CheckMessage]:
    problems: list[CheckMessage] = []
    if not 0 < settings.AUDIT_DAYS <= MAX_DAYS:
        hint = f"Set the number of days that events are kept, above 0, at most {MAX_DAYS}."
        problems.append(Error(f"AUDIT_DAYS is {settings.AUDIT_DAYS:g}.", hint=hint, id="audit.E001"))
    return problems
