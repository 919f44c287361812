"""The counts of runs in the metrics: one for each run, when its outcome is first stored."""

import uuid
from collections import Counter
from collections.abc import Iterable
from functools import partial

from django.db import transaction

from core.metrics import FAILED_RUNS, count_run
from core.mongodb.documents import Document
from drifts.verdict import JobStatus, verdict_of


def count_outcomes(documents: Iterable[Document]) -> None:
    """Count the runs in these documents that have ended, once the current transaction is committed."""
    ended = [document for document in documents if document["job_status"] != JobStatus.RUNNING]
    if ended:
        transaction.on_commit(partial(count, ended))


def count_end(before: Document, after: Document) -> None:
    """Count a stored run if it ran before and has ended now. A later change of its outcome does not count."""
    if before["job_status"] == JobStatus.RUNNING:
        count_outcomes([after])


def count(ended: list[Document]) -> None:
    outcomes = Counter(
        (each["experiment_id"], verdict_of(each["job_status"], each["drift_detected"]).value) for each in ended
    )
    for (experiment, verdict), number in outcomes.items():
        count_run(str(uuid.UUID(experiment)), verdict, number)
    failed = Counter(bool(each.get("overdue")) for each in ended if each["job_status"] == JobStatus.FAILED)
    for is_overdue, number in failed.items():
        FAILED_RUNS.labels("overdue" if is_overdue else "reported").inc(number)
