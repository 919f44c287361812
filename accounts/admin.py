"""Users and their access tokens in the admin portal."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import display_for_value
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import pluralize
from rest_framework.exceptions import ValidationError

from accounts.models import ServiceToken, User
from accounts.models.service_token import ServiceTokenQuerySet, TokenState
from audit.audited_admin import AuditedAdmin
from audit.models import Event
from audit.personal_data import events_of
from core.api.search import bounded_time
from core.identity import Requirement, identity_of_session
from core.mongodb.documents import instances_of
from core.mongodb.order import NEWEST_FIRST
from core.portal.filters import PeriodFilter
from core.portal.permissions import GuardedAdmin

LATEST_EVENTS = 20

# Experiments' permissions and entitlements give access. Django's groups are not used.
admin.site.unregister(Group)


class UserPart(NamedTuple):
    """A part of the page of a user: its template, and the object that the template knows as `part`."""

    template: str
    content: Any


@admin.register(User)
class UserAdmin(AuditedAdmin):
    """Manages whether users may use the service. Their identities come from the issuers.

    Users register themselves. `manage.py createsuperuser` creates local accounts.
    """

    required_levels = {"view": Requirement.ADMIN, "add": None, "change": Requirement.ADMIN, "delete": Requirement.ADMIN}
    list_display = ("email", "role", "subject", "issuer", "latest_login", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser", PeriodFilter)
    search_fields = ("email", "subject", "issuer")
    search_help_text = "Email, subject or issuer"
    ordering = ("-created_at", "-pk")
    sortable_by = ("email", "subject", "issuer", "created_at")
    fields = (
        "id",
        "issuer",
        "subject",
        "email",
        "is_active",
        "is_staff",
        "is_superuser",
        "entitlements",
        "latest_login",
        "last_seen_at",
        "created_at",
    )
    readonly_fields = ("id", "issuer", "subject", "entitlements", "latest_login", "last_seen_at", "created_at")
    # The parts below the form. Packages above this one add theirs, because they know what a user may access. Each
    # function returns None for a viewer who may not see its part.
    parts: ClassVar[list[Callable[[HttpRequest, User], UserPart | None]]] = []

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: User | None = None, **kwargs: Any
    ) -> HttpResponse:
        """Show the parts below the form, or none if MongoDB exceeds the time limit."""
        try:
            with bounded_time():
                parts = [part(request, obj) for part in (*self.parts, latest_events)] if obj else []
        except ValidationError:
            parts = None
        return super().render_change_form(request, {**context, "parts": parts}, *args, obj=obj, **kwargs)

    @admin.display
    def role(self, user: User) -> str:
        """Return the user's roles, from the account and the last known entitlements."""
        entitled = not set(user.entitlements).isdisjoint(settings.OIDC_ADMIN_ENTITLEMENTS)
        roles = {
            "Not active": not user.is_active,
            "Administrator": entitled or (user.is_local and user.is_superuser),
            "Staff": user.is_staff,
        }
        return ", ".join(role for role, applies in roles.items() if applies) or "User"

    @admin.display(description="last login")
    def latest_login(self, user: User) -> str:
        return display_for_value(user.last_login, "Never")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Make `is_superuser` read-only for users of an issuer: their entitlements make administrators."""
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if obj is None or obj.is_local else (*fields, "is_superuser")


def latest_events(request: HttpRequest, user: User) -> UserPart | None:
    """The newest events by or about the user, for those who may see the audit trail."""
    if not admin.site.get_model_admin(Event).has_view_permission(request):
        return None
    found, _ = events_of(user.pk).sorted_slice(NEWEST_FIRST, LATEST_EVENTS, shape=[{"$unset": ["before", "after"]}])
    return UserPart("admin/accounts/user/events.html", {"user": user, "events": list(instances_of(Event, found))})


class StateFilter(admin.SimpleListFilter):
    """Filters access tokens by state."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(TokenState.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[ServiceToken]) -> QuerySet[ServiceToken]:
        assert isinstance(queryset, ServiceTokenQuerySet)
        state = self.value()
        return queryset.in_state(TokenState(state)) if state in set(TokenState) else queryset


@admin.register(ServiceToken)
class ServiceTokenAdmin(GuardedAdmin):
    """Shows access tokens to administrators, who can revoke them but not create or change them."""

    required_levels = {"view": Requirement.ADMIN, "add": None, "change": None, "delete": Requirement.ADMIN}
    list_display = ("name", "user", "level", "last_use", "expires_at", "created_at", "state", "issued_by_operator")
    list_filter = (StateFilter, "issued_by_operator", "level", PeriodFilter)
    list_prefetch_related = ("user",)
    search_fields = ("name", "user__email", "user__subject")
    search_help_text = "Name of the token, or email or subject of its owner"
    ordering = ("-created_at", "-pk")
    sortable_by = ("created_at",)
    actions = ("revoke",)
    fields = (
        "id",
        "user",
        "name",
        "state",
        "level",
        "experiments",
        "entitlements",
        "issued_by_operator",
        "created_at",
        "expires_at",
        "last_use",
        "revoked_at",
    )
    readonly_fields = fields

    @admin.display
    def state(self, token: ServiceToken) -> str:
        return token.state.label

    @admin.display(description="last used")
    def last_use(self, token: ServiceToken) -> str:
        return display_for_value(token.last_used_at, "Never")

    @admin.action(description="Revoke the selected access tokens")
    def revoke(self, request: HttpRequest, queryset: ServiceTokenQuerySet) -> None:
        # Selected by id: a search may join the users, and MongoDB cannot update a join.
        chosen = ServiceToken.objects.filter(pk__in=[token.pk for token in queryset])
        revoked = chosen.revoke(identity_of_session(request))
        self.message_user(request, f"{revoked} token{pluralize(revoked)} revoked.")
