"""Files on runs: reports, pictures and data. `contents.py` has their bytes."""

import uuid
from typing import Any, Self

from django.conf import settings
from django.db import IntegrityError, models
from uuid_utils.compat import uuid7

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import Identity
from core.metrics import FILE_BYTES, FILES
from core.mongodb.documents import delete_one
from core.mongodb.querysets import FilterableQuerySet
from core.mongodb.transaction import in_transaction
from drifts.models import Drift
from experiments.models import Experiment
from files.contents import discard_content
from files.media_types import HTML, PICTURES
from files.uploads import Upload

MAX_SHOWN_PICTURE = 5_000_000


class NoRoom(Exception):
    """Raised if a run or its experiment has no room for a file. The message is safe to show."""


class RunFileQuerySet(FilterableQuerySet["RunFile"]):
    """Named conditions on files."""

    def visible_to(self, identity: Identity) -> Self:
        """The files of the experiments that the identity may read. Queries the ids of these experiments first."""
        return self.matching({"experiment_id": {"$in": Experiment.objects.visible_to(identity).ids()}})

    def of_experiment(self, experiment_id: uuid.UUID) -> Self:
        return self.matching({"experiment_id": experiment_id.hex})

    def of_run(self, experiment_id: uuid.UUID, drift_id: uuid.UUID) -> Self:
        """The files of a run, the earliest first."""
        return self.of_experiment(experiment_id).matching({"drift_id": drift_id.hex}).order_by("pk")

    def bytes(self) -> int:
        """The number of bytes of these files."""
        found = self.aggregated({"$group": {"_id": None, "bytes": {"$sum": "$size"}}})
        return int(found[0]["bytes"]) if found else 0

    def add(self, experiment_id: uuid.UUID, drift_id: uuid.UUID, upload: Upload, identity: Identity) -> "RunFile":
        """Link an uploaded content to a run, and return the file. Raises `NoRoom`, and `DoesNotExist` without the run.

        If the run has an equal file of the same name, that is returned: a client that repeats an upload whose response
        was lost adds nothing.
        """
        file = self.model(
            id=upload.id,
            experiment_id=experiment_id,
            drift_id=drift_id,
            name=upload.name,
            content_type=upload.content_type,
            size=upload.size,
            sha256=upload.sha256,
            created_by=identity.user.id if identity.user else None,
        )
        if not (stored := self._equal_to(file)):
            self._refuse_excess(experiment_id, drift_id, files=1, size=file.size)
            try:
                file.link(identity)
            except IntegrityError:
                # Another request has just added an equal file.
                if not (stored := self._equal_to(file)):
                    raise
        if stored:
            discard_content(file.pk.hex)
            return stored
        try:
            # Each of several requests at once found room for its own file.
            self._refuse_excess(experiment_id, drift_id)
        except NoRoom:
            file.delete_by(identity)
            raise
        FILES.inc()
        FILE_BYTES.labels("uploaded").inc(file.size)
        return file

    def _equal_to(self, file: "RunFile") -> "RunFile | None":
        return self.of_run(file.experiment_id, file.drift_id).filter(name=file.name, sha256=file.sha256).first()

    def _refuse_excess(self, experiment_id: uuid.UUID, drift_id: uuid.UUID, files: int = 0, size: int = 0) -> None:
        """Raise `NoRoom` if the run or the experiment would exceed its limit with so many more files or bytes."""
        if self.of_run(experiment_id, drift_id).count_up_to(settings.MAX_FILES + 1) + files > settings.MAX_FILES:
            raise NoRoom(f"A run may have at most {settings.MAX_FILES:,} files. Delete one first.")
        if self.of_experiment(experiment_id).bytes() + size > settings.MAX_FILES_BYTES:
            limit = f"The files of an experiment may have at most {settings.MAX_FILES_BYTES:,} bytes together."
            raise NoRoom(f"{limit} Delete some first, or ask the operator for more.")


class RunFile(models.Model):
    """A file on a run. Its content has the same id."""

    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid7, editable=False)
    # Files of a deleted run stay until they are swept (`sweep.py`): nothing finds them meanwhile.
    experiment = models.ForeignKey(Experiment, models.DO_NOTHING, related_name="+", db_index=False, editable=False)
    drift = models.ForeignKey(
        Drift, models.DO_NOTHING, related_name="+", db_index=False, editable=False, verbose_name="run"
    )
    name = models.CharField(max_length=255, editable=False)
    content_type = models.CharField("type", max_length=100, editable=False)
    size = models.BigIntegerField("size (bytes)", editable=False)
    sha256 = models.CharField("SHA-256", max_length=64, editable=False)
    created_at = models.DateTimeField("added", default=timestamps.now, editable=False)
    created_by = models.UUIDField("added by (user id)", null=True, editable=False)

    objects = RunFileQuerySet.as_manager()

    class Meta:
        verbose_name = "file"
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=["experiment", "drift", "name", "sha256"], name="file_of_run"),)
        indexes = (
            models.Index(fields=["-created_at", "-id"], name="file_newest"),
            # With the size, the total of an experiment is read from the index alone.
            models.Index(fields=["experiment", "-created_at", "-id", "size"], name="file_experiment"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_report(self) -> bool:
        """True for a page in HTML, which runs scripts: it is shown in a frame of its own only."""
        return self.content_type == HTML

    @property
    def is_picture(self) -> bool:
        return self.content_type in PICTURES

    @property
    def has_preview(self) -> bool:
        """True for a picture that is small enough to be shown beside others."""
        return self.is_picture and self.size <= MAX_SHOWN_PICTURE

    @in_transaction
    def link(self, identity: Identity) -> None:
        """Store and record the file. Raises `DoesNotExist` without its run, and `IntegrityError` for an equal one."""
        if Experiment.objects.reference_to(self.experiment_id) is None:
            raise Experiment.DoesNotExist
        if not Drift.objects.has(self.experiment_id, self.drift_id):
            raise Drift.DoesNotExist
        self.save(force_insert=True)
        record(Action.FILE_ADDED, identity, self, after=self._recorded())

    def delete_by(self, identity: Identity) -> None:
        """Delete the file and record it. Raises `DoesNotExist` if it is deleted already."""
        self._unlink(identity)
        discard_content(self.pk.hex)

    @in_transaction
    def _unlink(self, identity: Identity) -> None:
        if not delete_one(type(self), {"_id": self.pk.hex, "experiment_id": self.experiment_id.hex}):
            raise self.DoesNotExist
        record(Action.FILE_DELETED, identity, self, before=self._recorded())

    def _recorded(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.size,
            "sha256": self.sha256,
            "content_type": self.content_type,
            "drift_id": self.drift_id,
        }
