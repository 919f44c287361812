"""The page that lists experiments."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.exceptions import NotAuthenticated, ValidationError
from rest_framework.request import Request

from core.api.errors import sentences
from core.api.exceptions import InvalidQuery
from core.api.search import MAX_PAGE, bounded_time
from core.identity import Identity, Requirement
from core.mongodb.documents import instances_of
from core.mongodb.match import Mql
from core.mongodb.order import NEWEST_FIRST, Order
from core.tags import MAX_TAG
from core.totals import total_of
from drifts.models import Drift
from drifts.summaries import Summary
from experiments.models import Experiment, ExperimentQuerySet
from pages.page import Page
from pages.plots.sparklines import Sparkline, sparkline_of

PAGE_SIZE = 20
# The list shows the beginning of a description, which the template cuts at the character before.
SHAPE: list[Mql] = [
    {"$unset": ["config", "permissions"]},
    {"$set": {"description": {"$substrCP": ["$description", 0, 161]}}},
]
SHOWN = {"": "Active", "mine": "Mine", "public": "Public", "archived": "Archived"}
SORTS = {
    "newest": ("Newest", NEWEST_FIRST),
    "name": ("Name", Order.by("name", is_descending=False)),
    "changed": ("Last updated", Order.by("updated_at", is_descending=True)),
}
NOTHING_FOUND = {
    "mine": "No experiments of yours or your groups.",
    "public": "No public experiments.",
    "archived": "No archived experiments.",
}
TOO_LONG: dict[str, Any] = {"max_length": "at most {max_length} characters."}
ADVICE = "filter by another text, or choose a tag"
# The label of each query parameter.
LABELS = {"q": "Filter", "tag": "Tag", "show": "Show", "sort": "Sort by", "page": "Page"}


def one_of(labels: Iterable[str]) -> dict[str, Any]:
    *others, last = labels
    return {"invalid_choice": f"choose {', '.join(others)} or {last}."}


class PageParameters(serializers.Serializer[dict[str, Any]]):
    """The query parameter of a list in pages."""

    page = serializers.IntegerField(
        min_value=1,
        max_value=MAX_PAGE,
        default=1,
        error_messages=dict.fromkeys(("invalid", "min_value", "max_value"), f"write a number from 1 to {MAX_PAGE:,}."),
    )


class ListParameters(PageParameters):
    """The query parameters of the list."""

    q = serializers.CharField(max_length=100, allow_blank=True, default="", error_messages=TOO_LONG)
    # A tag may begin or end with a space.
    tag = serializers.CharField(
        max_length=MAX_TAG, allow_blank=True, trim_whitespace=False, default="", error_messages=TOO_LONG
    )
    show = serializers.ChoiceField(list(SHOWN), default="", allow_blank=True, error_messages=one_of(SHOWN.values()))
    sort = serializers.ChoiceField(
        list(SORTS), default="newest", error_messages=one_of(label for label, _ in SORTS.values())
    )


@dataclass(frozen=True)
class Row:
    """An experiment in the list."""

    experiment: Experiment
    summary: Summary

    @property
    def sparkline(self) -> Sparkline:
        return sparkline_of(self.summary.verdicts)


class ExperimentsPage(Page):
    """The experiments that the caller may read. Without a login, these are the public ones."""

    resource = "experiments-page"
    required_levels = {"list": Requirement.ANYONE}

    def list(self, request: Request) -> HttpResponse:
        """Show one page of the list."""
        parameters = list_parameters(ListParameters, request)
        if parameters["show"] == "mine" and self.identity.is_anonymous:
            raise NotAuthenticated
        experiments, (_, order) = matching_experiments(self.identity, parameters), SORTS[parameters["sort"]]
        start = parameters["page"] - 1
        with bounded_time(ADVICE):
            found, _ = experiments.sorted_slice(order, PAGE_SIZE + 1, start=start * PAGE_SIZE, shape=SHAPE)
            total = total_of(experiments)
            shown = list(instances_of(Experiment, found[:PAGE_SIZE]))
            summaries = Drift.objects.summaries_of([experiment.pk for experiment in shown])
        return self.show(
            "experiments.html",
            rows=[Row(experiment, summaries[experiment.pk]) for experiment in shown],
            form_values=parameters,
            choices=SHOWN,
            sorts=[(name, label) for name, (label, _) in SORTS.items()],
            total=total,
            nothing_found=nothing_found(parameters),
            is_narrowed=bool(parameters["q"] or parameters["tag"] or parameters["show"]),
            previous_page=parameters["page"] - 1,
            next_page=parameters["page"] + 1 if len(found) > PAGE_SIZE else None,
            may_create=self.identity.has(Requirement.MAY_CREATE),
            has_trash=self.identity.has(Requirement.REGISTERED),
            api=request.build_absolute_uri("/api/v1"),
        )

    def explanation(self, exc: Exception) -> dict[str, str]:
        return {"link": "Show all experiments"} if isinstance(exc, InvalidQuery) else super().explanation(exc)


def list_parameters(kind: type[PageParameters], request: Request) -> dict[str, Any]:
    """The query parameters of a list, with defaults. Raises `InvalidQuery`."""
    serializer = kind(data=request.query_params)
    try:
        serializer.is_valid(raise_exception=True)
    except ValidationError as error:
        name, sentence = next(sentences(error.detail))
        raise InvalidQuery([f"{LABELS[name]}: {sentence}"]) from error
    return dict(serializer.validated_data)


def nothing_found(parameters: dict[str, Any]) -> str:
    """The sentence for a list without experiments."""
    is_searched = parameters["q"] or parameters["tag"]
    return "No experiments match." if is_searched else NOTHING_FOUND.get(parameters["show"], "No experiments match.")


def matching_experiments(identity: Identity, parameters: dict[str, Any]) -> ExperimentQuerySet:
    """The experiments that the identity may read and that the list's parameters match."""
    experiments = Experiment.objects.visible_to(identity).archived(parameters["show"] == "archived")
    if parameters["show"] == "public":
        experiments = experiments.matching({"public": True})
    if parameters["show"] == "mine":
        experiments = experiments.naming(identity)
    if parameters["tag"]:
        experiments = experiments.matching({"tags": parameters["tag"]})
    if parameters["q"]:
        experiments = experiments.matching(containing(parameters["q"]))
    return experiments


def containing(text: str) -> dict[str, Any]:
    """The match document of experiments with this text in their name, description or a tag, ignoring case.

    The text is escaped, so it is not a pattern. The time of a search grows only linearly with the length of
    the description, so descriptions of any length are searched.
    """
    pattern = {"$regex": re.escape(text), "$options": "i"}
    return {"$or": [{name: pattern} for name in ("name", "description", "tags")]}
