"""The audit trail in the admin portal, read-only."""

import json
import uuid
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from audit.models import Event
from audit.personal_data import by_or_about
from core.identity import Requirement
from core.mongodb.match import Mql
from core.portal.changelists import BoundedChangeList
from core.portal.filters import PeriodFilter, TextFilter
from core.portal.permissions import GuardedAdmin

# The most characters of a value that the page of an event shows.
MAX_SHOWN = 20_000


class PersonFilter(TextFilter):
    """Filters by a user's id, for the events by and about the user, or by the email of the actor."""

    title = "person"
    parameters = ("person",)
    help_text = "A user's id finds events by and about the user, an email those by it."

    def condition(self, text: str) -> Mql:
        try:
            return by_or_about(uuid.UUID(text.strip()))
        except ValueError:
            return {"actor.email": text.strip()}


class EventChangeList(BoundedChangeList):
    """Reads the names of the changed fields by one query, without their values, which may be large."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        names = Event.objects.changed_fields([event.pk for event in self.result_list])
        event: Any
        for event in self.result_list:
            # The event may have expired since the list was read.
            event.changed_fields = names.get(event.pk, [])


@admin.register(Event)
class EventAdmin(GuardedAdmin):
    """Shows events to administrators. Nobody can add, change or delete them."""

    required_levels = {"view": Requirement.ADMIN, "add": None, "change": None, "delete": None}
    list_display = ("created_at", "action", "actor", "target", "changed_fields", "address", "way")
    list_filter = ("action", "way", PersonFilter, PeriodFilter)
    search_fields = ("actor__email", "actor__subject", "target__name", "target__object_id", "address", "request_id")
    search_help_text = "Email or subject of the actor, name or id of the target, address, or request id"
    list_deferred = ("before", "after")
    ordering = ("-created_at", "-pk")
    sortable_by = ("created_at", "action")
    fields = (
        "id",
        "created_at",
        "action",
        "actor",
        "actor_identity",
        "target",
        "target_id",
        "experiment_id",
        "changes",
        "address",
        "user_agent",
        "request_id",
        "way",
        "expires_at",
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        return EventChangeList

    @admin.display(description="changed fields")
    def changed_fields(self, event: Any) -> str:
        return ", ".join(event.changed_fields)

    @admin.display(description="actor identity")
    def actor_identity(self, event: Event) -> str:
        known = {"id": event.actor.user_id, "issuer": event.actor.issuer, "subject": event.actor.subject}
        return ", ".join(f"{name} {value}" for name, value in known.items() if value) or "unknown"

    @admin.display(description="target id")
    def target_id(self, event: Event) -> str:
        return event.target.object_id

    @admin.display
    def changes(self, event: Event) -> SafeString:
        """Return a table of the changed fields with their values before and after."""
        rows = (
            (name, readable(event.before, name), readable(event.after, name))
            for name in {**event.before, **event.after}
        )
        return format_html(
            "<table><thead><tr><th>Field</th><th>Before</th><th>After</th></tr></thead><tbody>{}</tbody></table>",
            format_html_join("", "<tr><th>{}</th><td><pre>{}</pre></td><td><pre>{}</pre></td></tr>", rows),
        )


def readable(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    if len(text) <= MAX_SHOWN:
        return text
    return f"{text[:MAX_SHOWN]}…\n(The first {MAX_SHOWN:,} of {len(text):,} characters. The API returns all.)"
