"""Exports of runs as JSON and CSV files. Runs are read from MongoDB while the file is sent."""

import json
import math
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from django.http import StreamingHttpResponse

from audit.models import Action
from audit.trail import record_each
from core.api.responses import json_of
from core.csv_export import attachment, csv_stream
from core.filters.paths import join
from core.identity import Identity
from core.mongodb.transaction import LONG, in_transaction
from drifts.models import Drift, DriftQuerySet
from drifts.parameters import MAX_ELEMENTS, leaves
from drifts.serializers import DriftSerializer
from experiments.models import Experiment

# The most runs in memory. Each may have megabytes.
BATCH_SIZE = 10
MAX_COLUMNS = 1_000
JSON_FILE, CSV_FILE = "drift-runs.json", "drift-runs.csv"
RUN_FIELDS = [name for name in DriftSerializer.Meta.fields if name != "parameters"]


class Columns(NamedTuple):
    """The paths of parameters that are columns of a table. Longer lists than `max_elements` are one cell each."""

    paths: list[str]
    max_elements: int


class TooManyColumns(Exception):
    """Raised if runs have too many parameters for a table. The message advises users and is safe to show."""

    def __init__(self) -> None:
        super().__init__(
            f"These runs have more than {MAX_COLUMNS:,} parameters. Export them as JSON, or select fewer runs."
        )


def as_json(runs: DriftQuerySet) -> StreamingHttpResponse:
    """A JSON list of runs, each as in the API's responses."""
    documents = (json_of(DriftSerializer.represent(run)) for run in runs.iterator(chunk_size=BATCH_SIZE))
    first = next(documents, b"")
    parts = chain([b"[", first], (b",\n" + document for document in documents), [b"]\n"])
    return download(parts, JSON_FILE, "application/json")


def as_csv(runs: DriftQuerySet) -> StreamingHttpResponse:
    """A CSV table of runs, with a column for the path of each parameter. Lists and times are written as in JSON.

    Objects in lists have columns of their own, unless there are more than `MAX_COLUMNS`: then each list is one cell.
    Raises `TooManyColumns`. Parameters that are added while the file is sent may have no column.
    """
    columns = columns_of(lambda: runs.values_list("parameters", flat=True).iterator(chunk_size=BATCH_SIZE))
    return csv_stream(CSV_FILE, table(runs.iterator(chunk_size=BATCH_SIZE), columns))


def record_export(identity: Identity, runs: DriftQuerySet, name: str) -> None:
    """Record the export of a file, for each experiment with the number of its runs."""
    counted = runs.aggregated({"$group": {"_id": "$experiment_id", "runs": {"$sum": 1}}})
    numbers = {uuid.UUID(group["_id"]): group["runs"] for group in counted}
    experiments = Experiment.objects.without_large_fields().in_bulk(numbers)
    values = [(experiment, {"file": name, "drift_runs": numbers[pk]}) for pk, experiment in experiments.items()]
    in_transaction(record_each, LONG)(Action.EXPORTED, identity, values)


def columns_of(read: Callable[[], Iterable[Any]]) -> Columns:
    """The columns for all parameters that `read` reads, maybe twice. Raises `TooManyColumns`."""
    try:
        return Columns(paths_of(read(), MAX_ELEMENTS), MAX_ELEMENTS)
    except TooManyColumns:
        return Columns(paths_of(read(), 0), 0)


def paths_of(parameters: Iterable[Any], max_elements: int) -> list[str]:
    """The sorted paths of all these parameters. Raises `TooManyColumns`."""
    paths: set[str] = set()
    for each in parameters:
        paths.update(by_path(each, max_elements))
        if len(paths) > MAX_COLUMNS:
            raise TooManyColumns
    return sorted(paths)


def table(runs: Iterable[Drift], columns: Columns) -> Iterator[list[Any]]:
    """The rows of a table of runs, the header first."""
    yield [*RUN_FIELDS, *columns.paths]
    for run in runs:
        shown = DriftSerializer.represent(run)
        parameters = by_path(run.parameters, columns.max_elements)
        yield [cell(value) for value in (*(shown[name] for name in RUN_FIELDS), *map(parameters.get, columns.paths))]


def by_path(parameters: Any, max_elements: int) -> dict[str, Any]:
    return {join(names): value for names, value in leaves(parameters, max_elements=max_elements)}


def cell(value: Any) -> Any:
    """A text or a number unchanged, an empty cell for null, and JSON for other values."""
    # Runs of the predecessor may have NaN and Infinity, which are null in the API.
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return in_json(value) if isinstance(value, bool | list | dict) else value


def in_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json_of(value)), ensure_ascii=False)


def download(parts: Any, name: str, content_type: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts, content_type=content_type, headers=attachment(name))
