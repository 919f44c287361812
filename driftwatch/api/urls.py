"""The API, version 1."""

from typing import Any

from django.urls import path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from accounts.token_views import TokenRefreshView, TokenView
from accounts.views import EntitlementView, UserView
from drifts.views import DriftView
from driftwatch.api.errors import read_only
from experiments.views import ExperimentView

ONE: Any = {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}

urlpatterns = [
    path("experiment", ExperimentView.as_view({"post": "create"})),
    path("experiment/search", ExperimentView.as_view({"post": "search"})),
    path("experiment/<str:experiment_id>", ExperimentView.as_view(ONE)),
    path("experiment/<str:experiment_id>/drift", DriftView.as_view({"post": "create"})),
    path("experiment/<str:experiment_id>/drift/search", DriftView.as_view({"post": "search"})),
    path("experiment/<str:experiment_id>/drift/<str:drift_id>", DriftView.as_view(ONE)),
    path("user", UserView.as_view({"post": "register"})),
    path("user/self", UserView.as_view({"get": "retrieve_self", "put": "update_self"})),
    path("user/search", UserView.as_view({"post": "search"})),
    path("entitlement", EntitlementView.as_view({"get": "retrieve"})),
    path("entitlements", EntitlementView.as_view({"get": "retrieve"})),
    path("token", TokenView.as_view({"post": "create", "get": "list"})),
    path("token/refresh", TokenRefreshView.as_view({"post": "refresh"})),
    path("token/<str:token_id>", TokenView.as_view({"get": "retrieve", "delete": "destroy"})),
    path("openapi.json", read_only(SpectacularJSONAPIView.as_view()), name="openapi"),
    path("docs", read_only(SpectacularSwaggerSplitView.as_view(url_name="openapi")), name="docs"),
]
