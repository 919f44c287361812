"""The export of all runs of an experiment."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from django.http import StreamingHttpResponse
from rest_framework import serializers
from rest_framework.request import Request

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.api.exceptions import InvalidQuery
from core.api.openapi import responds
from core.api.responses import json_of
from core.api.search_slots import export_slot
from core.api.serializers import StrictChoice
from core.csv_export import CSV, csv_lines
from core.identity import Identity, Level
from core.mongodb.documents import Document, instances_of
from core.mongodb.match import Mql
from core.mongodb.order import Order
from drifts.exports import TooManyColumns, columns_of, download, table
from drifts.models import Drift, DriftQuerySet
from drifts.serializers import DriftSerializer
from experiments.models import Experiment
from experiments.views import ExperimentResource

# A run keeps its `created_at`, so that no change of another field hides or repeats a run.
OLDEST_FIRST = Order.by("created_at", is_descending=False)
BATCH_SIZE = 1_000
# Parameters alone are smaller.
COLUMNS_BATCH_SIZE = 10_000
PART_BYTES = 64_000
# Fewer than the 60 s that the proxy waits for the first byte (deploy/nginx.conf).
SECONDS_FOR_COLUMNS = 40
# An export that takes longer is broken off: its client reads too slowly.
LONGEST_EXPORT = 3_600
TOO_LARGE = "These runs have too many parameters, or are too many, for a table. Export them with format=ndjson."


class BrokenOff(Exception):
    """Raised while a file is sent, if it cannot be completed.

    gunicorn then closes the connection without the last chunk, by which clients tell the file from a whole one.
    """


class ExportParameters(serializers.Serializer[dict[str, Any]]):
    """The format of an export."""

    format = StrictChoice(
        ["ndjson", "csv"], default="ndjson", help_text="One JSON object per line, or a table with a header."
    )


class DriftExportView(ExperimentResource):
    """The export of an experiment's runs."""

    resource = "drift"
    required_levels = {"export": Level.READ}
    serializer_class = DriftSerializer
    query_parameters = ExportParameters

    @responds(200, media_type="application/x-ndjson", text_media_type="text/csv")
    def export(self, request: Request, experiment_id: str) -> StreamingHttpResponse:
        """Export all runs of the experiment, oldest first, as NDJSON or CSV.

        NDJSON has a run per line, as other responses show it. CSV has a column for the path of each parameter. Runs
        that are stored after the start are left out. If the experiment is deleted meanwhile, or the caller loses
        access, the connection is broken off: a client of HTTP/1.1 reports an incomplete response.
        """
        parameters = ExportParameters(data=request.query_params)
        if not parameters.is_valid():
            raise InvalidQuery(parameters.errors)
        format_ = parameters.validated_data["format"]
        experiment = Experiment.objects.without_large_fields().filter(pk=self.experiment_id).first()
        experiment = self.permitted(experiment)
        name = f"drift-runs-{experiment.pk}.{format_}"
        media_type = CSV if format_ == "csv" else "application/x-ndjson"
        if request.method == "HEAD":
            return download((), name, media_type)
        export = Export(experiment, self.identity)
        with ExitStack() as stack:
            stack.enter_context(export_slot(request._request))
            parts = export.csv() if format_ == "csv" else export.ndjson()
            if not self.identity.is_anonymous:
                after = {"file": name, "drift_runs": experiment.count_runs()}
                record(Action.EXPORTED, self.identity, experiment, after=after)
            response = download(parts, name, media_type)
            # The client may close the connection before it reads the first byte.
            response._resource_closers.append(stack.pop_all().close)  # type: ignore[attr-defined]
        return response


class Export:
    """The runs of an experiment that were stored before the export began.

    They are read in batches, each by a query of its own: a slow client holds no cursor of MongoDB.
    """

    def __init__(self, experiment: Experiment, identity: Identity) -> None:
        self.experiment = experiment
        self.identity = identity
        self.runs: DriftQuerySet = Drift.objects.of(experiment).matching({"created_at": {"$lte": timestamps.now()}})
        self.ends_at = time.monotonic() + LONGEST_EXPORT

    def ndjson(self) -> Iterator[bytes]:
        """Yield the runs as JSON, one per line."""
        return joined(json_of(DriftSerializer.represent(run)) + b"\n" for run in self.checked_runs())

    def csv(self) -> Iterator[bytes]:
        """Yield a table of the runs. Reads the parameters of all runs at once, for the columns."""
        ends_at = time.monotonic() + SECONDS_FOR_COLUMNS
        try:
            # The columns may take two readings of all runs, within one time limit.
            columns = columns_of(partial(self.parameters, ends_at))
        except TooManyColumns as error:
            raise InvalidQuery({"format": [TOO_LARGE]}) from error
        return joined(line.encode() for line in csv_lines(table(self.checked_runs(), columns)))

    def parameters(self, ends_at: float) -> Iterator[Any]:
        """Yield the parameters of all runs. Raises `InvalidQuery` once this time of `time.monotonic` is over."""
        for documents in self.batches(COLUMNS_BATCH_SIZE, {"$project": {"created_at": 1, "parameters": 1}}):
            yield from (run.parameters for run in instances_of(Drift, documents))
            if time.monotonic() > ends_at:
                raise InvalidQuery({"format": [TOO_LARGE]})

    def checked_runs(self) -> Iterator[Drift]:
        """Yield the runs. Raises `BrokenOff` once the caller may not read them any more."""
        for documents in self.batches(BATCH_SIZE):
            # Checked after the read: until the experiment is deleted, all of its runs are there.
            experiment = Experiment.objects.reference_to(self.experiment.pk)
            if experiment is None or not experiment.gives(self.identity, Level.READ):
                raise BrokenOff("The experiment was deleted while it was exported, or its permissions changed.")
            if time.monotonic() > self.ends_at:
                raise BrokenOff(f"The client has not read the export within {LONGEST_EXPORT:,} s.")
            yield from instances_of(Drift, documents)

    def batches(self, size: int, *shape: Mql) -> Iterator[list[Document]]:
        """Yield the documents of the runs, changed by stages. A batch is smaller if its documents are large."""
        after: list[Any] | None = None
        is_cut = True
        while is_cut:
            documents, is_cut = self.runs.sorted_slice(OLDEST_FIRST, size, after=after, shape=shape)
            is_cut = is_cut or len(documents) == size
            yield documents
            if documents:
                after = OLDEST_FIRST.position(documents[-1])


def joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to parts of about `PART_BYTES`: each part is sent by itself."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        part.append(line)
        size += len(line)
        if size >= PART_BYTES:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)
