"""The pages of the trash: deleted experiments, which can be restored, and removed for good by administrators."""

import uuid

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from rest_framework.request import Request

from core.api.exceptions import Conflict
from core.api.search import bounded_time
from core.identity import Level, Requirement
from core.mongodb.documents import instances_of
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.totals import total_of
from experiments.models import DeletedExperiment
from experiments.views import id_in_path, restored_from_trash
from pages.experiments import PAGE_SIZE, PageParameters, list_parameters
from pages.page import Page

LAST_DELETED = Order.by("deleted_at", is_descending=True)
SHAPE: list[Mql] = [{"$unset": ["config", "description", "permissions"]}]
ADVICE = "choose an earlier page"


class TrashPage(Page):
    """The deleted experiments that the caller may restore."""

    resource = "trash-page"
    required_levels = {
        "list": Requirement.REGISTERED,
        "restore": Level.MANAGE,
        "confirm": Requirement.ADMIN,
        "destroy": Requirement.ADMIN,
    }

    def list(self, request: Request) -> HttpResponse:
        """Show one page of the trash, with the last deletion first."""
        page = list_parameters(PageParameters, request)["page"]
        trash = DeletedExperiment.objects.managed_by(self.identity)
        with bounded_time(ADVICE):
            found, _ = trash.sorted_slice(LAST_DELETED, PAGE_SIZE + 1, start=(page - 1) * PAGE_SIZE, shape=SHAPE)
            total = total_of(trash)
        return self.show(
            "trash.html",
            experiments=list(instances_of(DeletedExperiment, found[:PAGE_SIZE])),
            total=total,
            page=page,
            previous_page=page - 1,
            next_page=page + 1 if len(found) > PAGE_SIZE else None,
            may_purge=self.identity.has(Requirement.ADMIN),
        )

    def restore(self, request: Request, deleted_id: str) -> HttpResponse:
        """Restore an experiment, and show it. If its name is taken, the trash says so."""
        try:
            experiment = restored_from_trash(id_in_path(deleted_id), self.identity)
        except Conflict as error:
            messages.error(request._request, str(error))
            return redirect("trash")
        messages.success(request._request, f"“{experiment}” was restored with its runs.")
        return redirect("experiment", experiment.pk)

    def confirm(self, request: Request, deleted_id: str) -> HttpResponse:
        """Ask whether to remove an experiment for good."""
        return self.show("trash_delete.html", experiment=self.get_deleted(id_in_path(deleted_id)))

    def destroy(self, request: Request, deleted_id: str) -> HttpResponse:
        """Remove an experiment for good, before its time is over."""
        deleted = self.get_deleted(id_in_path(deleted_id))
        deleted.purge_by(self.identity)
        messages.success(request._request, f"“{deleted}” is removed for good. Its runs follow within minutes.")
        return redirect("trash")

    def get_deleted(self, pk: uuid.UUID) -> DeletedExperiment:
        deleted = DeletedExperiment.objects.one_managed_by(self.identity, pk)
        if deleted is None:
            raise Http404
        return deleted
