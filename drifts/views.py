"""The drift runs of the API."""

import uuid
from collections.abc import Mapping
from functools import cached_property

from django.http import Http404
from rest_framework.request import Request

from core.api.conditional import conditional, tagged
from core.api.idempotency import idempotent
from core.api.responses import Answer, NoContent
from core.api.search import SearchMixin, SearchParameters
from core.filters.fields import Computed, Field, Free, Identifier, Text, Texts, Time, Truth
from core.identity import Level, Standing
from drifts.models import Drift, DriftQuerySet
from drifts.serializers import DriftSerializer
from drifts.verdict import MATCHES
from experiments.views import ExperimentResource, id_in_path

FIELDS: Mapping[str, Field] = {
    "id": Identifier("_id"),
    "_id": Identifier("_id"),
    "experiment_id": Identifier("experiment_id"),
    "job_status": Text("job_status"),
    "model": Text("model"),
    "drift_detected": Truth("drift_detected"),
    "verdict": Computed("verdict", MATCHES),
    "parameters": Free("parameters"),
    "tags": Texts("tags"),
    "detector": Text("detector"),
    "environment": Text("environment"),
    "model_version": Text("model_version"),
    "schema_version": Text("schema_version"),
    "created_at": Time("created_at"),
    "updated_at": Time("updated_at"),
}


class DriftSearchMixin(SearchMixin):
    """What a search of runs filters, sorts and answers by, wherever it looks for them."""

    serializer_class = DriftSerializer
    search_parameters = SearchParameters.sortable_by(
        ("created_at", "job_status", "model", "drift_detected", "schema_version")
    )

    def filter_fields(self) -> Mapping[str, Field]:
        return FIELDS


class VisibleDriftView(DriftSearchMixin):
    """The runs of all experiments together."""

    resource = "visible_drift"
    required_levels = {"search": Standing.ANYONE}

    def get_queryset(self) -> DriftQuerySet:
        return Drift.objects.visible_to(self.identity)


class DriftResource(ExperimentResource):
    """A resource of an experiment's runs, or of one of them."""

    def get_drift(self) -> Drift:
        """The run of the path, once the caller's level on its experiment is found sufficient."""
        experiment, drift = Drift.objects.with_experiment(self.experiment_id, self.drift_id)
        self.permitted(experiment)
        return self.existing(drift)

    @cached_property
    def drift_id(self) -> uuid.UUID:
        return id_in_path(self.kwargs["drift_id"])

    def existing(self, drift: Drift | None) -> Drift:
        """The run of the path as it was found."""
        if drift is None:
            raise Http404("The experiment has no drift run with this id.")
        return drift


class DriftView(DriftSearchMixin, DriftResource):
    resource = "drift"
    required_levels = {
        "create": Level.EDIT,
        "search": Level.READ,
        "retrieve": Level.READ,
        "update": Level.EDIT,
        "partial_update": Level.EDIT,
        "destroy": Level.EDIT,
    }

    def get_queryset(self) -> DriftQuerySet:
        return Drift.objects.of(self.get_reference())

    @idempotent
    @tagged
    def create(self, request: Request, experiment_id: str) -> Answer:
        """Report a run. A completed one must say whether it detected drift."""
        body = self.body
        drift = Drift.objects.create_in(self.get_reference(), **DriftSerializer.validated(body))
        return Answer(DriftSerializer.shown(drift), 201)

    @tagged
    def retrieve(self, request: Request, experiment_id: str, drift_id: str) -> Answer:
        """Read one run."""
        return Answer(DriftSerializer.shown(self.get_drift()))

    @conditional
    @tagged
    def update(self, request: Request, experiment_id: str, drift_id: str) -> Answer:
        """Replace every writable field: those left out take their defaults."""
        return self.save(self.get_serializer(self.get_drift(), data=self.body))

    @conditional
    @tagged
    def partial_update(self, request: Request, experiment_id: str, drift_id: str) -> Answer:
        """Change the named fields."""
        return self.save(self.get_serializer(self.get_drift(), data=self.body, partial=True))

    @conditional
    def destroy(self, request: Request, experiment_id: str, drift_id: str) -> NoContent:
        """Delete the run."""
        self.get_drift().delete_by(self.identity)
        return NoContent()
