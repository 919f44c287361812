"""Experiments in the admin portal."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from driftwatch import timestamps
from experiments.models import Experiment


@admin.register(Experiment)
class ExperimentAdmin(admin.ModelAdmin):
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
        experiment.save()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Experiment]) -> None:
        """Each in a transaction with its runs, as everywhere."""
        for experiment in queryset:
            experiment.delete()

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Count what goes along instead of listing it: an experiment may have a million runs."""
        experiments = list(objs)
        runs = sum(experiment.drifts.count() for experiment in experiments)
        names = [f"Experiment: {experiment}" for experiment in experiments]
        return names, {"experiments": len(experiments), "drift runs": runs}, set(), []
