"""API views of experiments and of access to them."""

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from django.db import IntegrityError
from django.http import Http404
from django.utils.functional import cached_property
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from core.api.conditional import conditional, tagged
from core.api.exceptions import Conflict, InvalidQuery
from core.api.idempotency import idempotent
from core.api.json_input import text_problem
from core.api.openapi import responds
from core.api.permissions import require_level
from core.api.resource import Resource
from core.api.responses import JSONResponse, NoContent
from core.api.search import SearchMixin, SearchParameters
from core.filters.fields import (
    BooleanField,
    Field,
    JSONField,
    LongStringField,
    NumberField,
    ObjectListField,
    StringField,
    StringListField,
    TimeField,
    UUIDField,
)
from core.identity import Identity, Level, Requirement
from core.versions import VersionConflict
from experiments.access import AccessControlled, ExperimentReference, granted_to
from experiments.models import DeletedExperiment, Experiment, ExperimentQuerySet
from experiments.serializers import (
    AccessSerializer,
    ExperimentSerializer,
    HandoverSerializer,
    PreviewSerializer,
    SharingSerializer,
    entities_of,
)
from experiments.sharing import (
    UnknownUser,
    access_of,
    access_of_entity,
    named_entity,
)

FIELDS: Mapping[str, Field] = {
    "id": UUIDField("_id"),
    "_id": UUIDField("_id"),
    "name": StringField("name"),
    "description": LongStringField("description"),
    "public": BooleanField("public"),
    "tags": StringListField("tags"),
    "config": JSONField("config"),
    "run_timeout": NumberField("run_timeout"),
    "retention_days": NumberField("retention_days"),
    "created_at": TimeField("created_at"),
    "updated_at": TimeField("updated_at"),
    "archived_at": TimeField("archived_at"),
}
PERMISSION_FIELDS: Mapping[str, Field] = {"entity": StringField("entity"), "level": StringField("level")}


NAME_TAKEN = "Another experiment has the name “{}” now. Have that one renamed, then restore this one."
Found = TypeVar("Found", bound=AccessControlled)


class ExperimentResource(Resource):
    """A resource at or below `experiment/{experiment_id}`."""

    path_parameters = {"experiment_id": "The id of an experiment."}

    def get_experiment(self) -> Experiment:
        """The experiment of the path. Raises an error unless the caller's level is sufficient."""
        return self.permitted(Experiment.objects.by_id(self.experiment_id))

    @cached_property
    def experiment_id(self) -> uuid.UUID:
        return id_in_path(self.kwargs["experiment_id"])

    def get_reference(self) -> ExperimentReference:
        """The same experiment without its `config`, which may have megabytes: enough for requests for its runs."""
        return self.permitted(Experiment.objects.reference_to(self.experiment_id))

    def check_access(self) -> None:
        if "experiment_id" in self.kwargs:
            self.get_reference()

    def permitted(self, experiment: Found | None) -> Found:
        """Return the experiment that a query found. Raises an error for None, and unless the level is sufficient."""
        found = existing(experiment)
        self.check_object_permissions(self.request, found)
        return found


def existing(experiment: Found | None) -> Found:
    """Return the experiment that a query found. Raises `Http404` for None."""
    if experiment is None:
        raise Http404("There is no experiment with this id.")
    return experiment


def restored_from_trash(experiment_id: uuid.UUID, identity: Identity) -> Experiment:
    """Restore an experiment from the trash, and return it.

    Raises `Http404` unless it is in the trash and the identity managed it, and `Conflict` if its name is taken.
    """
    deleted = DeletedExperiment.objects.one_managed_by(identity, experiment_id)
    if deleted is None:
        return existing(None)
    try:
        return deleted.restore_by(identity)
    except DeletedExperiment.DoesNotExist:
        # Another request has restored it, unless its purge has begun.
        return existing(Experiment.objects.by_id(experiment_id))
    except IntegrityError as error:
        raise Conflict(NAME_TAKEN.format(deleted.name)) from error


