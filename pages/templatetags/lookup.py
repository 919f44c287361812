"""A template filter that looks up a key in a mapping."""

from collections.abc import Mapping
from typing import Any

from django import template

register = template.Library()


@register.filter
def item(mapping: Mapping[str, Any] | None, key: str) -> Any:
    """The value of a key that a variable holds; None without the key or the mapping."""
    return mapping.get(key) if mapping else None
