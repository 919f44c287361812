"""The files of runs in the API."""

from typing import Any, ClassVar

from rest_framework import serializers

from files.models import RunFile


class RunFileSerializer(serializers.ModelSerializer[RunFile]):
    """A file on a run."""

    experiment_id = serializers.UUIDField(help_text="The id of the experiment.")
    drift_id = serializers.UUIDField(help_text="The id of the drift run.")

    class Meta:
        model = RunFile
        fields = ("id", "experiment_id", "drift_id", "name", "content_type", "size", "sha256", "created_at")
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "name": {"help_text": "The last part of the name that was sent."},
            "content_type": {"help_text": "The type by the file's own bytes, whatever the client has sent."},
            "size": {"help_text": "The number of bytes."},
            "sha256": {"help_text": "The SHA-256 of the content, in hexadecimal. It is the `ETag` of the content too."},
        }


class UploadSerializer(serializers.Serializer[Any]):
    """A form with one file."""

    file = serializers.FileField(help_text="The file, with its name.")
