"""The series of an experiment, with the number of their runs by verdict, and the first and last run of each.

All queries read the index `drift_series` alone, and no run. The index has the runs of a series side by side, by time.
Therefore the first or last runs take one key for each series, and counts take one key for each run. Only the series of
a page are counted, unless their order depends on it.
"""

import datetime
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from core.api.pagination import Page, decode_cursor, encode_cursor
from core.mongodb.documents import Document
from core.mongodb.match import Match, Mql
from core.totals import Total
from drifts import verdict
from drifts.models import DriftQuerySet
from drifts.verdict import Verdict, drift_rate, verdict_of

MAX_SERIES = 10_000
Series: TypeAlias = Document
Rank: TypeAlias = tuple[Any, ...]
# All series are objects, and the empty one is the least.
HAS_SERIES: Mql = {"series": {"$gte": {}}}
HAS_NO_SERIES: Mql = {"series": None}
BY_SERIES = ("series", "observed_at", "_id")
FIRST, LAST = (dict.fromkeys(BY_SERIES, direction) for direction in (1, -1))
END: Mql = {"id": "$_id", "observed_at": "$observed_at", "verdict": verdict.EXPRESSION}
# MongoDB reads a key for each series if it only takes the first of each.
ENDS: list[Mql] = [{"$group": {"_id": "$series", "run": {"$first": END}}}]
# The names to sort by, with the value that ranks a series. Series without a known verdict have the least rate.
RANKS: dict[str, Callable[[Document], Any]] = {
    "last_run": lambda item: item["last_run"]["observed_at"],
    "count": lambda item: item["count"],
    "drift_rate": lambda item: -1.0 if item["drift_rate"] is None else item["drift_rate"],
}


class TooManySeries(Exception):
    """Raised for more than `MAX_SERIES` series, or for very long ones."""


def runs_in(runs: DriftQuerySet, since: datetime.datetime | None, until: datetime.datetime | None) -> DriftQuerySet:
    """Return the runs of a period that have a series; all of these have `observed_at`."""
    bounds = {name: time for name, time in (("$gte", since), ("$lt", until)) if time is not None}
    return runs.where(Match({**HAS_SERIES, **({"observed_at": bounds} if bounds else {})}))


@dataclass(frozen=True)
class SeriesSearch:
    """A search for the series of `runs`, all of one experiment, sorted by a name of `RANKS`.

    `condition` is a match document of the results of `_matching`. `digest` identifies the search in cursors.
    """

    runs: DriftQuerySet
    condition: Mql
    sort_by: str
    is_descending: bool
    digest: bytes

    def page(self, number: int, size: int) -> Page:
        """Return the page of this number, counted from 1. Raises `TooManySeries`."""
        return self._page(self._sorted(), (number - 1) * size, size, number)

    def page_after(self, cursor: str, size: int) -> Page:
        """Return the page after the one that the cursor came from. Raises `InvalidQuery` or `TooManySeries`."""
        position = tuple(decode_cursor(cursor, self.digest))
        found = self._sorted()
        passed = (
            self._rank(item) >= position if self.is_descending else self._rank(item) <= position for item in found
        )
        return self._page(found, sum(passed), size, None)

    def _page(self, found: list[Document], start: int, size: int, number: int | None) -> Page:
        shown = found[start : start + size]
        has_next = len(found) > start + size
        cursor = encode_cursor(list(self._rank(shown[-1])), self.digest) if has_next else None
        return Page(self._completed(shown), size, number, Total(len(found)), cursor)

    def _sorted(self) -> list[Document]:
        found = self._matching()
        return sorted(self._counted(found) if self.needs_counts else found, key=self._rank, reverse=self.is_descending)

    @property
    def needs_counts(self) -> bool:
        """True if the order depends on the counts of all series."""
        return self.sort_by != "last_run"

    def _rank(self, item: Document) -> Rank:
        last = item["last_run"]
        return RANKS[self.sort_by](item), last["observed_at"], last["id"]

    def _matching(self) -> list[Document]:
        """Return each series that matches the condition, with its last run. Raises `TooManySeries`."""
        last: list[Mql] = [{"$sort": LAST}, *ENDS]
        if self.runs.aggregated(*last, {"$skip": MAX_SERIES}, {"$limit": 1}, {"$project": {"_id": 1}}):
            raise TooManySeries
        # Before the limit, MongoDB would compare each run, which the index has no parts of a series for.
        chosen: list[Mql] = [{"$limit": MAX_SERIES}, {"$project": {"_id": 0, "series": "$_id", "last_run": "$run"}}]
        found, is_cut = self.runs.bounded(*last, *chosen, {"$match": self.condition})
        if is_cut:
            raise TooManySeries
        return found

    def _counted(self, items: Sequence[Document]) -> list[Document]:
        """Add the number of runs by verdict to each item. Leave out a series whose runs have just been deleted."""
        counts: dict[Rank, Counter[Verdict]] = {}
        of_each = {"series": "$series", "job_status": "$job_status", "drift_detected": "$drift_detected"}
        # MongoDB counts equal keys in a fourth of the time that it takes to add up conditions on each.
        for row in self._of(items).aggregated({"$group": {"_id": of_each, "count": {"$sum": 1}}}):
            own = counts.setdefault(key_of(row["_id"]["series"]), Counter())
            own[verdict_of(row["_id"]["job_status"], row["_id"]["drift_detected"])] += row["count"]
        return [{**item, **numbers_of(counts[key])} for item in items if (key := key_of(item["series"])) in counts]

    def _completed(self, items: Sequence[Document]) -> list[Document]:
        """Add the numbers and the first run to the items of a page."""
        counted = items if self.needs_counts else self._counted(items)
        ends = self._of(items).aggregated({"$sort": FIRST}, *ENDS)
        first = {key_of(end["_id"]): end["run"] for end in ends}
        # The first run may have been deleted since the last one was found.
        pairs = [(item, first.get(key_of(item["series"])) or item["last_run"]) for item in counted]
        return [{**item, "first_run": run_of(one), "last_run": run_of(item["last_run"])} for item, one in pairs]

    def _of(self, items: Sequence[Document]) -> DriftQuerySet:
        return self.runs.matching({"series": {"$in": [item["series"] for item in items]}})


def run_of(end: Document) -> Document:
    return {**end, "id": uuid.UUID(end["id"])}


def numbers_of(counts: Counter[Verdict]) -> Document:
    return {
        "count": counts.total(),
        "verdicts": {name.value: counts[name] for name in Verdict},
        "drift_rate": drift_rate(counts[Verdict.DRIFT], counts[Verdict.NO_DRIFT]),
    }


def key_of(series: Series) -> Rank:
    """Return a key that two series share if they are equal in MongoDB, where 1 and 1.0 are equal, but not true."""
    return tuple((name, isinstance(value, bool), value) for name, value in series.items())
