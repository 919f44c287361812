"""The API view of the series of an experiment: `POST …/series/search`."""

from collections.abc import Mapping

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.pagination import search_digest
from core.api.responses import JSONResponse
from core.api.search import SearchMixin, bounded_time
from core.filters.fields import ComputedField, Field, ObjectField, SortedObjectField, TimeField
from core.identity import Level
from core.totals import total_of
from drifts.models import Drift, DriftQuerySet
from drifts.series import HAS_NO_SERIES, MAX_SERIES, SeriesSearch, TooManySeries, runs_in
from drifts.series_serializers import SeriesParameters, SeriesSerializer
from drifts.verdict import Verdict
from experiments.views import ExperimentResource

ADVICE = "choose a shorter period with since and until, or sort by last_run"
LAST_RUN: Mapping[str, Field] = {
    "observed_at": TimeField("observed_at"),
    "verdict": ComputedField("verdict", {name: {"last_run.verdict": name} for name in Verdict.values}),
}
FIELDS: Mapping[str, Field] = {
    "series": SortedObjectField("series"),
    "last_run": ObjectField("last_run", LAST_RUN),
}


class SeriesView(SearchMixin, ExperimentResource):
    """Search the series of an experiment."""

    resource = "series"
    required_levels = {"search": Level.READ}
    serializer_class = SeriesSerializer
    search_parameters = SeriesParameters
    filter_example = {"series.model": "forest"}

    def get_queryset(self) -> DriftQuerySet:
        return Drift.objects.of(self.get_reference())

    def filter_fields(self) -> Mapping[str, Field]:
        return FIELDS

    def search(self, request: Request, **path: str) -> JSONResponse:
        """Search the series of the experiment. The response is one page of them, each with the counts of its runs.

        A series has the runs that share the values of the experiment's `series_by`. Filters name `series`, paths below
        it (`series.model`, `series.parameters\\.window`), `last_run.observed_at` and `last_run.verdict`. `since` and
        `until` choose the runs to count, and a series without any is left out. `X-Pagination` also has
        `runs_without_series`: runs of schema 1.0.0 have none before their upgrade. It is a lower bound unless
        `runs_without_series_is_exact`. At most 10,000 series are searched; more are a 422.
        """
        runs = self.get_queryset()
        parameters = self.parameters()
        period = {name: time.isoformat() for name in ("since", "until") if (time := parameters[name]) is not None}
        kept = {name: parameters[name] for name in ("sort_by", "order_by")} | period
        search = SeriesSearch(
            runs_in(runs, parameters["since"], parameters["until"]),
            self.condition(),
            parameters["sort_by"],
            parameters["order_by"] == "desc",
            search_digest([self.resource, path, self.body, kept]),
        )
        try:
            with bounded_time(ADVICE):
                page = self.read(search, parameters)
                without = total_of(runs.matching(HAS_NO_SERIES))
        except TooManySeries as error:
            raise ValidationError(
                f"There are more than {MAX_SERIES:,} series, or their names are too long to compare. Choose a shorter "
                "period with since and until, or have the experiment's series_by name fields with fewer or shorter "
                "values."
            ) from error
        more = {"runs_without_series": without.number, "runs_without_series_is_exact": without.is_exact}
        shown = [SeriesSerializer(item).data for item in page.documents]
        return self.page_response(page, shown, {"page_size": parameters["page_size"], **kept}, more)
