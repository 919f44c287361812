"""API views of drift runs."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.http import Http404
from django.utils.functional import cached_property
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from core.api.conditional import conditional, tagged
from core.api.exceptions import Conflict
from core.api.idempotency import idempotent
from core.api.openapi import responds
from core.api.responses import JSONResponse, NoContent
from core.api.search import SearchMixin, SearchParameters
from core.filters.fields import (
    BooleanField,
    ComputedField,
    Field,
    JSONField,
    LongStringField,
    NumberField,
    SortedObjectField,
    StringField,
    StringListField,
    TimeField,
    UUIDField,
)
from core.identity import Level, Requirement
from core.mongodb.order import Order
from drifts.models import OVERDUE, Drift, DriftQuerySet, NotRunning
from drifts.observed import order_by
from drifts.serializers import DriftSerializer
from drifts.verdict import MATCHES, UNSUPPORTED, JobStatus
from experiments.views import ExperimentResource, id_in_path

FIELDS: Mapping[str, Field] = {
    "id": UUIDField("_id"),
    "_id": UUIDField("_id"),
    "experiment_id": UUIDField("experiment_id"),
    "job_status": StringField("job_status"),
    "model": StringField("model"),
    "drift_detected": BooleanField("drift_detected"),
    "verdict": ComputedField("verdict", MATCHES),
    "parameters": JSONField("parameters"),
    "tags": StringListField("tags"),
    "detector": StringField("detector"),
    "environment": StringField("environment"),
    "model_version": StringField("model_version"),
    "feature": StringField("feature"),
    "p_value": NumberField("p_value"),
    "statistic": NumberField("statistic"),
    "threshold": NumberField("threshold"),
    "sample_size": NumberField("sample_size"),
    "observed_at": TimeField("observed_at"),
    "window_start": TimeField("window_start"),
    "window_end": TimeField("window_end"),
    "note": LongStringField("note"),
    "series": SortedObjectField("series"),
    "unsupported": ComputedField("unsupported", {True: UNSUPPORTED, False: {"$nor": [UNSUPPORTED]}}),
    "run_timeout": NumberField("run_timeout"),
    "heartbeat_at": TimeField("heartbeat_at"),
    "overdue": ComputedField("overdue", {True: OVERDUE, False: {"$nor": [OVERDUE]}}),
    "schema_version": StringField("schema_version"),
    "created_at": TimeField("created_at"),
    "updated_at": TimeField("updated_at"),
}
# The names to sort by. An index serves each but the last.
SORTABLE = ("created_at", "observed_at", "job_status", "model", "drift_detected", "schema_version")


class DriftSearchMixin(SearchMixin):
    """The serializer, filter fields and sort fields of a search for runs."""

    serializer_class = DriftSerializer
    search_parameters = SearchParameters.sortable_by(SORTABLE)

    def filter_fields(self) -> Mapping[str, Field]:
        return FIELDS

    def order_by(self, name: str, is_descending: bool) -> Order:
        return order_by(name, is_descending)


class VisibleDriftView(DriftSearchMixin):
    """Search the runs of all experiments that the caller may read."""

    resource = "visible_drift"
    tag = "drift"
    required_levels = {"search": Requirement.ANYONE}
    filter_example = {"verdict": "drift", "created_at": {"$gte": "2026-01-01"}}

    def get_queryset(self) -> DriftQuerySet:
        return Drift.objects.visible_to(self.identity)


class DriftResource(ExperimentResource):
    """A resource of an experiment's runs, or of one run."""

    path_parameters = {**ExperimentResource.path_parameters, "drift_id": "The id of a drift run of the experiment."}

    def get_drift(self) -> Drift:
        """The run of the path. Raises an error unless the caller's level on its experiment is sufficient."""
        experiment, drift = Drift.objects.with_experiment(self.experiment_id, self.drift_id)
        self.permitted(experiment)
        return self.existing(drift)

    @cached_property
    def drift_id(self) -> uuid.UUID:
        return id_in_path(self.kwargs["drift_id"])

    def existing(self, drift: Drift | None) -> Drift:
        """Return the run that a query found. Raises `Http404` for None."""
        if drift is None:
            raise Http404("The experiment has no drift run with this id.")
        return drift


class DriftView(DriftSearchMixin, DriftResource):
    """Create, search, read, change and delete the runs of an experiment."""

    resource = "drift"
    required_levels = {
        "create": Level.EDIT,
        "search": Level.READ,
        "retrieve": Level.READ,
        "update": Level.EDIT,
        "partial_update": Level.EDIT,
        "destroy": Level.EDIT,
        "heartbeat": Level.EDIT,
    }
    progress_fields = frozenset({"heartbeat_at"})
    filter_example = {"verdict": "drift", "parameters.p_value": {"$lt": 0.01}}

    def get_queryset(self) -> DriftQuerySet:
        return Drift.objects.of(self.get_reference())

    def has_progress(self, content: Mapping[str, Any]) -> bool:
        # The last heartbeat of a run that has ended does not change any more.
        return content["job_status"] == JobStatus.RUNNING and super().has_progress(content)

    @responds(201)
    @idempotent
    @tagged
    def create(self, request: Request, experiment_id: str) -> JSONResponse:
        """Report a run. A completed run must state whether it detected drift."""
        body = self.body
        drift = Drift.objects.create_in(self.get_reference(), **DriftSerializer.validated(body))
        return JSONResponse(DriftSerializer.represent(drift), 201)

    def check_created(self, created: Any) -> None:
        # `check_access` has just read the experiment.
        if not Drift.objects.filter(experiment_id=self.experiment_id, pk=created["id"]).exists():
            raise Http404("The run that the earlier request created is deleted. Another key creates it again.")

    @tagged
    def retrieve(self, request: Request, experiment_id: str, drift_id: str) -> JSONResponse:
        """Read one run."""
        return JSONResponse(DriftSerializer.represent(self.get_drift()))

    @conditional
    @tagged
    def update(self, request: Request, experiment_id: str, drift_id: str) -> JSONResponse:
        """Replace a drift run. `drift_detected`, `parameters` and `tags` take their defaults if they are omitted.

        Other omitted fields keep their values.
        """
        return self.save(self.get_serializer(self.get_drift(), data=self.body))

    @conditional
    @tagged
    def partial_update(self, request: Request, experiment_id: str, drift_id: str) -> JSONResponse:
        """Change fields of a drift run. The others keep their values."""
        return self.save(self.get_serializer(self.get_drift(), data=self.body, partial=True))

    @responds(204)
    @conditional
    def destroy(self, request: Request, experiment_id: str, drift_id: str) -> NoContent:
        """Delete the run with its files."""
        self.get_drift().delete_by(self.identity)
        return NoContent()

    @extend_schema(request=None)
    @responds(204, 409)
    def heartbeat(self, request: Request, experiment_id: str, drift_id: str) -> NoContent:
        """Report that a Running run is alive, so that its time-out begins again. Needs no body.

        `heartbeat_at` becomes the present time; `updated_at` and the ETag do not change. The response for a run that is
        not Running is 409.
        """
        try:
            Drift.objects.heartbeat(self.get_reference(), self.drift_id)
        except Drift.DoesNotExist:
            self.existing(None)
        except NotRunning as error:
            raise Conflict(str(error)) from error
        return NoContent()
