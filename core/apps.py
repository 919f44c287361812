from django.apps import AppConfig


class CoreConfig(AppConfig):
    """The toolbox. Its app label is that of the first release, which its collections are named after."""

    name = "core"
    label = "driftwatch"
