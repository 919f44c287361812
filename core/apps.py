from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Shared code. The app label is `driftwatch`, because the collections were named after it before 0.1.0."""

    name = "core"
    label = "driftwatch"
    verbose_name = "Service"
