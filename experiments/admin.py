"""Experiments in the admin portal."""

import datetime
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import model_ngettext
from django.db import IntegrityError
from django.db.models import JSONField, QuerySet, TextField
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django_mongodb_backend.fields import ArrayField, EmbeddedModelArrayField

from audit.audited_admin import AuditedAdmin
from audit.models import Action
from core.identity import Identity, Level, Requirement, identity_of_session
from core.portal.changelists import BoundedChangeList
from core.portal.filters import PeriodFilter, TagFilter
from core.portal.forms import JSONText, LinesWidget, TagsField
from core.portal.permissions import GuardedAdmin
from core.tags import written_tags
from experiments import admin_users  # noqa: F401 - adds its parts to the page of a user
from experiments.admin_forms import KEEP_EDITING, NOT_SAVED, ExperimentForm, PermissionsField
from experiments.models import (
    DeletedExperiment,
    DeletedExperimentQuerySet,
    Experiment,
    ExperimentFields,
    ExperimentQuerySet,
    restorable_until,
)
from experiments.portal import ExperimentLevels
from experiments.run_rules import Recomputation
from experiments.sharing import Preview, access_of, holders

# The rules for runs are read-only: a changed rule starts background work, as `Experiment.update_by` does. The settings
# page shows how many runs fewer days would remove, before it saves them.
RULES = ("series_names", "mapped_fields", "run_timeout", "retention_days", "recomputation_progress")
# Django shows a dash for a null field, but "None" for a method that returns None.
NONE = SafeString("-")
CONFIRMED = "_confirmed"
# The form fields that the confirmation does not send again.
UNSENT = ("csrfmiddlewaretoken", CONFIRMED, KEEP_EDITING)


