"""The experiments that somebody may read, and one of them."""

from django.http import HttpResponse
from rest_framework.request import Request

from accounts.identity import Standing
from experiments.models import Experiment, Level
from pages.page import ExperimentPage, Page


class ExperimentsPage(Page):
    """The experiments that the caller may read: the public ones, for somebody who is not logged in."""

    resource = "experiments-page"
    required_levels = {"list": Standing.ANYONE}

    def list(self, request: Request) -> HttpResponse:
        experiments = Experiment.objects.visible_to(self.identity).order_by("-created_at")[:20]
        return self.show("experiments.html", experiments=experiments)


class ExperimentOverviewPage(ExperimentPage):
    """One experiment."""

    resource = "experiment-page"
    required_levels = {"retrieve": Level.READ}

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponse:
        return self.show_of(self.get_experiment(), "experiment.html")
