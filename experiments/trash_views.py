"""The API view of the trash."""

from collections.abc import Mapping

from rest_framework.request import Request

from core.api.responses import JSONResponse
from core.api.search import SearchMixin, SearchParameters
from core.filters.fields import Field, NumberField, ObjectField, ObjectListField, StringField, TimeField, UUIDField
from core.identity import Requirement
from experiments.models import DeletedExperiment, DeletedExperimentQuerySet
from experiments.serializers import DeletedExperimentSerializer
from experiments.views import FIELDS as EXPERIMENT_FIELDS
from experiments.views import PERMISSION_FIELDS

DELETER: Mapping[str, Field] = {"user_id": UUIDField("user_id"), "name": StringField("name")}
FIELDS: Mapping[str, Field] = {
    **EXPERIMENT_FIELDS,
    # Each result is managed by the caller, who may see its permissions.
    "permissions": ObjectListField("permissions", PERMISSION_FIELDS, guard={}),
    "deleted_at": TimeField("deleted_at"),
    "deleted_by": ObjectField("deleted_by", DELETER),
    "runs": NumberField("runs"),
}


class TrashView(SearchMixin):
    """Search the trash."""

    resource = "trash"
    tag = "experiment"
    required_levels = {"search": Requirement.REGISTERED}
    serializer_class = DeletedExperimentSerializer
    search_parameters = SearchParameters.sortable_by(("deleted_at", "name", "created_at"))
    filter_example = {"name": "wine quality", "deleted_at": {"$gte": "2026-01-01"}}

    def get_queryset(self) -> DeletedExperimentQuerySet:
        return DeletedExperiment.objects.managed_by(self.identity)

    def filter_fields(self) -> Mapping[str, Field]:
        return FIELDS

    def search(self, request: Request, **path: str) -> JSONResponse:
        """Search the trash. The response is one page of the deleted experiments that the caller may restore.

        These are the experiments that the caller managed, and all of them for administrators. `purge_at` is when an
        experiment is removed for good, `runs` the number of its runs at the deletion. Filters name the fields of
        experiments, `deleted_at`, `deleted_by.user_id`, `deleted_by.name` and `runs`.
        """
        return super().search(request, **path)
