"""Drift runs in the admin portal."""

import uuid
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import ForeignKey, JSONField, Prefetch, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_mongodb_backend.fields import ArrayField

from audit.audited_admin import AuditedAdmin
from core.identity import Identity, Level, identity_of_session
from core.mongodb.documents import aggregate
from core.mongodb.match import NOTHING, Mql
from core.mongodb.order import NEWEST_FIRST
from core.portal.changelists import COUNTED_AT_MOST, BoundedChangeList
from core.portal.filters import FormFilter, PeriodFilter, TagFilter, TextFilter
from core.portal.forms import ApiForm, JSONText, LinesWidget, TagsField
from core.tags import written_tags
from drifts.exports import CSV_FILE, JSON_FILE, TooManyColumns, as_csv, as_json, record_export
from drifts.models import OVERDUE, Drift, DriftQuerySet
from drifts.parameters import tree
from drifts.serializers import DriftSerializer
from drifts.verdict import UNSUPPORTED, Verdict
from experiments.models import Experiment
from experiments.portal import ExperimentLevels

# The runs that MongoDB examines one by one in a tenth of a second.
NEWEST = 20_000
SUGGESTED_FROM = 200
WRITABLE = tuple(name for name in DriftSerializer.Meta.fields if name not in DriftSerializer.Meta.read_only_fields)
# The methods that show fields which the form of a stored run cannot change.
READ_ONLY = {"experiment_id": "experiment_link", "parameters": "parameter_tree", "unsupported": "measured_nothing"}


NO_ID = "{} is not an id. Copy it from the address of the experiment."


class ExperimentFilter(TextFilter):
    title = "experiment"
    parameters = ("experiment",)

    def condition(self, text: str) -> Mql:
        chosen = id_in(text)
        if chosen is None:
            self.problem = NO_ID.format(text)
            return NOTHING
        return {"experiment_id": chosen.hex}


def id_in(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def chosen_experiment(request: HttpRequest) -> uuid.UUID | None:
    """The experiment of the filter, or None."""
    return id_in(request.GET.get("experiment", "").strip())


class ReportedFilter(PeriodFilter):
    """Filters by the days on which runs were reported, whatever their time."""

    title = "reported (UTC)"


class NewestFilter(FormFilter):
    """Limits filters other than experiment and time to the newest `NEWEST` runs."""

    title = "limit"
    template = "admin/drifts/newest_filter.html"
    parameters = ()
    limited = frozenset({"verdict", "job_status__exact", "overdue", "model", "tag", "q"})

    def has_output(self) -> bool:
        return not self.limited.isdisjoint(self.request.GET)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Drift]) -> QuerySet[Drift]:
        assert isinstance(queryset, DriftQuerySet)
        # The hint saves MongoDB from trying all indexes of the experiment, each until it has skipped the runs.
        hint: dict[str, Any] = {"hint": "drift_newest"} if chosen_experiment(request) else {}
        stages: list[Mql] = [{"$sort": NEWEST_FIRST.sort}, {"$skip": NEWEST}, {"$limit": 1}]
        left_out = aggregate(Drift, [{"$match": queryset.match_document()}, *stages], **hint)
        if not left_out:
            return queryset
        self.scope = f"of the newest {NEWEST:,}"
        return queryset.matching({"created_at": {"$gt": left_out[0]["created_at"]}})

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        yield {"number": f"{NEWEST:,}"}


class VerdictFilter(admin.SimpleListFilter):
    title = "verdict"
    parameter_name = "verdict"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(Verdict.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Drift]) -> QuerySet[Drift]:
        assert isinstance(queryset, DriftQuerySet)
        verdict = self.value()
        return queryset.with_verdict(Verdict(verdict)) if verdict in set(Verdict) else queryset


class OverdueFilter(admin.SimpleListFilter):
    title = "overdue"
    parameter_name = "overdue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Overdue")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Drift]) -> QuerySet[Drift]:
        assert isinstance(queryset, DriftQuerySet)
        return queryset.matching(OVERDUE) if self.value() == "yes" else queryset


class ModelFilter(TextFilter):
    title = "model"
    parameters = ("model",)

    def suggestions(self) -> list[str]:
        """The models of the newest runs, of the chosen experiment if there is one."""
        newest = Drift.objects.visible_to(identity_of_session(self.request))
        if chosen := chosen_experiment(self.request):
            newest = newest.matching({"experiment_id": chosen.hex})
        names = newest.aggregated(
            {"$sort": NEWEST_FIRST.sort}, {"$limit": SUGGESTED_FROM}, {"$group": {"_id": "$model"}}
        )
        return sorted(name["_id"] for name in names)


class ExperimentField(forms.ModelChoiceField):
    """An experiment, named by its id."""

    default_error_messages = {
        "invalid_choice": "No experiment has this id. Copy it from the address of the experiment."
    }

    def to_python(self, value: Any) -> Any:
        if value and id_in(str(value)) is None:
            raise ValidationError(NO_ID.format(value))
        return super().to_python(value)


