"""Tables as CSV, which many open with a spreadsheet."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.http import HttpResponse

# What a text begins with that a spreadsheet takes for a formula: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_file(name: str, rows: Iterable[Sequence[Any]]) -> HttpResponse:
    """A download of rows, of which the first is the header. Texts that would be formulas get an apostrophe in front."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response.writelines(csv_lines(rows))
    return response


class Line:
    """What the writer writes to is what its `writerow` returns."""

    def write(self, line: str) -> str:
        return line


def csv_lines(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The same as lines, each made when it is asked for."""
    writer = csv.writer(Line())
    return (writer.writerow([safe(cell) for cell in row]) for row in rows)


def safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
