"""The admin site, whose access depends on the identity of the session."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from rest_framework.exceptions import ValidationError

from accounts.login import logout
from core.api.error_pages import retry_later
from core.api.exceptions import RetryLater
from core.api.search import bounded_time
from core.identity import Requirement, identity_of_session
from core.portal.actions import delete_selected
from core.portal.latest_actions import latest_actions
from drifts.dashboard import dashboard_of

# The app labels in the order of the index.
ORDER = ("experiments", "drifts", "files", "accounts", "audit", "driftwatch", "admin")


class Portal(AdminSite):
    """Admits staff, redirects anonymous users to the login page, and refuses other users with the reason."""

    site_header = site_title = "Drift Watch"
    index_title = "Dashboard"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.add_action(delete_selected)

    def has_permission(self, request: HttpRequest) -> bool:
        return identity_of_session(request).has(Requirement.STAFF)

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        guarded = super().admin_view(view, cacheable)

        def staff_view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            refuse_plain_users(request)
            try:
                return guarded(request, *args, **kwargs)
            except RetryLater as error:
                return retry_later(request, error)

        return update_wrapper(staff_view, view)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return the context of every page of the portal. Pages without a subtitle leave the name out."""
        return {**super().each_context(request), "subtitle": None}

    def get_urls(self) -> list[Any]:
        """Return the URLs without `view_on_site`, which no model here supports."""
        return [pattern for pattern in super().get_urls() if getattr(pattern, "name", "") != "view_on_site"]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the apps with the most used ones first."""
        return sorted(super().get_app_list(request, app_label), key=lambda app: ORDER.index(app["app_label"]))

    def index(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        """Show the index with the user's latest actions and the dashboard.

        Leave out the dashboard if MongoDB exceeds the time limit.
        """
        try:
            with bounded_time():
                dashboard = dashboard_of(identity_of_session(request))
        except ValidationError:
            dashboard = None
        context = {"dashboard": dashboard, "latest_actions": latest_actions(self, request)}
        return super().index(request, {**context, **(extra_context or {})})

    def app_index(self, request: HttpRequest, app_label: str, extra_context: Any = None) -> TemplateResponse:
        """Show the models of one app under its name."""
        title = apps.get_app_config(app_label).verbose_name
        return super().app_index(request, app_label, {"title": title, **(extra_context or {})})

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        refuse_plain_users(request)
        return redirect_to_login(request.GET.get("next", request.path.removesuffix("login/")))

    def logout(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # type: ignore[override]
        return logout(request)


def refuse_plain_users(request: HttpRequest) -> None:
    """Raise `PermissionDenied` for users who are logged in but not staff."""
    identity = identity_of_session(request)
    if not identity.is_anonymous and not identity.has(Requirement.STAFF):
        raise PermissionDenied(
            f"The admin portal is for staff, and {identity.email} is not staff. "
            "Ask the administrators of this service, or log in with another account."
        )
