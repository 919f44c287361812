"""The look-up that Django's templates lack."""

from collections.abc import Mapping
from typing import Any

from django import template

register = template.Library()


@register.filter
def item(mapping: Mapping[str, Any] | None, key: str) -> Any:
    """The value of a key that stands in a variable; None where there is no such key, or no mapping."""
    return mapping.get(key) if mapping else None
