"""Keys and digests derived from `SECRET_KEY`, with a salt for each purpose.

Django derives the keys of its own signatures in the same way: those of sessions, cursors and unfinished logins.
"""

from django.conf import settings
from django.utils.crypto import salted_hmac


def secrets() -> list[str]:
    """Return the current secret, and the older ones that still verify and decrypt."""
    return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


def digests_by_secret(salt: str, value: str) -> list[bytes]:
    """Return the HMAC-SHA-256 of a value by each secret, that by the current one first. It serves as a key too."""
    return [salted_hmac(salt, value, secret=secret, algorithm="sha256").digest() for secret in secrets()]
