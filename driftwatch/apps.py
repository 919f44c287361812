"""Django's own apps with the backend's ids, and the project's."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as BaseAdminConfig
from django.contrib.auth.apps import AuthConfig as BaseAuthConfig
from django.contrib.contenttypes.apps import ContentTypesConfig as BaseContentTypesConfig

OBJECT_ID = "django_mongodb_backend.fields.ObjectIdAutoField"


class AdminConfig(BaseAdminConfig):
    default_site = "driftwatch.admin_site.Portal"
    default_auto_field = OBJECT_ID


class AuthConfig(BaseAuthConfig):
    default_auto_field = OBJECT_ID


class ContentTypesConfig(BaseContentTypesConfig):
    default_auto_field = OBJECT_ID


class DriftWatchConfig(AppConfig):
    """The project itself. The label `driftwatch` is that of `core`, whose models have had it from the start."""

    name = "driftwatch"
    label = "project"

    def ready(self) -> None:
        from driftwatch import checks  # noqa: F401, PLC0415 - registers them
