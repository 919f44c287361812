"""Shows Django's log of portal changes in the admin portal."""

from django.contrib import admin
from django.contrib.admin.models import LogEntry

from core.identity import Requirement
from core.portal.permissions import GuardedAdmin


@admin.register(LogEntry)
class LogEntryAdmin(GuardedAdmin):
    """The log of changes made in the portal, read-only."""

    required_levels = {"view": Requirement.ADMIN, "add": None, "change": None, "delete": None}
    list_display = ("action_time", "user", "content_type", "object_repr", "action_flag")
    list_filter = ("action_flag",)
    list_prefetch_related = ("user", "content_type")
    search_fields = ("object_repr",)
    search_help_text = "Name of the object"
    ordering = ("-action_time", "-pk")
    sortable_by = ("action_time",)
