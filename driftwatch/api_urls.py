"""URLs of version 1 of the API."""

from typing import Any

from django.urls import path
from drf_spectacular.views import SpectacularSwaggerSplitView

from accounts.token_views import TokenRefreshView, TokenView
from accounts.views import EntitlementView, UserView
from audit.views import AuditExportView, AuditView
from core.api.error_pages import read_only
from core.api.openapi_view import DocumentView
from core.api.throttling import RequestLimit
from drifts.bulk import DriftBulkView
from drifts.export_views import DriftExportView
from drifts.retention_views import RetentionView
from drifts.series_views import SeriesView
from drifts.statistics_views import DriftStatisticsView, VisibleDriftStatisticsView
from drifts.views import DriftView, VisibleDriftView
from experiments.audit_views import ExperimentAuditView
from experiments.trash_views import TrashView
from experiments.views import AccessView, ExperimentView
from files.views import FileView

ONE: Any = {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}
RUN = "experiment/<str:experiment_id>/drift/<str:drift_id>"
LIMITED: Any = {"throttle_classes": [RequestLimit]}

urlpatterns = [
    # Django tries the patterns in order: the most frequent requests come first.
    path("experiment/<str:experiment_id>/drift", DriftView.as_view({"post": "create"})),
    path("experiment/<str:experiment_id>/drift/bulk", DriftBulkView.as_view({"post": "bulk"})),
    path("experiment/<str:experiment_id>/drift/search", DriftView.as_view({"post": "search"})),
    path("experiment/<str:experiment_id>/drift/stats", DriftStatisticsView.as_view({"post": "stats"})),
    path(RUN, DriftView.as_view(ONE)),
    path(f"{RUN}/heartbeat", DriftView.as_view({"post": "heartbeat"})),
    path(f"{RUN}/file", FileView.as_view({"post": "create", "get": "list"})),
    path(f"{RUN}/file/<str:file_id>", FileView.as_view({"get": "retrieve", "delete": "destroy"}), name="file"),
    path("experiment/<str:experiment_id>/series/search", SeriesView.as_view({"post": "search"})),
    path("experiment", ExperimentView.as_view({"post": "create"})),
    path("experiment/search", ExperimentView.as_view({"post": "search"})),
    path("experiment/trash/search", TrashView.as_view({"post": "search"})),
    path("experiment/<str:experiment_id>", ExperimentView.as_view(ONE)),
    path("experiment/<str:experiment_id>/export", DriftExportView.as_view({"get": "export"}), name="experiment-export"),
    path("experiment/<str:experiment_id>/archive", ExperimentView.as_view({"post": "archive"})),
    path("experiment/<str:experiment_id>/restore", ExperimentView.as_view({"post": "restore"})),
    path("experiment/<str:experiment_id>/retention", RetentionView.as_view({"get": "retrieve"})),
    path("experiment/<str:experiment_id>/access", AccessView.as_view({"get": "retrieve"})),
    path("experiment/<str:experiment_id>/access/preview", AccessView.as_view({"post": "preview"})),
    path("experiment/<str:experiment_id>/access/handover", AccessView.as_view({"post": "handover"})),
    path("drift/search", VisibleDriftView.as_view({"post": "search"})),
    path("drift/stats", VisibleDriftStatisticsView.as_view({"post": "stats"})),
    path("experiment/<str:experiment_id>/audit/search", ExperimentAuditView.as_view({"post": "search"})),
    path("audit/search", AuditView.as_view({"post": "search"})),
    path("audit/export", AuditExportView.as_view({"get": "export"})),
    path("user", UserView.as_view({"post": "register"})),
    path("user/self", UserView.as_view({"get": "retrieve_self", "put": "update_self"})),
    path("user/lookup", UserView.as_view({"post": "lookup"})),
    path("user/search", UserView.as_view({"post": "search"})),
    path("entitlement", EntitlementView.as_view({"get": "retrieve"})),
    path("entitlements", EntitlementView.as_view({"get": "retrieve"}, operation_suffix="_alias")),
    path("token", TokenView.as_view({"post": "create", "get": "list"})),
    path("token/refresh", TokenRefreshView.as_view({"post": "refresh"})),
    path("token/<str:token_id>", TokenView.as_view({"get": "retrieve", "delete": "destroy"})),
    path("openapi.json", read_only(DocumentView.as_view(**LIMITED)), name="openapi"),
    path("docs", read_only(SpectacularSwaggerSplitView.as_view(url_name="openapi", **LIMITED)), name="docs"),
]
