from django.apps import AppConfig


class DriftsConfig(AppConfig):
    name = "drifts"
