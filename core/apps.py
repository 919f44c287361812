from django.apps import AppConfig


class CoreConfig(AppConfig):
    """The toolbox. Its models keep the label that they were first stored under."""

    name = "core"
    label = "driftwatch"
