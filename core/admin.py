"""Django's log of portal changes and the background tasks in the admin portal, read-only."""

import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import ACTION_FLAG_CHOICES, LogEntry
from django.contrib.admin.utils import display_for_value
from django.db.models import QuerySet
from django.http import HttpRequest

from core import timestamps
from core.identity import Requirement
from core.models import BackgroundTask
from core.portal.permissions import GuardedAdmin

MAX_LISTED_ERROR = 100


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


@admin.register(BackgroundTask)
class BackgroundTaskAdmin(GuardedAdmin):
    """Shows the state of each background task to administrators. Only `manage.py work` changes it."""

    required_levels = {"view": Requirement.ADMIN, "add": None, "change": None, "delete": None}
    list_display = ("label", "state", "succeeded_at", "last_duration", "failures", "listed_error")
    sortable_by = ()
    fields = (
        "name",
        "label",
        "state",
        "holder",
        "started_at",
        "succeeded_at",
        "last_duration",
        "due_at",
        "failures",
        "failures_in_a_row",
        "error",
    )
    readonly_fields = fields

    @admin.display
    def state(self, task: BackgroundTask) -> str:
        now = timestamps.now()
        if task.is_running(now):
            return f"Running since {display_for_value(task.started_at, '')}"
        if task.is_overdue(now):
            return "Overdue: manage.py work does not run"
        if task.failures_in_a_row:
            return f"Failing, next attempt {display_for_value(task.due_at, '')}"
        return "Waiting"

    @admin.display(description="last duration")
    def last_duration(self, task: BackgroundTask) -> str:
        return "-" if task.duration is None else f"{task.duration:,.2f} s"

    @admin.display(description="last error")
    def listed_error(self, task: BackgroundTask) -> str:
        return f"{task.error[:MAX_LISTED_ERROR]}…" if len(task.error) > MAX_LISTED_ERROR else task.error
