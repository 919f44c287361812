"""App configurations of Django's apps, with the backend's type of id, and of the project."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as BaseAdminConfig
from django.contrib.auth.apps import AuthConfig as BaseAuthConfig
from django.contrib.contenttypes.apps import ContentTypesConfig as BaseContentTypesConfig

OBJECT_ID = "django_mongodb_backend.fields.ObjectIdAutoField"


class AdminConfig(BaseAdminConfig):
    """Django's admin app."""

    default_site = "driftwatch.admin_site.Portal"
    default_auto_field = OBJECT_ID


class AuthConfig(BaseAuthConfig):
    """Django's auth app."""

    default_auto_field = OBJECT_ID


class ContentTypesConfig(BaseContentTypesConfig):
    """Django's contenttypes app."""

    default_auto_field = OBJECT_ID


class DriftWatchConfig(AppConfig):
    """The project. Its label is not `driftwatch`, because `core` has that label."""

    name = "driftwatch"
    label = "project"

    def ready(self) -> None:
        from driftwatch import checks  # noqa: F401, PLC0415 - registers them
