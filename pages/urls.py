"""Where the pages are."""

from django.urls import path

from pages.experiments import ExperimentOverviewPage, ExperimentsPage

urlpatterns = [
    path("experiments", ExperimentsPage.as_view({"get": "list"}), name="experiments"),
    path("experiments/<str:experiment_id>", ExperimentOverviewPage.as_view({"get": "retrieve"}), name="experiment"),
]
