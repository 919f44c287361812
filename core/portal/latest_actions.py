"""The latest actions of a user, for the first page of the admin portal."""

from collections import defaultdict
from typing import NamedTuple

from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest

SHOWN = 8


class LatestAction(NamedTuple):
    """An entry of the portal's log. `name` is that of the object, or its id; `url` is None if there is no page."""

    entry: LogEntry
    name: str
    url: str | None


def latest_actions(site: AdminSite, request: HttpRequest) -> list[LatestAction]:
    """Return the latest actions of the user. Objects that the portal does not list for the user have only an id.

    The log keeps the names of deleted objects, and of those that the user may no longer read. Those who may see the
    whole log see all names.
    """
    entries = list(site.get_log_entries(request).filter(user=request.user.pk)[:SHOWN])
    sees_log = site.get_model_admin(LogEntry).has_view_permission(request)
    ids: dict[ContentType, list[str]] = defaultdict(list)
    for entry in entries:
        if entry.content_type and entry.object_id:
            ids[entry.content_type].append(entry.object_id)
    listed = {kind: listed_ids(site, request, kind, of_kind) for kind, of_kind in ids.items()}

    def shown(entry: LogEntry) -> LatestAction:
        is_listed = entry.content_type in listed and entry.object_id in listed[entry.content_type]
        name = entry.object_repr if is_listed or sees_log else str(entry.object_id)
        return LatestAction(entry, name, entry.get_admin_url() if is_listed else None)

    return [shown(entry) for entry in entries]


def listed_ids(site: AdminSite, request: HttpRequest, kind: ContentType, ids: list[str]) -> set[str]:
    """Return those of the ids whose objects the portal lists for the user."""
    model = kind.model_class()
    if model is None or not site.is_registered(model):
        return set()
    model_admin = site.get_model_admin(model)
    if not model_admin.has_view_permission(request):
        return set()
    found = model_admin.get_queryset(request).filter(pk__in=ids).order_by()
    return {str(pk) for pk in found.values_list("pk", flat=True)}