class ArchivedFilter(admin.SimpleListFilter):
    title = "archived"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "No"), ("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Experiment]) -> QuerySet[Experiment]:
        assert isinstance(queryset, ExperimentQuerySet)
        return queryset.archived(self.value() == "yes") if self.value() in ("yes", "no") else queryset


class ExperimentChangeList(BoundedChangeList):
    """Reads the summaries of all experiments of a page by one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        summaries = Experiment.runs().summaries_of([experiment.pk for experiment in self.result_list])
        experiment: Any
        for experiment in self.result_list:
            experiment.summary = summaries[experiment.pk]


class Unconfirmed(Exception):
    """Raised if saving would change access: the preview is shown first."""

    def __init__(self, preview: Preview) -> None:
        self.preview = preview


@admin.register(Experiment)
class ExperimentAdmin(ExperimentLevels, AuditedAdmin):
    """Experiments in the portal, each for the users with the required level on it."""

    required_levels = {"view": Level.READ, "add": Requirement.STAFF, "change": Level.MANAGE, "delete": Level.MANAGE}
    list_display = ("name", "visibility", "tag_list", "runs", "last_run", "created_at")
    list_per_page = 25
    list_filter = ("public", ArchivedFilter, TagFilter, PeriodFilter)
    list_deferred = ("description", "config")
    search_fields = ("name", "description")
    search_help_text = "Name or description"
    ordering = ("-created_at", "-pk")
    sortable_by = ("name", "visibility", "created_at")
    form = ExperimentForm
    formfield_overrides = {
        EmbeddedModelArrayField: {"form_class": PermissionsField},
        ArrayField: {"form_class": TagsField},
        JSONField: {"form_class": JSONText},
        TextField: {"widget": LinesWidget},
    }
    actions = ("archive", "restore", "publish", "make_private")
    fields = (
        "id",
        "name",
        "description",
        "public",
        "tags",
        "config",
        "permissions",
        *RULES,
        "archived_at",
        "created_at",
        "updated_at",
        "runs_link",
    )
    readonly_fields = ("id", *RULES, "archived_at", "created_at", "updated_at", "runs_link")

    def get_fields(self, request: HttpRequest, obj: Experiment | None = None) -> tuple[str, ...]:
        """Leave out the permissions for users who have only public access, and a configuration that is too large."""
        if obj is None:
            return tuple(name for name in self.fields if name not in self.readonly_fields)
        replaced: dict[str, str | None] = {"config": "large_config"} if obj.config_text() is None else {}
        if obj.level_of(identity := identity_of_session(request)) is not Level.MANAGE:
            replaced["permissions"] = "permission_table" if obj.shows_permissions_to(identity) else None
        names = (replaced.get(name, name) for name in self.fields)
        return tuple(name for name in names if name)

    def get_readonly_fields(self, request: HttpRequest, obj: Experiment | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "permission_table", "large_config")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Let a link fill in the form of a new experiment, except for its permissions."""
        return {name: value for name, value in request.GET.items() if name != "permissions"}

    def get_queryset(self, request: HttpRequest) -> ExperimentQuerySet:
        return Experiment.objects.visible_to(identity_of_session(request)).order_by(*self.ordering)

    def gives(self, experiment: Experiment, identity: Identity, level: Level) -> bool:
        return experiment.gives(identity, level)

    def view_on_site(self, experiment: Experiment) -> str:
        return reverse("experiment", args=[experiment.pk])

    @admin.display(description="tags")
    def tag_list(self, experiment: Experiment) -> str:
        return written_tags(experiment.tags)

    @admin.display(ordering="public")
    def visibility(self, experiment: Experiment) -> str:
        visibility = "Public" if experiment.public else "Private"
        return f"{visibility}, archived" if experiment.archived_at else visibility

    @admin.display(description="runs")
    def runs(self, experiment: Any) -> SafeString:
        address = reverse("admin:drifts_drift_changelist", query={"experiment": experiment.pk})
        return format_html('<a href="{}">{}</a>', address, experiment.summary.runs)

    @admin.display(empty_value="Never")
    def last_run(self, experiment: Any) -> datetime.datetime | None:
        return experiment.summary.last_run

    @admin.display(description="drift runs")
    def runs_link(self, experiment: Experiment) -> SafeString:
        address = reverse("admin:drifts_drift_changelist", query={"experiment": experiment.pk})
        return format_html('<a href="{}">Show drift runs</a>', address)

    @admin.display(description="series by")
    def series_names(self, experiment: Experiment) -> str:
        return ", ".join(experiment.run_rules.series_by)

    @admin.display(description="field map")
    def mapped_fields(self, experiment: Experiment) -> SafeString:
        return format_html_join(SafeString("<br>"), "{}: {}", experiment.run_rules.field_map) or NONE

    @admin.display(description="recomputation")
    def recomputation_progress(self, experiment: Experiment) -> str:
        if experiment.recomputation is None:
            return NONE
        progress = Recomputation.of(experiment.recomputation)
        runs = f"{progress.done:,} of {progress.total:,} runs"
        return f"{runs} by the new {progress.field}, since {progress.started_at:%Y-%m-%d %H:%M} UTC"

    @admin.display(description="access")
    def permission_table(self, experiment: Experiment) -> SafeString:
        return permission_table(experiment)

    @admin.display(description="configuration (JSON)")
    def large_config(self, experiment: Experiment) -> str:
        return "Too large to edit here. Change it with the API."

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        return ExperimentChangeList

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().change_view(request, object_id, *args, **kwargs)
        except Unconfirmed as unconfirmed:
            return self.confirmation(request, object_id, unconfirmed.preview)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show “Not saved yet.” as a notice if the form has no error to correct."""
        if list(context["errors"]) == [[NOT_SAVED]]:
            context["errors"] = []
            self.message_user(request, NOT_SAVED, messages.WARNING)
        return super().render_change_form(request, context, *args, **kwargs)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        if change:
            preview = form.preview()
            if preview.is_change and request.POST.get(CONFIRMED) != preview.confirmation:
                raise Unconfirmed(preview)
        return super().save_form(request, form, change)

    def confirmation(self, request: HttpRequest, pk: str, preview: Preview) -> HttpResponse:
        """Show the changes, in a form that sends all submitted fields again."""
        sent = [(name, value) for name, values in request.POST.lists() if name not in UNSENT for value in values]
        experiment = self.get_object(request, pk)
        assert experiment is not None
        context = {
            **self.admin_site.each_context(request),
            "title": f"Review changes to {experiment}",
            "experiment": experiment,
            "preview": preview,
            "own": access_of(experiment, identity_of_session(request)),
            "sent": [*sent, (CONFIRMED, preview.confirmation)],
        }
        return TemplateResponse(request, "admin/experiments/confirm.html", context)

    @admin.action(permissions=["change"], description="Archive the selected experiments")
    def archive(self, request: HttpRequest, queryset: ExperimentQuerySet) -> None:
        self.change_each(request, queryset, "archived", Experiment.archive_by)

    @admin.action(permissions=["change"], description="Restore the selected experiments")
    def restore(self, request: HttpRequest, queryset: ExperimentQuerySet) -> None:
        self.change_each(request, queryset, "restored", Experiment.restore_by)

    @admin.action(permissions=["change"], description="Make the selected experiments public")
    def publish(self, request: HttpRequest, queryset: ExperimentQuerySet) -> None:
        self.change_each(request, queryset, "made public", lambda it, identity: it.update_by(identity, public=True))

    @admin.action(permissions=["change"], description="Make the selected experiments private")
    def make_private(self, request: HttpRequest, queryset: ExperimentQuerySet) -> None:
        self.change_each(request, queryset, "made private", lambda it, identity: it.update_by(identity, public=False))

    def change_each(
        self,
        request: HttpRequest,
        queryset: ExperimentQuerySet,
        done: str,
        change: Callable[[Experiment, Identity], None],
    ) -> None:
        """Change the experiments that the user may change, and report how many were changed and refused."""
        identity, changed, refused = identity_of_session(request), 0, []
        for experiment in queryset:
            if not self.has_change_permission(request, experiment):
                refused.append(experiment.name)
                continue
            try:
                change(experiment, identity)
            except Experiment.DoesNotExist:
                refused.append(experiment.name)
            else:
                changed += 1
        if changed:
            self.message_user(request, f"{changed} {model_ngettext(self.opts, changed)} {done}.")
        if refused:
            names = ", ".join(refused[:10])
            problem = f"Not changed, because you do not manage them or they are deleted: {names}."
            self.message_user(request, problem, messages.WARNING)

    def delete_model(self, request: HttpRequest, experiment: Experiment) -> None:
        experiment.delete_by(identity_of_session(request), Action.ADMIN_DELETED)

    @property
    def deletion_note(self) -> str:  # type: ignore[override]
        until = restorable_until()
        return (
            f"It can be restored from the trash until {until:%Y-%m-%d %H:%M} UTC." if until else super().deletion_note
        )

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Count the runs that are deleted too, instead of listing them: an experiment may have a million."""
        experiments = list(objs)
        runs = sum(experiment.count_runs() for experiment in experiments)
        names = [f"Experiment: {experiment}" for experiment in experiments]
        protected = {
            str(self.opts.verbose_name) for each in experiments if not self.has_delete_permission(request, each)
        }
        return names, {"experiments": len(experiments), "drift runs": runs}, protected, []


@admin.register(DeletedExperiment)
class TrashAdmin(GuardedAdmin):
    """The experiments in the trash, each for those who managed it. Only administrators delete one before its time."""

    required_levels = {"view": Level.READ, "add": None, "change": None, "delete": Requirement.ADMIN}
    list_display = ("name", "runs", "deleted_at", "deleted_by", "kept_until")
    list_per_page = 25
    list_deferred = ("description", "config")
    search_fields = ("name", "description")
    search_help_text = "Name or description"
    ordering = ("-deleted_at", "-created_at", "-pk")
    sortable_by = ("name", "deleted_at")
    actions = ("restore",)
    fields = (
        "id",
        "name",
        "description",
        "public",
        "tag_list",
        "permission_table",
        "archived_at",
        "created_at",
        "updated_at",
        "runs",
        "deleted_at",
        "deleted_by",
        "kept_until",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> DeletedExperimentQuerySet:
        return DeletedExperiment.objects.managed_by(identity_of_session(request)).order_by(*self.ordering)

    def gives(self, deleted: DeletedExperiment, identity: Identity, level: Level) -> bool:
        """Return whether the identity managed it, whatever the level: others do not see it."""
        return deleted.gives(identity, Level.MANAGE)

    @admin.display(description="tags")
    def tag_list(self, deleted: DeletedExperiment) -> str:
        return written_tags(deleted.tags)

    @admin.display(description="access")
    def permission_table(self, deleted: DeletedExperiment) -> SafeString:
        return permission_table(deleted)

    @admin.display(description="kept until")
    def kept_until(self, deleted: DeletedExperiment) -> str:
        return f"{deleted.purge_at:%Y-%m-%d %H:%M} UTC"

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        if "delete_selected" in actions:
            function, name, _ = actions["delete_selected"]
            actions["delete_selected"] = (function, name, "Delete the selected experiments now")
        return actions

    @admin.action(description="Restore the selected experiments")
    def restore(self, request: HttpRequest, queryset: DeletedExperimentQuerySet) -> None:
        identity, restored, refused = identity_of_session(request), 0, []
        for deleted in queryset.without_large_fields():
            try:
                deleted.restore_by(identity)
            except (DeletedExperiment.DoesNotExist, IntegrityError):
                refused.append(deleted.name)
            else:
                restored += 1
        if restored:
            self.message_user(request, f"{restored} {model_ngettext(Experiment._meta, restored)} restored.")
        if refused:
            names = ", ".join(refused[:10])
            problem = f"Not restored, because another experiment has the name, or it has left the trash: {names}."
            self.message_user(request, problem, messages.WARNING)

    def delete_model(self, request: HttpRequest, deleted: DeletedExperiment) -> None:
        try:
            deleted.purge_by(identity_of_session(request))
        except DeletedExperiment.DoesNotExist as error:
            raise Http404 from error

    def delete_queryset(self, request: HttpRequest, queryset: DeletedExperimentQuerySet) -> None:  # type: ignore[override]
        for deleted in queryset.without_large_fields():
            with suppress(Http404):
                self.delete_model(request, deleted)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Count the runs that are deleted too."""
        experiments = list(objs)
        runs = sum(deleted.runs for deleted in experiments)
        protected = set() if self.has_delete_permission(request) else {str(self.opts.verbose_name)}
        names = [f"Experiment: {deleted}" for deleted in experiments]
        return names, {"experiments": len(experiments), "drift runs": runs}, protected, []


def permission_table(experiment: ExperimentFields) -> SafeString:
    """List the entries of a permission list."""
    known = holders(entry.entity for entry in experiment.permissions)
    rows = ((known[entry.entity], entry.level) for entry in experiment.permissions)
    return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {}</li>", rows))
