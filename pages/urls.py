"""Where the pages are."""

from django.urls import path

from pages.account import AccountPage, TokensPage
from pages.experiments import ExperimentOverviewPage, ExperimentsPage
from pages.sharing import PermissionsPage

urlpatterns = [
    path("experiments", ExperimentsPage.as_view({"get": "list"}), name="experiments"),
    path("experiments/<str:experiment_id>", ExperimentOverviewPage.as_view({"get": "retrieve"}), name="experiment"),
    path(
        "experiments/<str:experiment_id>/permissions",
        PermissionsPage.as_view({"get": "retrieve", "post": "change"}),
        name="permissions",
    ),
    path(
        "experiments/<str:experiment_id>/permissions/handover",
        PermissionsPage.as_view({"post": "hand_over"}),
        name="handover",
    ),
    path("account", AccountPage.as_view({"get": "retrieve"}), name="account"),
    path("account/tokens", TokensPage.as_view({"get": "list", "post": "create"}), name="tokens"),
    path("account/tokens/<str:token_id>/revoke", TokensPage.as_view({"post": "destroy"}), name="token-revoke"),
]
