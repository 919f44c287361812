"""Password login, for local accounts only."""

from django.contrib.auth.backends import ModelBackend


class LocalAccountBackend(ModelBackend):
    """Django's own backend: the user manager's natural key finds local accounts and no others."""
