"""Users in the admin portal."""

from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from accounts.models import User
from driftwatch.portal import AnnouncingAdmin

# Access is given by experiments' permissions and by entitlements: Django's groups mean nothing here.
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(AnnouncingAdmin):
    """Identities come from their issuers; what is changed here is whether they may use the service."""

    list_display = ("email", "subject", "issuer", "is_active", "is_superuser", "created_at")
    list_filter = ("is_active", "is_superuser", "created_at")
    search_fields = ("email", "subject", "issuer")
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-pk")
    show_full_result_count = False
    fields = ("id", "issuer", "subject", "email", "is_active", "is_superuser", "last_login", "created_at")
    readonly_fields = ("id", "issuer", "subject", "last_login", "created_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Users register themselves; local accounts are made with `manage.py createsuperuser`."""
        return False
