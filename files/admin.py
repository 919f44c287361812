"""Files of runs in the admin portal."""

from django.contrib import admin
from django.db.models import Prefetch
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.audited_admin import AuditedAdmin
from core.identity import Identity, Level, identity_of_session
from drifts.admin import ExperimentFilter
from experiments.models import Experiment
from experiments.portal import ExperimentLevels
from files.models import RunFile, RunFileQuerySet


@admin.register(RunFile)
class RunFileAdmin(ExperimentLevels, AuditedAdmin):
    """Lists files, read-only. Deleting one requires Edit on its experiment; adding one is for its run's page."""

    required_levels = {"view": Level.READ, "add": None, "change": None, "delete": Level.EDIT}
    list_display = ("name", "content_type", "shown_size", "added", "experiment_link", "run_link")
    list_filter = (ExperimentFilter,)
    list_prefetch_related = (Prefetch("experiment", Experiment.objects.without_large_fields()),)
    ordering = ("-created_at", "-pk")
    sortable_by = ("added",)
    fields = (
        "name",
        "content_type",
        "size",
        "sha256",
        "created_at",
        "created_by",
        "experiment_link",
        "run_link",
        "download",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> RunFileQuerySet:
        return RunFile.objects.visible_to(identity_of_session(request)).order_by(*self.ordering)

    def gives(self, file: RunFile, identity: Identity, level: Level) -> bool:
        return file.experiment.gives(identity, level)

    def view_on_site(self, file: RunFile) -> str:
        return reverse("run-file", args=[file.experiment_id, file.drift_id, file.pk])

    def delete_model(self, request: HttpRequest, obj: RunFile) -> None:
        """Delete the file with its content."""
        obj.delete_by(identity_of_session(request))

    @admin.display(description="size", ordering="size")
    def shown_size(self, file: RunFile) -> str:
        return filesizeformat(file.size)

    @admin.display(description="added (UTC)", ordering="created_at")
    def added(self, file: RunFile) -> str:
        return f"{file.created_at:%Y-%m-%d %H:%M}"

    @admin.display(description="experiment")
    def experiment_link(self, file: RunFile) -> SafeString:
        address = reverse("admin:experiments_experiment_change", args=[file.experiment_id])
        return format_html('<a href="{}">{}</a>', address, file.experiment.name)

    @admin.display(description="run")
    def run_link(self, file: RunFile) -> SafeString:
        address = reverse("admin:drifts_drift_change", args=[file.drift_id])
        return format_html('<a href="{}">Run</a>', address)

    @admin.display(description="content")
    def download(self, file: RunFile) -> SafeString:
        return format_html(
            '<a href="{}">Download</a>', reverse("file", args=[file.experiment_id, file.drift_id, file.pk])
        )
