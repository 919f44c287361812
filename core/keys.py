"""Keys derived from `SECRET_KEY`, one for each purpose.

Django derives the keys of its own signatures in the same way: those of sessions, cursors and unfinished logins.
"""

from django.conf import settings
from django.utils.crypto import salted_hmac


def secrets() -> list[str]:
    """Return the current secret, and the older ones that still verify and decrypt."""
    return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


def derived_keys(salt: str, value: str) -> list[bytes]:
    """Return a key of 256 bits for each secret. The first one signs and encrypts."""
    return [salted_hmac(salt, value, secret=secret, algorithm="sha256").digest() for secret in secrets()]
