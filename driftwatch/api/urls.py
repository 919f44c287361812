"""The API, version 1."""

from typing import Any

from django.urls import path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from accounts.views import EntitlementView, UserView
from audit.views import AuditExportView, AuditView
from drifts.views import DriftView
from driftwatch.api.errors import read_only
from experiments.trail import ExperimentAuditView
from experiments.views import ExperimentView

ONE: Any = {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}

urlpatterns = [
    path("experiment", ExperimentView.as_view({"post": "create"})),
    path("experiment/search", ExperimentView.as_view({"post": "search"})),
    path("experiment/<str:experiment_id>", ExperimentView.as_view(ONE)),
    path("experiment/<str:experiment_id>/drift", DriftView.as_view({"post": "create"})),
    path("experiment/<str:experiment_id>/drift/search", DriftView.as_view({"post": "search"})),
    path("experiment/<str:experiment_id>/drift/<str:drift_id>", DriftView.as_view(ONE)),
    path("experiment/<str:experiment_id>/audit/search", ExperimentAuditView.as_view({"post": "search"})),
    path("audit/search", AuditView.as_view({"post": "search"})),
    path("audit/export", AuditExportView.as_view({"get": "export"})),
    path("user", UserView.as_view({"post": "register"})),
    path("user/self", UserView.as_view({"get": "retrieve_self", "put": "update_self"})),
    path("user/search", UserView.as_view({"post": "search"})),
    path("entitlement", EntitlementView.as_view({"get": "retrieve"})),
    path("entitlements", EntitlementView.as_view({"get": "retrieve"})),
    path("openapi.json", read_only(SpectacularJSONAPIView.as_view()), name="openapi"),
    path("docs", read_only(SpectacularSwaggerSplitView.as_view(url_name="openapi")), name="docs"),
]
