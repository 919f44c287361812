"""Shows Django's log of portal changes in the admin portal."""

import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import ACTION_FLAG_CHOICES, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest

from core.identity import Requirement
from core.portal.permissions import GuardedAdmin


class ActionFilter(admin.SimpleListFilter):
    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(flag), str(label)) for flag, label in ACTION_FLAG_CHOICES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        flag = self.value()
        return queryset.filter(action_flag=flag) if flag in dict(self.lookup_choices) else queryset


@admin.register(LogEntry)
class LogEntryAdmin(GuardedAdmin):
    """The log of changes made in the portal, read-only."""

    required_levels = {"view": Requirement.ADMIN, "add": None, "change": None, "delete": None}
    list_display = ("time", "user", "type", "object", "action")
    list_filter = (ActionFilter,)
    list_prefetch_related = ("user", "content_type")
    search_fields = ("object_repr",)
    search_help_text = "Name of the object"
    ordering = ("-action_time", "-pk")
    sortable_by = ("time",)
    fields = ("time", "user", "type", "object", "object_id", "action", "changes")
    readonly_fields = fields

    @admin.display(ordering="action_time")
    def time(self, entry: LogEntry) -> datetime.datetime:
        return entry.action_time

    @admin.display
    def type(self, entry: LogEntry) -> str:
        return str(entry.content_type.name).capitalize() if entry.content_type else ""

    @admin.display(description="object")
    def object(self, entry: LogEntry) -> str:
        return entry.object_repr

    @admin.display
    def action(self, entry: LogEntry) -> str:
        return str(entry.get_action_flag_display())

    @admin.display
    def changes(self, entry: LogEntry) -> str:
        return entry.get_change_message()
