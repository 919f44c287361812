"""Django's own apps with the backend's ids, and the project's."""

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import AdminConfig as BaseAdminConfig
from django.contrib.auth.apps import AuthConfig as BaseAuthConfig
from django.contrib.contenttypes.apps import ContentTypesConfig as BaseContentTypesConfig
from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries

OBJECT_ID = "django_mongodb_backend.fields.ObjectIdAutoField"


class AdminConfig(BaseAdminConfig):
    default_site = "driftwatch.portal.site.Portal"
    default_auto_field = OBJECT_ID


class AuthConfig(BaseAuthConfig):
    default_auto_field = OBJECT_ID


class ContentTypesConfig(BaseContentTypesConfig):
    default_auto_field = OBJECT_ID


class DriftWatchConfig(AppConfig):
    name = "driftwatch"

    def ready(self) -> None:
        from driftwatch import checks  # noqa: F401, PLC0415 - registers the checks

        # The driver keeps a pool, in which nothing grows old, Django's cache is not used, and queries are not logged:
        # there is nothing to close or to clear with a request.
        for signal in (request_started, request_finished):
            signal.disconnect(close_old_connections)
        request_finished.disconnect(close_caches)
        if not settings.DEBUG:
            request_started.disconnect(reset_queries)
