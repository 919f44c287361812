"""API views of the files of a run."""

import uuid

from django.http import Http404
from django.http.response import HttpResponseBase
from django.utils.functional import cached_property
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from core.api.exceptions import Conflict
from core.api.openapi import ANY_TYPE, responds
from core.api.responses import JSONResponse, NoContent
from core.identity import Level
from drifts.models import Drift
from drifts.views import DriftResource
from experiments.access import ExperimentReference
from experiments.views import id_in_path
from files.downloads import content_response
from files.models import NoRoom, RunFile
from files.serializers import RunFileSerializer, UploadSerializer
from files.uploads import received


class FileResource(DriftResource):
    """A resource of a run's files, or of one file."""

    path_parameters = {**DriftResource.path_parameters, "file_id": "The id of a file of the run."}

    def require_run(self) -> ExperimentReference:
        """The experiment of the path. Raises an error without the run, and unless the level is sufficient."""
        experiment = self.get_reference()
        if not Drift.objects.has(self.experiment_id, self.drift_id):
            self.existing(None)
        return experiment

    def get_file(self) -> RunFile:
        """The file of the path. Raises the same errors, and `Http404` without the file."""
        self.require_run()
        files = RunFile.objects.of_run(self.experiment_id, self.drift_id)
        return self.existing_file(files.filter(pk=self.file_id).first())

    @cached_property
    def file_id(self) -> uuid.UUID:
        return id_in_path(self.kwargs["file_id"])

    def existing_file(self, file: RunFile | None) -> RunFile:
        """Return the file that a query found. Raises `Http404` for None."""
        if file is None:
            raise Http404("The run has no file with this id.")
        return file


class FileView(FileResource):
    """Upload, list, read and delete the files of a run."""

    resource = "file"
    is_upload = True
    required_levels = {"create": Level.EDIT, "list": Level.READ, "retrieve": Level.READ, "destroy": Level.EDIT}
    serializer_class = RunFileSerializer
    conflict = "Another request has just added or deleted this file. Send yours again."

    @extend_schema(request={"multipart/form-data": UploadSerializer})
    @responds(201, 404, 409)
    def create(self, request: Request, experiment_id: str, drift_id: str) -> JSONResponse:
        """Add a file to a run. An equal file of the same name is not added again, but is the response.

        Send `multipart/form-data` with the file in a part named `file`. The size of a file, the number of files of a
        run and the size of all files of an experiment are limited.
        """
        self.require_run()
        with received(request._request) as upload:
            try:
                file = RunFile.objects.add(self.experiment_id, self.drift_id, upload, self.identity)
            except NoRoom as error:
                raise Conflict(str(error)) from error
        return JSONResponse(RunFileSerializer(file).data, 201)

    @responds(200, many=True)
    def list(self, request: Request, experiment_id: str, drift_id: str) -> JSONResponse:
        """List the files of a run, the earliest first."""
        self.require_run()
        files = RunFile.objects.of_run(self.experiment_id, self.drift_id)
        return JSONResponse(RunFileSerializer(files, many=True).data)

    @responds(200, 416, media_type=ANY_TYPE)
    def retrieve(self, request: Request, experiment_id: str, drift_id: str, file_id: str) -> HttpResponseBase:
        """Download a file, or a range of it. Browsers save it, and do not show it."""
        return content_response(request, self.get_file())

    @responds(204)
    def destroy(self, request: Request, experiment_id: str, drift_id: str, file_id: str) -> NoContent:
        """Delete a file."""
        self.get_file().delete_by(self.identity)
        return NoContent()
