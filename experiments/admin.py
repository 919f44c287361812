"""Experiments in the admin portal."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.identity import Identity, Standing
from accounts.sessions import identity_of_session
from audit.models import Action
from driftwatch import timestamps
from driftwatch.announcing import AnnouncingAdmin
from driftwatch.portal_filters import PeriodFilter, TextFilter
from experiments.models import Experiment, ExperimentQuerySet, Level, with_manager


class TagFilter(TextFilter):
    title = "tag"
    parameters = ("tag",)

    def condition(self, text: str) -> dict[str, Any]:
        return {"tags": text}


class ArchivedFilter(admin.SimpleListFilter):
    title = "archived"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "No"), ("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Experiment]) -> QuerySet[Experiment]:
        assert isinstance(queryset, ExperimentQuerySet)
        return queryset.archived(self.value() == "yes") if self.value() in ("yes", "no") else queryset


@admin.register(Experiment)
class ExperimentAdmin(AnnouncingAdmin):
    required_levels = {"view": Level.READ, "add": Standing.STAFF, "change": Level.MANAGE, "delete": Level.MANAGE}
    list_display = ("name", "public", "is_archived", "tag_list", "runs", "created_at", "updated_at")
    list_filter = ("public", ArchivedFilter, TagFilter, PeriodFilter)
    search_fields = ("name", "description")
    search_help_text = "Name or description"
    ordering = ("-created_at", "-pk")
    sortable_by = ("name", "public", "created_at")
    actions = ("archive", "restore", "publish", "make_private")
    fields = (
        "id",
        "name",
        "description",
        "public",
        "tags",
        "config",
        "permissions",
        "archived_at",
        "created_at",
        "updated_at",
        "runs",
    )
    readonly_fields = ("id", "archived_at", "created_at", "updated_at", "runs")

    def get_fields(self, request: HttpRequest, obj: Experiment | None = None) -> tuple[str, ...]:
        """Who holds no level by the list, as everybody of a public experiment, does not see it."""
        if obj is None:
            return tuple(name for name in self.fields if name not in self.readonly_fields)
        if obj.level_of(identity := identity_of_session(request)) is Level.MANAGE:
            return self.fields
        shown = "permission_table" if obj.shows_permissions_to(identity) else None
        names = (shown if name == "permissions" else name for name in self.fields)
        return tuple(name for name in names if name)

    def get_readonly_fields(self, request: HttpRequest, obj: Experiment | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "permission_table")

    def get_queryset(self, request: HttpRequest) -> ExperimentQuerySet:
        return Experiment.objects.visible_to(identity_of_session(request)).order_by(*self.ordering)

    def level_on(self, experiment: Experiment, identity: Identity) -> Level | None:
        return experiment.level_of(identity)

    @admin.display(description="tags")
    def tag_list(self, experiment: Experiment) -> str:
        return ", ".join(experiment.tags)

    @admin.display(description="archived", boolean=True)
    def is_archived(self, experiment: Experiment) -> bool:
        return experiment.archived_at is not None

    @admin.display(description="drift runs")
    def runs(self, experiment: Experiment) -> SafeString:
        address = reverse("admin:drifts_drift_changelist", query={"experiment": experiment.pk})
        return format_html('<a href="{}">Drift runs</a>', address)

    @admin.display(description="permissions")
    def permission_table(self, experiment: Experiment) -> SafeString:
        rows = ((entry.entity, entry.level) for entry in experiment.permissions)
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {}</li>", rows))

    @admin.action(description="Archive the selected experiments")
    def archive(self, request: HttpRequest, queryset: ExperimentQuerySet) -> None:
        self.change_each(request, queryset, "Archived", Experiment.archive_by)

    @admin.action(description="Restore the selected experiments")
    def restore(self, request: HttpRequest, queryset: ExperimentQuerySet) -> None:
        self.change_each(request, queryset, "Restored", Experiment.restore_by)

    @admin.action(description="Make the selected experiments public")
    def publish(self, request: HttpRequest, queryset: ExperimentQuerySet) -> None:
        self.change_each(request, queryset, "Made public", lambda it, identity: it.update_by(identity, public=True))

    @admin.action(description="Make the selected experiments private")
    def make_private(self, request: HttpRequest, queryset: ExperimentQuerySet) -> None:
        self.change_each(request, queryset, "Made private", lambda it, identity: it.update_by(identity, public=False))

    def change_each(
        self,
        request: HttpRequest,
        queryset: ExperimentQuerySet,
        done: str,
        change: Callable[[Experiment, Identity], None],
    ) -> None:
        """Change those of them that the session may change, and tell of both."""
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
            self.message_user(request, f"{done}: {changed}.")
        if refused:
            names = ", ".join(refused[:10])
            problem = f"Left as they are, since you do not manage them or they are being deleted: {names}."
            self.message_user(request, problem, messages.WARNING)

    def save_model(self, request: HttpRequest, experiment: Experiment, form: Any, change: bool) -> None:
        identity = identity_of_session(request)
        # As everywhere, only administrators take themselves off the list.
        if not (change and identity.is_admin):
            experiment.permissions = with_manager(experiment.permissions, identity)
        experiment.updated_at = timestamps.now()
        super().save_model(request, experiment, form, change)

    def delete_model(self, request: HttpRequest, experiment: Experiment) -> None:
        experiment.delete_by(identity_of_session(request), Action.ADMIN_DELETED)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Count what goes along instead of listing it: an experiment may have a million runs."""
        experiments = list(objs)
        runs = sum(experiment.count_runs() for experiment in experiments)
        names = [f"Experiment: {experiment}" for experiment in experiments]
        # What the session may not delete.
        kept = {str(self.opts.verbose_name) for each in experiments if not self.has_delete_permission(request, each)}
        return names, {"experiments": len(experiments), "drift runs": runs}, kept, []