class ExperimentView(SearchMixin, ExperimentResource):
    """Create, search, read, change and delete experiments."""

    resource = "experiment"
    required_levels = {
        "create": Requirement.MAY_CREATE,
        "search": Requirement.ANYONE,
        "retrieve": Level.READ,
        "update": Level.MANAGE,
        "partial_update": Level.MANAGE,
        "destroy": Level.MANAGE,
        "archive": Level.MANAGE,
        "restore": Level.MANAGE,
    }
    serializer_class = ExperimentSerializer
    progress_fields = frozenset({"recomputation"})
    search_parameters = SearchParameters.sortable_by(("created_at", "name", "public"))
    filter_example = {"tags": "production", "created_at": {"$gte": "2026-01-01"}}
    conflict = "An experiment with this name already exists. Choose another name."

    def get_queryset(self) -> ExperimentQuerySet:
        return Experiment.objects.visible_to(self.identity)

    def filter_fields(self) -> Mapping[str, Field]:
        return {
            **FIELDS,
            "permissions": ObjectListField("permissions", PERMISSION_FIELDS, guard=granted_to(self.identity)),
        }

    @responds(201, 409)
    @idempotent
    @tagged
    def create(self, request: Request) -> JSONResponse:
        """Create an experiment. Its creator is its first manager."""
        return self.save(self.get_serializer(data=self.body), 201)

    def check_created(self, created: Any) -> None:
        experiment = existing(Experiment.objects.reference_to(uuid.UUID(created["id"])))
        # The level that creating an experiment gives.
        require_level(self.identity, experiment, Level.MANAGE)

    @tagged
    def retrieve(self, request: Request, experiment_id: str) -> JSONResponse:
        """Read one experiment."""
        return JSONResponse(self.get_serializer(self.get_experiment()).data)

    @responds(200, 409)
    @conditional
    @tagged
    def update(self, request: Request, experiment_id: str) -> JSONResponse:
        """Replace an experiment. `public` and `permissions` take their defaults if they are omitted.

        Other omitted fields keep their values; null clears them. The caller stays a manager.
        """
        return self.save(self.get_serializer(self.get_experiment(), data=self.body))

    @responds(200, 409)
    @conditional
    @tagged
    def partial_update(self, request: Request, experiment_id: str) -> JSONResponse:
        """Change fields of an experiment. The others keep their values. The caller stays a manager."""
        return self.save(self.get_serializer(self.get_experiment(), data=self.body, partial=True))

    @responds(204)
    @conditional
    def destroy(self, request: Request, experiment_id: str) -> NoContent:
        """Move the experiment with all of its drift runs to the trash.

        From then on, every request for it is a 404, and its name is free. For `TRASH_DAYS` it can be restored.
        """
        self.get_experiment().delete_by(self.identity)
        return NoContent()

    @extend_schema(request=None)
    @tagged
    def archive(self, request: Request, experiment_id: str) -> JSONResponse:
        """Archive the experiment. Pages list it only under Archived; the API treats it as any other.

        If it is archived already, it keeps its `archived_at`.
        """
        experiment = self.get_experiment()
        experiment.archive_by(self.identity)
        return JSONResponse(self.get_serializer(experiment).data)

    @extend_schema(request=None)
    @responds(200, 409)
    @tagged
    def restore(self, request: Request, experiment_id: str) -> JSONResponse:
        """Restore an archived experiment, or one from the trash with all of its runs.

        An experiment from the trash returns as it was, archived or not. An experiment that is neither archived nor in
        the trash stays as it is. The response is 409 if another experiment has taken the name of the one in the trash.
        """
        experiment = Experiment.objects.by_id(self.experiment_id)
        if experiment is None:
            experiment = restored_from_trash(self.experiment_id, self.identity)
        else:
            self.permitted(experiment).restore_by(self.identity)
        return JSONResponse(self.get_serializer(experiment).data)


class AccessView(ExperimentResource):
    """Explain, preview and hand over access to an experiment."""

    resource = "access"
    required_levels = {
        "retrieve": Level.READ,
        "retrieve_of_entity": Level.MANAGE,
        "preview": Level.MANAGE,
        "handover": Level.MANAGE,
    }
    serializer_class = AccessSerializer
    conflict = "Someone else changed the permissions. Read the experiment, then send the transfer again."

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "entity", description="A user id, the email of a registered user, or an entitlement. For managers only."
            )
        ]
    )
    @responds(200, 422)
    def retrieve(self, request: Request, experiment_id: str) -> JSONResponse:
        """Read your level on the experiment and the reasons for it; with `entity`, those of somebody else.

        For others, only direct, named-group and public reasons are known: their groups are in their own tokens.
        """
        entity = request.query_params.get("entity")
        if entity is None:
            return JSONResponse(self.get_serializer(access_of(self.get_experiment(), self.identity)).data)
        self.action = "retrieve_of_entity"
        experiment = self.get_experiment()
        return JSONResponse(self.get_serializer(access_of_entity(experiment, self.named(entity, experiment))).data)

    def named(self, entity: str, experiment: Experiment) -> str:
        if problem := text_problem(entity) or (None if entity else "Name an entity."):
            raise InvalidQuery({"entity": [problem]})
        try:
            return named_entity(entity, self.identity, self.identity.entitlements | entities_of(experiment))
        except UnknownUser as error:
            raise InvalidQuery({"entity": [str(error)]}) from error

    @extend_schema(request=SharingSerializer(partial=True))
    @responds(200, serializer=PreviewSerializer)
    def preview(self, request: Request, experiment_id: str) -> JSONResponse:
        """List who would gain and who would lose access by an update to these `permissions` and `public`.

        Nothing is saved. The preview is refused in the same cases as the update. A caller who is not an
        administrator stays a manager.
        """
        experiment = self.get_experiment()
        context = self.get_serializer_context()
        wanted = SharingSerializer(experiment, data=self.body, partial=True, context=context)
        wanted.is_valid(raise_exception=True)
        return JSONResponse(PreviewSerializer(wanted.preview()).data)

    @extend_schema(request=HandoverSerializer)
    @responds(200, 409, serializer=ExperimentSerializer)
    def handover(self, request: Request, experiment_id: str) -> JSONResponse:
        """Make another registered user a manager, and keep the level `keep` yourself, or none.

        Your levels through groups stay. If another request has changed the permissions, the response is 409 and
        nothing changes.
        """
        experiment = self.get_experiment()
        wanted = HandoverSerializer(data=self.body, context=self.get_serializer_context())
        wanted.is_valid(raise_exception=True)
        try:
            experiment.hand_over(self.identity, wanted.validated_data["entity"], wanted.validated_data["keep"])
        except VersionConflict as error:
            raise Conflict(self.conflict) from error
        return JSONResponse(ExperimentSerializer(experiment, context=self.get_serializer_context()).data)


def id_in_path(text: str) -> uuid.UUID:
    """Parse an id from a path. Raises `Http404` if it is not a UUID."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Http404(f"{text!r} is not an id: ids are UUIDs.") from None
