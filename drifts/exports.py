"""Runs as files: read from MongoDB as they are sent, whatever their number."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.http import StreamingHttpResponse

from core.api.responses import json_of
from core.csv_export import csv_lines
from drifts.models import DriftQuerySet
from drifts.parameters import leaves
from drifts.serializers import DriftSerializer

AT_ONCE = 100
MAX_COLUMNS = 1_000
OWN = [name for name in DriftSerializer.Meta.fields if name != "parameters"]


class TooManyColumns(Exception):
    """The runs name too many parameters for a table; the message says what to do and is safe to show."""

    def __init__(self) -> None:
        super().__init__(
            f"These runs have more than {MAX_COLUMNS:,} parameters. Export them as JSON, or select fewer runs."
        )


def as_json(runs: DriftQuerySet) -> StreamingHttpResponse:
    """A list of runs as the API answers with them."""
    documents = (json_of(DriftSerializer.represent(run)) for run in runs.iterator(chunk_size=AT_ONCE))
    first = next(documents, b"")
    parts = chain([b"[", first], (b",\n" + document for document in documents), [b"]\n"])
    return download(parts, "drift-runs.json", "application/json")


def as_csv(runs: DriftQuerySet) -> StreamingHttpResponse:
    """A table with a column for each parameter by its path. Lists and times are as in JSON.

    Raises `TooManyColumns`. A parameter that a run gets after the columns are known is left out.
    """
    paths = sorted(paths_of(runs))
    return download(csv_lines(table(runs, paths)), "drift-runs.csv", "text/csv; charset=utf-8")


def paths_of(runs: DriftQuerySet) -> set[str]:
    paths: set[str] = set()
    for parameters in runs.values_list("parameters", flat=True).iterator(chunk_size=AT_ONCE):
        paths.update(".".join(names) for names, _ in leaves(parameters))
        if len(paths) > MAX_COLUMNS:
            raise TooManyColumns
    return paths


def table(runs: DriftQuerySet, paths: list[str]) -> Iterator[list[Any]]:
    yield [*OWN, *paths]
    for run in runs.iterator(chunk_size=AT_ONCE):
        shown = DriftSerializer.represent(run)
        parameters = {".".join(names): value for names, value in leaves(run.parameters)}
        yield [cell(value) for value in (*(shown[name] for name in OWN), *map(parameters.get, paths))]


def cell(value: Any) -> Any:
    """A text or a number as it is, nothing for null, and else JSON."""
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else value


def download(parts: Any, name: str, content_type: str) -> StreamingHttpResponse:
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(parts, content_type=content_type, headers=disposition)
