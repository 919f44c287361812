"""Versions for optimistic concurrency: a change is refused when the stored object is not the version that was read."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any


class VersionConflict(Exception):
    """The stored object has changed since the version that the change was made from."""


def version_of(value: Any) -> str:
    """Return the version of a JSON value: equal values have the same version. Other objects count by their text."""
    return digest(json.dumps(value, sort_keys=True, default=str).encode())


def version_of_fields(instance: Any, names: Iterable[str]) -> str:
    """Return the version of these fields of an object together, in any order."""
    return version_of({name: getattr(instance, name) for name in names})


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
