"""The background tasks of the service, which `manage.py work` runs."""

from datetime import timedelta

from core.background import Task
from experiments.models import DeletedExperiment

TASKS = (
    Task(
        name="purge",
        label="Removal of deleted experiments",
        every=timedelta(seconds=5),
        run=DeletedExperiment.objects.purge,
    ),
)
