"""CSV downloads that are safe to open in a spreadsheet."""

import csv
import datetime
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse

from core import timestamps

CSV = "text/csv; charset=utf-8"
# Spreadsheets run texts that begin with these as formulas: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_file(name: str, rows: Iterable[Sequence[Any]]) -> HttpResponse:
    """Return a CSV download. The first row is the header. Texts that would be formulas get a leading apostrophe."""
    response = HttpResponse(content_type=CSV, headers=attachment(name))
    response.writelines(csv_lines(rows))
    return response


def csv_stream(name: str, rows: Iterable[Sequence[Any]]) -> StreamingHttpResponse:
    """Return the same download for any number of rows, which are read while it is sent."""
    return StreamingHttpResponse(csv_lines(rows), content_type=CSV, headers=attachment(name))


def attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


class Echo:
    """A file whose `write` returns the line, so that `csv.writer.writerow` returns it too."""

    def write(self, line: str) -> str:
        return line


def csv_lines(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Return the lines of the CSV file, generated lazily. Times are written as in JSON."""
    writer = csv.writer(Echo())
    return (writer.writerow([safe(cell) for cell in row]) for row in rows)


def safe(cell: Any) -> Any:
    if isinstance(cell, datetime.datetime):
        return timestamps.written(cell)
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
