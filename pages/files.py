"""The pages of a run's files: one file with its preview, its upload and its deletion.

A report in HTML runs scripts of its author. It is shown in a frame whose content has an address and a policy
of its own: a sandbox without the origin of the service, so that it can read nothing here as the viewer, and without
any address that it could load or send to.
"""

from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request

from accounts.sessions import SessionAuthentication
from core.api.errors import sentences
from core.api.exceptions import BodyTooLarge
from core.identity import Level
from files.downloads import CLOSED, content_response
from files.models import NoRoom, RunFile
from files.uploads import received
from files.views import FileResource
from pages.page import ExperimentPage

# All that a report needs is inside it: scripts (of which some make functions from texts), styles and data.
REPORT = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; media-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
PICTURE = f"{CLOSED}; frame-ancestors 'none'"


class LateToken(SessionAuthentication):
    """Authenticates the session before the body is read. The token of the form is in the body: the view checks it."""

    def enforce_csrf(self, request: Request) -> None:
        """Leave the check to the view."""


class NewFilePage(ExperimentPage, FileResource):
    """The form that adds a file to a run."""

    resource = "run-files-page"
    is_upload = True
    authentication_classes = [LateToken]
    required_levels = {"create": Level.EDIT}
    missing = "run"

    def create(self, request: Request, experiment_id: str, drift_id: str) -> HttpResponseBase:
        """Add the file, and show the run again with a message."""
        self.require_run()
        try:
            messages.success(request._request, f"“{self.add()}” was added.")
        except (NoRoom, ValidationError, BodyTooLarge) as error:
            messages.error(request._request, sentence_of(error))
        return redirect("run", self.experiment_id, self.drift_id)

    def add(self) -> RunFile:
        request = self.request._request
        with received(request, frozenset({"csrfmiddlewaretoken"})) as upload:
            # An immutable one, in which the library looks for the token.
            request.POST = upload.fields  # type: ignore[assignment]
            SessionAuthentication().enforce_csrf(self.request)
            return RunFile.objects.add(self.experiment_id, self.drift_id, upload, self.identity)


def sentence_of(error: NoRoom | APIException) -> str:
    if isinstance(error, ValidationError):
        return next(sentences(error.detail))[1]
    return str(error)


class FilePage(ExperimentPage, FileResource):
    """A file of a run."""

    resource = "run-file-page"
    required_levels = {
        "retrieve": Level.READ,
        "content": Level.READ,
        "confirm": Level.EDIT,
        "destroy": Level.EDIT,
    }
    missing = "file"

    def retrieve(self, request: Request, experiment_id: str, drift_id: str, file_id: str) -> HttpResponse:
        """Show the file: a picture, or a report in its frame; its facts, and a link to download it."""
        file = self.get_file()
        return self.show_of(self.get_experiment(), "file.html", file=file)

    def content(self, request: Request, experiment_id: str, drift_id: str, file_id: str) -> HttpResponseBase:
        """Return the content of a picture or a report, to be shown within a page. Others are attachments.

        A report that is opened by itself could lead its reader anywhere: its page is shown instead, whose own policy
        keeps the frame here. Browsers say so by `Sec-Fetch-Dest`, and all keep the report in its sandbox.
        """
        file = self.get_file()
        if not file.is_report:
            return content_response(request, file, policy=PICTURE, is_attachment=not file.is_picture)
        if request.headers.get("Sec-Fetch-Dest") == "document":
            return redirect("run-file", file.experiment_id, file.drift_id, file.pk)
        response = content_response(request, file, policy=REPORT, is_attachment=False)
        response.headers["X-Frame-Options"] = "SAMEORIGIN"
        return response

    def confirm(self, request: Request, experiment_id: str, drift_id: str, file_id: str) -> HttpResponse:
        """Ask whether to delete the file."""
        file = self.get_file()
        return self.show_of(self.get_experiment(), "file_delete.html", file=file)

    def destroy(self, request: Request, experiment_id: str, drift_id: str, file_id: str) -> HttpResponse:
        """Delete the file."""
        file = self.get_file()
        file.delete_by(self.identity)
        messages.success(request._request, f"“{file}” was deleted.")
        return redirect("run", file.experiment_id, file.drift_id)
