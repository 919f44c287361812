"""The experiments that somebody may read."""

import re
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.exceptions import InvalidQuery
from core.api.search import MAX_PAGE, bounded_time
from core.api.totals import total_of
from core.identity import Identity, Requirement
from core.mongodb.documents import instances_of
from core.mongodb.order import Order
from drifts.models import Drift
from drifts.summaries import Summary
from experiments.models import Experiment, ExperimentQuerySet
from pages.page import Page
from pages.plots.sparklines import Sparkline, sparkline_of

PAGE_SIZE = 20
SHOWN = {"": "Active", "mine": "Mine", "public": "Public", "archived": "Archived"}
SORTS = {
    "newest": ("Newest", Order.by("created_at", is_descending=True)),
    "name": ("Name", Order.by("name", is_descending=False)),
    "changed": ("Last updated", Order.by("updated_at", is_descending=True)),
}
ADVICE = "filter by another text, or choose a tag"


class ListParameters(serializers.Serializer[dict[str, Any]]):
    """What the address of the list says."""

    q = serializers.CharField(max_length=100, allow_blank=True, default="")
    tag = serializers.CharField(max_length=20, allow_blank=True, default="")
    show = serializers.ChoiceField(list(SHOWN), default="", allow_blank=True)
    sort = serializers.ChoiceField([(name, label) for name, (label, _) in SORTS.items()], default="newest")
    page = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=1)


@dataclass(frozen=True)
class Row:
    """An experiment in the list."""

    experiment: Experiment
    summary: Summary

    @property
    def sparkline(self) -> Sparkline:
        return sparkline_of(self.summary.verdicts)


class ExperimentsPage(Page):
    """The experiments that the caller may read: the public ones, for somebody who is not logged in."""

    resource = "experiments-page"
    required_levels = {"list": Requirement.ANYONE}

    def list(self, request: Request) -> HttpResponse:
        asked = self.asked()
        experiments, (_, order), start = chosen(self.identity, asked), SORTS[asked["sort"]], asked["page"] - 1
        with bounded_time(ADVICE):
            found = experiments.sorted_slice(order, PAGE_SIZE + 1, start=start * PAGE_SIZE)
            total = total_of(experiments)
            shown = list(instances_of(Experiment, found[:PAGE_SIZE]))
            summaries = Drift.objects.summaries_of([experiment.pk for experiment in shown])
        return self.show(
            "experiments.html",
            rows=[Row(experiment, summaries[experiment.pk]) for experiment in shown],
            asked=asked,
            choices=SHOWN,
            sorts=[(name, label) for name, (label, _) in SORTS.items()],
            total=total,
            is_narrowed=bool(asked["q"] or asked["tag"] or asked["show"]),
            previous_page=asked["page"] - 1,
            next_page=asked["page"] + 1 if len(found) > PAGE_SIZE else None,
            may_create=self.identity.has(Requirement.MAY_CREATE),
            api=request.build_absolute_uri("/api/v1"),
        )

    def asked(self) -> dict[str, Any]:
        """The address, with defaults for what it does not say. Raises `InvalidQuery`."""
        parameters = ListParameters(data=self.request.query_params)
        try:
            parameters.is_valid(raise_exception=True)
        except ValidationError as error:
            raise InvalidQuery(error.detail) from error
        return dict(parameters.validated_data)


def chosen(identity: Identity, asked: dict[str, Any]) -> ExperimentQuerySet:
    """The experiments that the identity may read and asked for."""
    experiments = Experiment.objects.visible_to(identity).archived(asked["show"] == "archived")
    if asked["show"] == "public":
        experiments = experiments.matching({"public": True})
    if asked["show"] == "mine":
        experiments = experiments.naming(identity)
    if asked["tag"]:
        experiments = experiments.matching({"tags": asked["tag"]})
    if asked["q"]:
        experiments = experiments.matching(containing(asked["q"]))
    return experiments


def containing(text: str) -> dict[str, Any]:
    """The experiments that say this text, in upper or lower case, in their name, description or a tag.

    The text is escaped: it has no meaning as a pattern, and is looked for in time that grows with the
    length of what it is looked for in, so that descriptions of any length are looked through.
    """
    pattern = {"$regex": re.escape(text), "$options": "i"}
    return {"$or": [{name: pattern} for name in ("name", "description", "tags")]}