class DriftChangeList(BoundedChangeList):
    """Reads which runs of a page are unsupported by one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        unsupported = unsupported_among(self.result_list)
        run: Any
        for run in self.result_list:
            run.is_marked = run.pk in unsupported


def unsupported_among(runs: Collection[Drift]) -> set[uuid.UUID]:
    """The ids of the unsupported runs among these, whose parameters need not be read for it."""
    named = {"experiment_id": {"$in": list({run.experiment_id.hex for run in runs})}}
    found = Drift.objects.matching({**named, "_id": {"$in": [run.pk.hex for run in runs]}, **UNSUPPORTED})
    return {uuid.UUID(run["_id"]) for run in found.aggregated({"$project": {"_id": 1}})}


class DriftForm(ApiForm):
    serializer = DriftSerializer

    class Meta:
        widgets: ClassVar = {"note": LinesWidget}

    def is_sent(self, name: str) -> bool:
        """Send changes only: a sent field is derived no more, and the form shows no fractions of a second."""
        return self.instance._state.adding or name in self.changed_data

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        return {name: value for name, value in cleaned.items() if name not in WRITABLE or self.is_sent(name)}

    def clean_experiment(self) -> Experiment:
        experiment: Experiment = self.cleaned_data["experiment"]
        if not experiment.gives(identity_of_session(self.request), Level.EDIT):
            raise ValidationError("You need Edit access to add runs to this experiment. Ask one of its managers.")
        return experiment


@admin.register(Drift)
class DriftAdmin(ExperimentLevels, AuditedAdmin):
    """Runs in the portal. Changing one requires Edit on its experiment; a run cannot change its experiment."""

    required_levels = {"view": Level.READ, "add": Level.EDIT, "change": Level.EDIT, "delete": Level.EDIT}
    form = DriftForm
    list_display = (
        "model",
        "time",
        "reported",
        "marked_verdict",
        "experiment_link",
        "detector",
        "tag_list",
    )
    list_filter = (
        ExperimentFilter,
        ReportedFilter,
        NewestFilter,
        VerdictFilter,
        "job_status",
        OverdueFilter,
        ModelFilter,
        TagFilter,
    )
    list_prefetch_related = (Prefetch("experiment", Experiment.objects.without_large_fields()),)
    search_fields = ("model", "detector", "environment")
    search_help_text = f"Model, detector or environment of the newest {NEWEST:,} runs"
    # No index over the runs of all experiments has their own time.
    ordering = ("-created_at", "-pk")
    sortable_by = ("reported",)
    raw_id_fields = ("experiment",)
    formfield_overrides = {
        ForeignKey: {"form_class": ExperimentField},
        ArrayField: {"form_class": TagsField},
        JSONField: {"form_class": JSONText},
    }
    actions = ("export_as_csv", "export_as_json")
    action_limits = dict.fromkeys(actions, COUNTED_AT_MOST)
    fields: ClassVar[tuple[str, ...]] = tuple(READ_ONLY.get(name, name) for name in DriftSerializer.Meta.fields)
    readonly_fields = tuple(name for name in fields if name not in WRITABLE)
    fields_of_new = ("experiment", *WRITABLE)

    def get_fields(self, request: HttpRequest, obj: Drift | None = None) -> tuple[str, ...]:
        return self.fields if obj else self.fields_of_new

    def get_queryset(self, request: HttpRequest) -> DriftQuerySet:
        """Leave out the parameters, which may be large. The form shows them as a tree."""
        runs = Drift.objects.visible_to(identity_of_session(request)).order_by(*self.ordering)
        return runs.defer("parameters")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        return DriftChangeList

    def gives(self, drift: Drift, identity: Identity, level: Level) -> bool:
        return drift.experiment.gives(identity, level)

    def view_on_site(self, drift: Drift) -> str:
        return reverse("run", args=[drift.experiment_id, drift.pk])

    @admin.action(description="Export the selected runs as CSV")
    def export_as_csv(self, request: HttpRequest, queryset: DriftQuerySet) -> HttpResponseBase | None:
        try:
            file = as_csv(queryset.defer(None))
        except TooManyColumns as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return None
        record_export(identity_of_session(request), queryset, CSV_FILE)
        return file

    @admin.action(description="Export the selected runs as JSON")
    def export_as_json(self, request: HttpRequest, queryset: DriftQuerySet) -> HttpResponseBase:
        record_export(identity_of_session(request), queryset, JSON_FILE)
        return as_json(queryset.defer(None))

    # The headings of times name the zone once, so that all columns fit.

    @admin.display(description="time (UTC)")
    def time(self, drift: Drift) -> str:
        return f"{drift.observed_at:%Y-%m-%d %H:%M}"

    @admin.display(description="reported (UTC)", ordering="created_at")
    def reported(self, drift: Drift) -> str:
        return f"{drift.created_at:%Y-%m-%d %H:%M}"

    @admin.display(description="tags")
    def tag_list(self, drift: Drift) -> str:
        return written_tags(drift.tags)

    @admin.display
    def verdict(self, drift: Drift) -> SafeString:
        return format_html('<span class="verdict {}">{}</span>', drift.verdict.value, drift.verdict.label)

    @admin.display(description="verdict")
    def marked_verdict(self, drift: Any) -> SafeString:
        """Show the status in place of an unknown verdict, so that it needs no column of its own."""
        label = drift.job_status if drift.verdict is Verdict.UNKNOWN else drift.verdict.label
        mark = ", unsupported" if drift.is_marked else ", overdue" if drift.overdue else ""
        return format_html('<span class="verdict {}">{}</span>{}', drift.verdict.value, label, mark)

    @admin.display(description="unsupported")
    def measured_nothing(self, drift: Drift) -> str:
        return "Yes: it says no drift, but measured nothing" if unsupported_among([drift]) else "No"

    @admin.display(description="experiment")
    def experiment_link(self, drift: Drift) -> SafeString:
        address = reverse("admin:experiments_experiment_change", args=[drift.experiment_id])
        return format_html('<a href="{}">{}</a>', address, drift.experiment.name)

    @admin.display(description="parameters")
    def parameter_tree(self, drift: Drift) -> str:
        shown = Drift.objects.one_to_show(drift.experiment, drift.pk)
        return (shown and tree(shown.parameters)) or "Too large to show. Export the run instead."
