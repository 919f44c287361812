"""The background tasks of the service, which `manage.py work` runs."""

from datetime import timedelta

from core.background import Task
from drifts.overdue import fail_overdue_runs
from drifts.recomputation import recompute_runs
from drifts.retention import remove_old_runs
from drifts.upgrades import upgrade_runs
from experiments.models import DeletedExperiment
from files.sweep import sweep_files

TASKS = (
    Task(
        name="purge",
        label="Removal of deleted experiments",
        every=timedelta(seconds=5),
        run=DeletedExperiment.objects.purge,
    ),
    Task(
        name="recompute_runs",
        label="Recomputation of runs after a change of rules",
        every=timedelta(seconds=5),
        run=recompute_runs,
    ),
    Task(
        name="fail_overdue_runs",
        label="Failure of overdue runs",
        every=timedelta(seconds=15),
        run=fail_overdue_runs,
    ),
    Task(
        name="upgrade_runs",
        label="Upgrade of runs to the current schema",
        every=timedelta(minutes=5),
        run=upgrade_runs,
    ),
    Task(
        name="remove_old_runs",
        label="Removal of runs because of their age",
        every=timedelta(hours=1),
        run=remove_old_runs,
    ),
    Task(
        name="sweep_files",
        label="Removal of files without a run, and of unfinished uploads",
        every=timedelta(hours=1),
        run=sweep_files,
    ),
)
