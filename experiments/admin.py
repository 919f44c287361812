"""Experiments in the admin portal."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from accounts.sessions import identity_of_session
from audit.models import Action
from driftwatch import timestamps
from driftwatch.announcing import AnnouncingAdmin
from experiments.models import Experiment


@admin.register(Experiment)
class ExperimentAdmin(AnnouncingAdmin):
    list_display = ("name", "public", "tag_list", "created_at", "updated_at")
    list_filter = ("public", "created_at")
    search_fields = ("name", "description")
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-pk")
    show_full_result_count = False
    fields = ("id", "name", "description", "public", "tags", "config", "permissions", "created_at", "updated_at")
    readonly_fields = ("id", "created_at", "updated_at")

    @admin.display(description="tags")
    def tag_list(self, experiment: Experiment) -> str:
        return ", ".join(experiment.tags)

    def save_model(self, request: HttpRequest, experiment: Experiment, form: Any, change: bool) -> None:
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
        return names, {"experiments": len(experiments), "drift runs": runs}, set(), []
