"""What all pages share: they pass the door of the API, and a refusal is a page too."""

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.parsers import FormParser
from rest_framework.request import Request

from accounts.sessions import SessionAuthentication, user_of_session
from core.api.errors import exception_handler, is_database_unavailable
from core.api.resource import Resource
from core.identity import Level
from experiments.models import Experiment
from experiments.views import ExperimentResource


class Page(Resource):
    """A page, or several of one kind. As for any resource, `required_levels` says what each asks for.

    Who is not logged in and may not see it is sent to the login; anybody else reads why.
    """

    authentication_classes = [SessionAuthentication]
    parser_classes = [FormParser]
    http_method_names = ["get", "head", "post"]
    # It is not a part of the API's document.
    schema = None

    @property
    def form(self) -> QueryDict:
        """What a form sent; empty for a request without a body."""
        data = self.request.data
        return data if isinstance(data, QueryDict) else QueryDict()

    def show(self, template: str, status: int = 200, **context: Any) -> HttpResponse:
        """A template below `templates/pages`, with the caller's `identity`."""
        context = {"identity": self.identity, **context}
        return render(self.request._request, f"pages/{template}", context, status=status)

    def handle_exception(self, exc: Exception) -> HttpResponseBase:  # type: ignore[override]
        request = self.request
        if isinstance(exc, NotAuthenticated | PermissionDenied):
            # By now nobody for Django REST framework, even where only the token of a form was missing.
            request._request.user = sender = user_of_session(request._request)
            if not sender.is_authenticated:
                return redirect_to_login(request.get_full_path() if request.method in ("GET", "HEAD") else "/")
        refusal = None if is_database_unavailable(exc) else exception_handler(exc, {"view": self})
        if refusal is None:
            raise exc
        page = render(request._request, "refusal.html", refusal.data, status=refusal.status_code)
        if "Retry-After" in refusal:
            page["Retry-After"] = refusal["Retry-After"]
        return page

    def finalize_response(self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any) -> Any:
        """A page is for the one whom it was made for. No browser keeps it: after a logout no way leads back to it."""
        patch_cache_control(response, private=True, no_store=True)
        return super().finalize_response(request, response, *args, **kwargs)  # type: ignore[arg-type]


class ExperimentPage(Page, ExperimentResource):
    """A page of one experiment, at or below `experiments/{experiment_id}`."""

    def show_of(self, experiment: Experiment, template: str, status: int = 200, **context: Any) -> HttpResponse:
        """A template that knows the `experiment`; `may_edit` and `may_manage` say which controls are the caller's."""
        allowed = {
            "may_edit": experiment.gives(self.identity, Level.EDIT),
            "may_manage": experiment.gives(self.identity, Level.MANAGE),
        }
        return self.show(template, status, experiment=experiment, **allowed, **context)
