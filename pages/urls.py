"""The addresses of the pages."""

from typing import Any

from django.urls import path

from pages.account import AccountPage, TokensPage
from pages.audit import AuditPage
from pages.chart_page import ChartPage
from pages.comparison import ComparisonPage
from pages.experiment_edit import ArchivePage, DeleteExperimentPage, EditExperimentPage, NewExperimentPage
from pages.experiments import ExperimentsPage
from pages.files import FilePage, NewFilePage
from pages.permissions import PermissionsPage
from pages.run import RunPage
from pages.runs import RunsPage
from pages.timeline_page import TimelinePage
from pages.trash import TrashPage

NEW: Any = {"get": "new", "post": "create"}
EDIT: Any = {"get": "edit", "post": "update"}
DELETE: Any = {"get": "confirm", "post": "destroy"}
RUN = "experiments/<str:experiment_id>/runs/<str:drift_id>"

urlpatterns = [
    path("experiments", ExperimentsPage.as_view({"get": "list"}), name="experiments"),
    path("experiments/new", NewExperimentPage.as_view(NEW), name="experiment-new"),
    path("experiments/trash", TrashPage.as_view({"get": "list"}), name="trash"),
    path("experiments/trash/<str:deleted_id>/restore", TrashPage.as_view({"post": "restore"}), name="trash-restore"),
    path("experiments/trash/<str:deleted_id>/delete", TrashPage.as_view(DELETE), name="trash-delete"),
    path("experiments/<str:experiment_id>", RunsPage.as_view({"get": "retrieve"}), name="experiment"),
    path("experiments/<str:experiment_id>/running", RunsPage.as_view({"get": "running"}), name="running"),
    path("experiments/<str:experiment_id>/compare", ComparisonPage.as_view({"get": "retrieve"}), name="compare"),
    path(RUN, RunPage.as_view({"get": "retrieve"}), name="run"),
    path(f"{RUN}/state", RunPage.as_view({"get": "state"}), name="run-state"),
    path(f"{RUN}/delete", RunPage.as_view(DELETE), name="run-delete"),
    path(f"{RUN}/files", NewFilePage.as_view({"post": "create"}), name="run-files"),
    path(f"{RUN}/files/<str:file_id>", FilePage.as_view({"get": "retrieve"}), name="run-file"),
    path(f"{RUN}/files/<str:file_id>/content", FilePage.as_view({"get": "content"}), name="run-file-content"),
    path(f"{RUN}/files/<str:file_id>/delete", FilePage.as_view(DELETE), name="run-file-delete"),
    path("experiments/<str:experiment_id>/edit", EditExperimentPage.as_view(EDIT), name="experiment-edit"),
    path(
        "experiments/<str:experiment_id>/archive", ArchivePage.as_view({"post": "archive"}), name="experiment-archive"
    ),
    path(
        "experiments/<str:experiment_id>/restore", ArchivePage.as_view({"post": "restore"}), name="experiment-restore"
    ),
    path("experiments/<str:experiment_id>/delete", DeleteExperimentPage.as_view(DELETE), name="experiment-delete"),
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
    path("experiments/<str:experiment_id>/audit", AuditPage.as_view({"get": "retrieve"}), name="audit"),
    path("experiments/<str:experiment_id>/audit.csv", AuditPage.as_view({"get": "table"}), name="audit-csv"),
    path("account", AccountPage.as_view({"get": "retrieve"}), name="account"),
    path("account/tokens", TokensPage.as_view({"get": "list", "post": "create"}), name="tokens"),
    path("account/tokens/<str:token_id>/revoke", TokensPage.as_view({"post": "destroy"}), name="token-revoke"),
    path("experiments/<str:experiment_id>/chart", ChartPage.as_view({"get": "retrieve"}), name="chart"),
    path("experiments/<str:experiment_id>/chart.svg", ChartPage.as_view({"get": "picture"}), name="chart-svg"),
    path("experiments/<str:experiment_id>/chart.csv", ChartPage.as_view({"get": "table"}), name="chart-csv"),
    path("experiments/<str:experiment_id>/timeline", TimelinePage.as_view({"get": "retrieve"}), name="timeline"),
    path("experiments/<str:experiment_id>/timeline.svg", TimelinePage.as_view({"get": "picture"}), name="timeline-svg"),
    path("experiments/<str:experiment_id>/timeline.csv", TimelinePage.as_view({"get": "table"}), name="timeline-csv"),
]
