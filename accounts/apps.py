from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Users, tokens and sessions."""

    name = "accounts"

    def ready(self) -> None:
        from accounts import openapi, receivers  # noqa: F401, PLC0415 - registers them
