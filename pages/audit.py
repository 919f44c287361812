"""The audit trail of an experiment, for its managers: as a page and as a table to download."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.conf import settings
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from audit.models import KINDS, Action, ActorKind, Event, EventQuerySet
from audit.serializers import ExportParameters
from audit.trail import record
from audit.views import EXPORT_CHUNK
from core.api.errors import sentences
from core.api.exceptions import InvalidQuery
from core.api.search import bounded_time
from core.csv_export import csv_stream
from core.mongodb.documents import instances_of
from core.mongodb.order import NEWEST_FIRST
from drifts.exports import cell
from drifts.models import Drift
from experiments.audit_views import ExperimentAuditView
from experiments.models import Experiment
from pages.audit_changes import Changes, changes_of
from pages.cursor_pages import CursorPage, CursorPages
from pages.page import ExperimentPage
from pages.run_filter import NO_TIME

PAGE_SIZE = 50
ADVICE = "choose a shorter period or an action"
EXAMPLE = "UTC, such as 2026-01-31 or 2026-01-31 12:00"
PERSON = "Email or user id"
# In place of the API's messages, which name times and actions as requests write them.
MESSAGES = {"since": NO_TIME, "until": NO_TIME, "action": "Choose an action from the list."}
COLUMNS = (
    *("id", "created_at", "action", "actor", "actor_id", "way", "address"),
    *("target_type", "target_id", "target", "before", "after", "request_id"),
)


@dataclass(frozen=True)
class Control:
    """A control of the filter form, with the text in it and its error."""

    name: str
    label: str
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    value: str = ""
    error: str = ""


@dataclass(frozen=True)
class EventFilter:
    """The filter of the events in an address: its controls, and the valid values in them."""

    controls: list[Control]
    values: dict[str, Any]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """The filter of an address, with the API's parameters. Problems are in the controls; none raises."""
        names = ("since", "until", "action", "actor")
        typed = {name: text for name in names if (text := query.get(name, "").strip())}
        parameters = ExportParameters(data=typed)
        parameters.is_valid()
        errors = {name: MESSAGES.get(name, str(problems[0])) for name, problems in parameters.errors.items()}
        own: dict[str, dict[str, Any]] = {
            "since": {"label": "Since", "hint": EXAMPLE},
            "until": {"label": "Before", "hint": EXAMPLE},
            "action": {"label": "Action", "choices": tuple(Action.choices)},
            "actor": {"label": "Person", "hint": PERSON},
        }
        controls = [Control(name, value=typed.get(name, ""), error=errors.get(name, ""), **own[name]) for name in names]
        return cls(controls, {} if errors else parameters.validated_data)

    @property
    def errors(self) -> dict[str, list[str]]:
        return {control.name: [control.error] for control in self.controls if control.error}

    @property
    def is_empty(self) -> bool:
        return not any(control.value for control in self.controls)

    @property
    def pairs(self) -> list[list[str]]:
        return [[control.name, control.value] for control in self.controls if control.value]


@dataclass(frozen=True)
class Row:
    """An event in the table. `run` is the id of the run that it is about, or whose file, if there still is one."""

    event: Event
    changes: Changes
    run: uuid.UUID | None

    @property
    def way(self) -> str:
        """The way in which the actor signed in; empty for the service itself."""
        return "" if self.event.actor.kind == ActorKind.SERVICE else self.event.get_way_display()


class AuditPage(ExperimentPage):
    """The events of an experiment, for the callers to whom the API shows them."""

    resource = "audit-trail"
    required_levels = dict.fromkeys(("retrieve", "table"), ExperimentAuditView.required_levels["search"])

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponseBase:
        """Show a page of the events that the filter in the address matches, newest first."""
        experiment, chosen = self.get_experiment(), EventFilter.of(request.query_params)
        page, errors, is_page_gone = CursorPage.empty(), [], False
        try:
            if not chosen.errors:
                page = self.read(experiment, chosen)
        except ValidationError as error:
            refused = dict(sentences(error.detail))
            is_page_gone = "cursor" in refused
            errors = list(refused.values())
        rows = rows_of(experiment, list(instances_of(Event, page.documents)))
        people = dict.fromkeys(row.event.actor.email for row in rows if row.event.actor.email)
        kinds = [ActorKind(kind).label for kind in KINDS.values()]
        return self.show_of(
            experiment,
            "audit.html",
            422 if errors or chosen.errors else 200,
            filter=chosen,
            errors=errors,
            is_page_gone=is_page_gone,
            page=page,
            rows=rows,
            is_later_page="cursor" in request.query_params or "before" in request.query_params,
            suggestions={"actor": [*people, *kinds]},
            days=settings.AUDIT_DAYS,
        )

    def table(self, request: Request, experiment_id: str) -> StreamingHttpResponse:
        """Download all events that the filter in the address matches as CSV, newest first. The download is recorded."""
        experiment, chosen = self.get_experiment(), EventFilter.of(request.query_params)
        if chosen.errors:
            raise InvalidQuery(chosen.errors)
        name = f"{self.file_name(experiment)}.csv"
        # The values instead of the query: the erasure of a user finds the user's email among them.
        own = record(Action.EXPORTED, self.identity, experiment, after={"file": name, **chosen.values})
        assert own
        events = events_of(experiment, chosen).exclude(pk=own.pk).order_by("-created_at", "-pk")
        return csv_stream(name, csv_rows(events))

    def read(self, experiment: Experiment, chosen: EventFilter) -> CursorPage:
        """The page of events in the address. Raises `ValidationError`."""
        query = self.request.query_params
        pages = CursorPages(events_of(experiment, chosen), NEWEST_FIRST, [str(experiment.pk), "audit", chosen.pairs])
        with bounded_time(ADVICE):
            return pages.page(PAGE_SIZE, query.get("cursor", ""), query.get("before", ""))


def events_of(experiment: Experiment, chosen: EventFilter) -> EventQuerySet:
    return Event.objects.in_experiment(experiment.pk).chosen_by(**chosen.values)


def rows_of(experiment: Experiment, events: list[Event]) -> list[Row]:
    """The rows of the table. Takes two queries: for the names of people, and for the runs that still exist."""
    about = [run_of(event) for event in events]
    stored = set(Drift.objects.of(experiment).matching({"_id": {"$in": [run.hex for run in about if run]}}).ids())
    return [
        Row(event, changes, run if run and run.hex in stored else None)
        for event, changes, run in zip(events, changes_of(events), about, strict=True)
    ]


def run_of(event: Event) -> uuid.UUID | None:
    """The id of the run that an event is about, or whose file it is about."""
    is_run = event.target.type == Drift._meta.model_name
    run = event.target.object_id if is_run else {**event.before, **event.after}.get("drift_id")
    return uuid.UUID(run) if run else None


def csv_rows(events: EventQuerySet) -> Iterator[list[Any]]:
    yield list(COLUMNS)
    for event in events.iterator(chunk_size=EXPORT_CHUNK):
        actor, target = event.actor, event.target
        yield [
            *(str(event.pk), event.created_at, event.action, str(actor), actor.user_id or "", event.way),
            *(event.address or "", target.type, target.object_id, target.name),
            *(cell(event.before), cell(event.after), event.request_id or ""),
        ]
