"""App configurations of Django's apps, with the backend's type of id, and of the project."""

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import AdminConfig as BaseAdminConfig
from django.contrib.auth.apps import AuthConfig as BaseAuthConfig
from django.contrib.contenttypes.apps import ContentTypesConfig as BaseContentTypesConfig


class AdminConfig(BaseAdminConfig):
    """Django's admin app."""

    default_site = "driftwatch.admin_site.Portal"
    default_auto_field = settings.DEFAULT_AUTO_FIELD


class AuthConfig(BaseAuthConfig):
    """Django's auth app."""

    default_auto_field = settings.DEFAULT_AUTO_FIELD


class ContentTypesConfig(BaseContentTypesConfig):
    """Django's contenttypes app."""

    default_auto_field = settings.DEFAULT_AUTO_FIELD


class DriftWatchConfig(AppConfig):
    """The project. Its label is not `driftwatch`, because `core` has that label."""

    name = "driftwatch"
    label = "project"

    def ready(self) -> None:
        from driftwatch import checks  # noqa: F401, PLC0415 - registers them
