"""Cached values that are made from the runs of one experiment. All code that writes runs calls `drop_cached`."""

import datetime
import uuid
from functools import partial
from typing import Any

from django.db import transaction

from core import cache
from core.cache import Cached
from core.totals import Total
from drifts.summaries import Summary
from drifts.verdict import Verdict


def encoded(summary: Summary) -> list[Any]:
    verdicts = [verdict.value for verdict in summary.verdicts]
    return [summary.runs.number, summary.runs.is_exact, summary.last_run, verdicts, summary.has_older_records]


def decoded(stored: list[Any]) -> Summary:
    number, is_exact, last_run, verdicts, has_older_records = stored
    return Summary(
        Total(number, is_exact),
        last_run and datetime.datetime.fromisoformat(last_run),
        [Verdict(name) for name in verdicts],
        has_older_records,
    )


# The summaries in lists of experiments. They are not late, unless a drop fails: then for a minute at most.
SUMMARIES = Cached("summaries", encoded, decoded)
# The rows of statistics, each for one request. The same holds for them.
STATISTICS: Cached[list[dict[str, Any]]] = Cached("statistics", lambda rows: rows, lambda stored: stored)


def drop_cached(experiment_id: uuid.UUID) -> None:
    """Drop what is cached of an experiment's runs, once the current transaction is committed."""
    transaction.on_commit(partial(cache.drop, experiment_id))
