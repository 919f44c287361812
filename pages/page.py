"""The base classes of pages. They use the identity and permissions of the API, and show refusals as pages."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import render
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.parsers import FormParser

from accounts.sessions import SessionAuthentication, user_of_session
from audit.models import Action
from audit.trail import record
from core.api.error_pages import refusal_page
from core.api.errors import exception_handler
from core.api.exceptions import FormExpired, LevelRequired
from core.api.resource import Resource
from core.csv_export import csv_file
from core.identity import Level
from core.mongodb.errors import is_database_unavailable
from experiments.models import Experiment
from experiments.sharing import holders
from experiments.views import ExperimentResource

MAX_MANAGERS = 5


class Page(Resource):
    """A page, or several of one kind. `required_levels` names the level that each action requires.

    A visitor who is refused is redirected to the login. A user who is refused reads the reason.
    """

    authentication_classes = [SessionAuthentication]
    parser_classes = [FormParser]
    http_method_names = ["get", "head", "post"]
    # Pages are no part of the OpenAPI document.
    schema = None
    # The word for the object that a 404 is about.
    missing = "experiment"

    @property
    def form(self) -> QueryDict:
        """The submitted form; empty for a request without a body."""
        data = self.request.data
        return data if isinstance(data, QueryDict) else QueryDict()

    def show(self, template: str, status: int = 200, **context: Any) -> HttpResponse:
        """Render a template below `templates/pages` with the caller's `identity`."""
        context = {"identity": self.identity, **context}
        return render(self.request._request, f"pages/{template}", context, status=status)

    def handle_exception(self, exc: Exception) -> HttpResponseBase:  # type: ignore[override]
        request = self.request
        if isinstance(exc, NotAuthenticated | PermissionDenied):
            # Django REST framework has reset the user, even if only the CSRF token was missing.
            request._request.user = sender = user_of_session(request._request)
            if not sender.is_authenticated:
                return redirect_to_login(request.get_full_path() if request.method in ("GET", "HEAD") else "/")
        refusal = None if is_database_unavailable(exc) else exception_handler(exc, {"view": self})
        if refusal is None:
            raise exc
        page = refusal_page(request._request, {**refusal.data, **self.explanation(exc)}, exc)
        if "Retry-After" in refusal:
            page["Retry-After"] = refusal["Retry-After"]
        return page

    def explanation(self, exc: Exception) -> dict[str, str]:
        """A `message` for people, in place of the API's."""
        match exc:
            case FormExpired():
                return {"message": exc.advice}
            case Http404():
                return {"message": f"This {self.missing} does not exist. It may have been deleted."}
        return {}


class ExperimentPage(Page, ExperimentResource):
    """A page of one experiment, at or below `experiments/{experiment_id}`."""

    def get_experiment(self) -> Experiment:
        """The same experiment without its `config`, which may have megabytes: Django reads it for the form alone."""
        return self.permitted(Experiment.objects.defer("config").filter(pk=self.experiment_id).first())

    def explanation(self, exc: Exception) -> dict[str, str]:
        if not isinstance(exc, LevelRequired):
            return super().explanation(exc)
        experiment = Experiment.objects.by_id(self.experiment_id)
        if experiment is None or exc.level is None:
            return {"message": "You have no access to this experiment. Ask one of its managers."}
        can = "read" if exc.level is Level.READ else "edit the runs of"
        sentence = f"You can {can} “{experiment}”, but this page needs {exc.required} access."
        return {"message": f"{sentence} {self.managers(experiment)}"}

    def managers(self, experiment: Experiment) -> str:
        """A sentence with the managers' names, for those who may see the permission list."""
        entities = [entry.entity for entry in experiment.permissions if entry.level == Level.MANAGE][:MAX_MANAGERS]
        if not entities or not experiment.shows_permissions_to(self.identity):
            return "Ask a manager of the experiment."
        return f"Ask one of its managers: {', '.join(map(str, holders(entities).values()))}."

    def export_of(self, experiment: Experiment, name: str, rows: Iterable[Sequence[Any]]) -> HttpResponse:
        """Return the rows as a CSV file, and record who has it. Downloads by nobody are of public data."""
        if not self.identity.is_anonymous:
            query = self.request.query_params.urlencode()
            record(Action.EXPORTED, self.identity, experiment, after={"file": name, "query": query})
        return csv_file(name, rows)

    def file_name(self, experiment: Experiment) -> str:
        """A file name, without its extension, that every file system accepts."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", experiment.name).strip("-").lower()
        return f"{name[:80] or 'experiment'}-{self.resource}"

    def show_of(self, experiment: Experiment, template: str, status: int = 200, **context: Any) -> HttpResponse:
        """Render a template with the `experiment`, and with `may_edit` and `may_manage` for the caller's controls.

        `kept` is the query with the filter and selection that links to other pages keep.
        """
        allowed = {
            "may_edit": experiment.gives(self.identity, Level.EDIT),
            "may_manage": experiment.gives(self.identity, Level.MANAGE),
        }
        return self.show(template, status, **{"experiment": experiment, "kept": "", **allowed, **context})
