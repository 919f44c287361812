"""The experiments of the API."""

import uuid
from collections.abc import Mapping

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Standing
from driftwatch.api.resource import Resource
from driftwatch.api.search import SearchMixin, SearchParameters
from driftwatch.filters.fields import Field, Free, Identifier, Records, Text, Texts, Time, Truth
from experiments.models import Experiment, ExperimentQuerySet, Level, granted_to
from experiments.serializers import ExperimentSerializer

FIELDS: Mapping[str, Field] = {
    "id": Identifier("_id"),
    "_id": Identifier("_id"),
    "name": Text("name"),
    "description": Text("description"),
    "public": Truth("public"),
    "tags": Texts("tags"),
    "config": Free("config"),
    "created_at": Time("created_at"),
    "updated_at": Time("updated_at"),
}
PERMISSION_FIELDS: Mapping[str, Field] = {"entity": Text("entity"), "level": Text("level")}


class ExperimentResource(Resource):
    """A resource at or below `experiment/{experiment_id}`."""

    def get_experiment(self) -> Experiment:
        """The experiment of the path, once the caller's level on it is found sufficient."""
        experiment = Experiment.objects.filter(pk=id_in_path(self.kwargs["experiment_id"])).first()
        if experiment is None:
            raise Http404("There is no experiment with this id.")
        self.check_object_permissions(self.request, experiment)
        return experiment


class ExperimentView(SearchMixin, ExperimentResource):
    resource = "experiment"
    required_levels = {
        "create": Standing.REGISTERED,
        "search": Standing.ANYONE,
        "retrieve": Level.READ,
        "update": Level.MANAGE,
        "partial_update": Level.MANAGE,
        "destroy": Level.MANAGE,
    }
    serializer_class = ExperimentSerializer
    search_parameters = SearchParameters.sortable_by(("created_at", "name", "public"))
    conflict = "An experiment of this name exists already. Choose another name."

    def get_queryset(self) -> ExperimentQuerySet:
        return Experiment.objects.visible_to(self.identity)

    def filter_fields(self) -> Mapping[str, Field]:
        guard = {} if self.identity.is_admin else granted_to(self.identity)
        return {**FIELDS, "permissions": Records("permissions", PERMISSION_FIELDS, guard)}

    def create(self, request: Request) -> Response:
        """Create an experiment. Its creator is its first manager."""
        return self.save(self.get_serializer(data=self.body), 201)

    def retrieve(self, request: Request, experiment_id: str) -> Response:
        """Read one experiment."""
        return Response(self.get_serializer(self.get_experiment()).data)

    def update(self, request: Request, experiment_id: str) -> Response:
        """Replace every writable field: those left out take their defaults. The caller stays a manager."""
        return self.save(self.get_serializer(self.get_experiment(), data=self.body))

    def partial_update(self, request: Request, experiment_id: str) -> Response:
        """Change the named fields. The caller stays a manager."""
        return self.save(self.get_serializer(self.get_experiment(), data=self.body, partial=True))

    def destroy(self, request: Request, experiment_id: str) -> Response:
        """Delete the experiment and all of its drift runs."""
        self.get_experiment().delete_by(self.identity)
        return Response(status=204)


def id_in_path(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Http404(f"{text!r} is not a UUID, and ids are UUIDs.") from None
