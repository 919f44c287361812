"""The fields of a run: each stands in all four places that name it."""

from collections.abc import Iterable, Mapping

import pytest
from rest_framework.fields import empty

from drifts.display import DISPLAY_FIELDS, FILTER_CONTROLS, SORT_LABELS
from drifts.models import Drift
from drifts.serializers import DriftSerializer
from drifts.views import FIELDS, SORTABLE
from experiments.serializers import ExperimentSerializer

MODEL = "Drift in drifts/models.py"
SERIALIZER = "Meta.fields in drifts/serializers.py"
FILTERS = "FIELDS in drifts/views.py"
DISPLAY = "DISPLAY_FIELDS in drifts/display.py"
PLACES: Mapping[str, Iterable[str]] = {
    MODEL: [field.attname for field in Drift._meta.concrete_fields],
    SERIALIZER: DriftSerializer.Meta.fields,
    FILTERS: FIELDS,
    DISPLAY: [field.name for field in DISPLAY_FIELDS],
}
# Field, and the place that does without it for a good reason.
EXCEPTIONS = {
    # Computed from the status and `drift_detected`, which people see as the verdict.
    ("verdict", MODEL),
    ("drift_detected", DISPLAY),
    # Computed from the verdict and what the run measured.
    ("unsupported", MODEL),
    # Internal: they say where the values of other fields come from.
    *((name, place) for name in ("derived", "rules_version") for place in (SERIALIZER, FILTERS, DISPLAY)),
    # A page shows the runs of one experiment, which it names.
    ("experiment_id", DISPLAY),
    # A tree in the details; columns in the table; a line for each path in the comparison.
    ("parameters", DISPLAY),
    # MongoDB's name for the id, in filters only.
    *(("_id", place) for place in (MODEL, SERIALIZER, DISPLAY)),
}


def missing_in(places: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    """Pairs of a field that one of the places names, and a place that does not name it."""
    named = {name for names in places.values() for name in names}
    return {(name, place) for place, names in places.items() for name in named - set(names)}


def test_each_field_of_a_run_is_in_all_places() -> None:
    missing = missing_in(PLACES)
    problems = [f"{name} is missing in {place}" for name, place in sorted(missing - EXCEPTIONS)]
    problems += [f"{name} is an exception, but stands in {place}" for name, place in sorted(EXCEPTIONS - missing)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("only", PLACES)
def test_a_field_that_only_one_place_names_is_missing_in_each_other(only: str) -> None:
    places = {**PLACES, only: [*PLACES[only], "made_up"]}
    assert missing_in(places) - missing_in(PLACES) == {("made_up", place) for place in PLACES if place != only}


def test_a_put_resets_only_the_fields_that_the_first_clients_know() -> None:
    reset = {
        kind: {name for name, field in kind().fields.items() if field.default is not empty}
        for kind in (DriftSerializer, ExperimentSerializer)
    }
    assert reset == {
        DriftSerializer: {"drift_detected", "parameters", "tags"},
        ExperimentSerializer: {"public", "permissions"},
    }


def test_each_field_that_a_search_sorts_by_has_a_label() -> None:
    assert set(SORT_LABELS) == set(SORTABLE)


def test_each_control_of_the_filter_form_compares_a_field_that_filters_and_people_know() -> None:
    compared = {control.field for control in FILTER_CONTROLS}
    assert compared <= set(FIELDS)
    assert compared <= {field.name for field in DISPLAY_FIELDS}


def test_each_index_that_suggests_values_begins_with_the_field() -> None:
    starts = {index.name: index.fields[:2] for index in Drift._meta.indexes}
    for control in FILTER_CONTROLS:
        if control.index:
            assert starts[control.index] == ["experiment", f"-{control.field}"]
