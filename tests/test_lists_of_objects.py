"""Parameters in lists of objects: their paths in suggestions, tables, comparisons and exports."""

import csv

import pytest
from django.test import Client

from drifts import exports
from drifts.exports import as_csv
from drifts.models import Drift
from drifts.parameters import MAX_ELEMENTS
from experiments.models import Experiment
from pages.suggestions import Suggestions
from tests.test_paths import add
from tests.test_runs_page import Shown

METRICS, OTHERS = (
    {"metrics": [{"name": "DriftShare", "value": {"share": share}}, {"name": "KS(age)", "value": value}]}
    for share, value in ((0.1, 0.5), (0.4, 0.03))
)


def test_numbers_in_lists_of_objects_are_suggested_compared_and_exported(client: Client, public: Experiment) -> None:
    runs = add(public, METRICS, OTHERS)
    suggested = Suggestions.of(public)
    assert suggested.paths == {
        "parameters.metrics.0.name": "text",
        "parameters.metrics.1.name": "text",
        "parameters.metrics.1.value": "number",
        "parameters.metrics.0.value.share": "number",
    }
    selected = "&".join(f"selected={run.pk}" for run in runs)
    compared = Shown(client.get(f"/experiments/{public.pk}/compare?{selected}"))
    lines = [row for row in compared.texts("tbody tr") if row.startswith("parameters.")]
    assert lines == [
        "parameters.metrics.0.value.share 0.1 0.4+0.3, +300.0 %",
        "parameters.metrics.1.value 0.5 0.03-0.47, -94.0 %",
    ]
    column = "parameters.metrics.0.value.share"
    assert Shown(client.get(f"/experiments/{public.pk}?column={column}")).texts("tbody td.number") == ["0.4", "0.1"]
    rows = list(csv.DictReader(as_csv(Drift.objects.order_by("created_at")).getvalue().decode().splitlines()))
    assert [(row[column], row["parameters.metrics.1.value"]) for row in rows] == [("0.1", "0.5"), ("0.4", "0.03")]


def test_long_lists_and_lists_without_objects_are_single_values(public: Experiment) -> None:
    most = [{"a": number} for number in range(MAX_ELEMENTS)]
    add(public, {"scores": [0.5, 0.7], "roc": [[0, 1]], "none": [], "long": [*most, {"a": 1}]})
    assert Suggestions.of(public).paths == dict.fromkeys(
        (f"parameters.{name}" for name in ("long", "none", "roc", "scores")), "list"
    )
    add(public, {"most": most})
    assert Suggestions.of(public).paths["parameters.most.9.a"] == "number"


def test_an_export_with_too_many_columns_has_a_cell_for_each_list(
    public: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MAX_COLUMNS", 3)
    add(public, {"n": 1, "metrics": [{"a": 1}, {"a": 2}, {"a": 3}]})
    (row,) = csv.DictReader(as_csv(Drift.objects.all()).getvalue().decode().splitlines())
    assert (row["parameters.n"], row["parameters.metrics"]) == ("1", '[{"a": 1}, {"a": 2}, {"a": 3}]')
