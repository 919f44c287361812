"""The API's endpoints of the audit trail."""

from collections.abc import Iterator, Mapping

from django.http import StreamingHttpResponse
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from audit.models import Action, Event, EventQuerySet
from audit.serializers import EventSerializer, ExportParameters
from audit.trail import record
from core.api.exceptions import InvalidQuery
from core.api.openapi import responds
from core.api.resource import Resource
from core.api.search import SearchMixin, SearchParameters
from core.filters.fields import Field, ObjectField, StringField, TimeField, UUIDField
from core.identity import Requirement

ACTOR = {
    "kind": StringField("kind"),
    "user_id": UUIDField("user_id"),
    "issuer": StringField("issuer"),
    "subject": StringField("subject"),
    "email": StringField("email"),
}
TARGET = {"type": StringField("type"), "id": StringField("object_id"), "name": StringField("name")}
FIELDS: Mapping[str, Field] = {
    "id": UUIDField("_id"),
    "_id": UUIDField("_id"),
    "created_at": TimeField("created_at"),
    "action": StringField("action"),
    "actor": ObjectField("actor", ACTOR),
    "target": ObjectField("target", TARGET),
    "experiment_id": UUIDField("experiment_id"),
    "address": StringField("address"),
    "request_id": StringField("request_id"),
    "way": StringField("way"),
}
EXPORT_CHUNK = 100
AUDIT_FILE = "audit.ndjson"


class EventSearch(SearchMixin):
    """Searches events. Subclasses limit the events that the caller may see."""

    serializer_class = EventSerializer
    search_parameters = SearchParameters.sortable_by(("created_at", "action"))

    def filter_fields(self) -> Mapping[str, Field]:
        return FIELDS


class AuditView(EventSearch):
    """All events, for administrators."""

    resource = "audit"
    required_levels = {"search": Requirement.ADMIN}
    filter_example = {"actor.email": "ada@example.org", "created_at": {"$gte": "2026-01-01"}}

    def get_queryset(self) -> EventQuerySet:
        return Event.objects.all()


class AuditExportView(Resource):
    """The export of events, for administrators."""

    resource = "audit"
    required_levels = {"export": Requirement.ADMIN}
    serializer_class = EventSerializer
    query_parameters = ExportParameters

    @responds(200, media_type="application/x-ndjson")
    def export(self, request: Request) -> StreamingHttpResponse:
        """Export the events that match the query parameters, oldest first, as one JSON object per line (NDJSON)."""
        parameters = ExportParameters(data=request.query_params)
        if not parameters.is_valid():
            raise InvalidQuery(parameters.errors)
        chosen = parameters.validated_data
        own = record(Action.EXPORTED, self.identity, None, after={"file": AUDIT_FILE, **chosen})
        assert own
        events = Event.objects.all().chosen_by(**chosen).exclude(pk=own.pk)
        return StreamingHttpResponse(
            lines(events.order_by("created_at", "pk")),
            content_type="application/x-ndjson",
            headers={"Content-Disposition": f'attachment; filename="{AUDIT_FILE}"'},
        )


def lines(events: EventQuerySet) -> Iterator[bytes]:
    """Yield one line of JSON per event, read from MongoDB in batches while the response is sent."""
    renderer = JSONRenderer()
    for event in events.iterator(chunk_size=EXPORT_CHUNK):
        yield renderer.render(EventSerializer(event).data) + b"\n"
