"""Drift runs in the admin portal."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from drifts.models import Drift, DriftQuerySet
from drifts.verdict import Verdict
from driftwatch import timestamps
from driftwatch.announcing import AnnouncingAdmin


class VerdictFilter(admin.SimpleListFilter):
    title = "verdict"
    parameter_name = "verdict"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(Verdict.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Drift]) -> QuerySet[Drift]:
        assert isinstance(queryset, DriftQuerySet)
        verdict = self.value()
        return queryset.with_verdict(Verdict(verdict)) if verdict in set(Verdict) else queryset


@admin.register(Drift)
class DriftAdmin(AnnouncingAdmin):
    list_display = ("model", "experiment", "job_status", "verdict", "detector", "tag_list", "created_at")
    list_filter = (VerdictFilter, "job_status", "created_at")
    list_select_related = ("experiment",)
    search_fields = ("model", "detector", "environment")
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-pk")
    show_full_result_count = False
    raw_id_fields = ("experiment",)
    fields = (
        "id",
        "experiment",
        "job_status",
        "model",
        "drift_detected",
        "verdict",
        "parameters",
        "tags",
        "detector",
        "environment",
        "model_version",
        "schema_version",
        "created_at",
        "updated_at",
    )
    readonly_fields = ("id", "verdict", "schema_version", "created_at", "updated_at")

    @admin.display(description="tags")
    def tag_list(self, drift: Drift) -> str:
        return ", ".join(drift.tags)

    @admin.display
    def verdict(self, drift: Drift) -> str:
        return drift.verdict.label

    def save_model(self, request: HttpRequest, drift: Drift, form: Any, change: bool) -> None:
        drift.updated_at = timestamps.now()
        super().save_model(request, drift, form, change)
