"""The portal's own pages: what was done in it."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest

admin.site.site_header = admin.site.site_title = "Drift Watch"
admin.site.index_title = "Administration"


@admin.register(LogEntry)
class LogEntryAdmin(admin.ModelAdmin):
    """The record of changes made in the portal; nobody writes it by hand."""

    list_display = ("action_time", "user", "content_type", "object_repr", "action_flag")
    list_filter = ("action_flag",)
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr",)
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
