from django.apps import AppConfig


class DriftsConfig(AppConfig):
    name = "drifts"
    verbose_name = "Drift runs"
