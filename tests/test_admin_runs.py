"""Drift runs in the admin portal: filters, parameters as a tree, and exports."""

import csv
import io
import json
from typing import Any

import pytest
from django.urls import reverse
from pytest_django import Settings

from core.portal import changelists, permissions
from drifts import admin as drift_admin
from drifts import exports
from drifts.admin import DriftAdmin
from drifts.models import Drift
from drifts.parameters import tree
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.session import through_session
from tests.test_runs_page import Shown

LIST = "/admin/drifts/drift/"
UNKNOWN = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def browser(admin: Caller, settings: Settings) -> Client:
    """The session of an administrator."""
    return through_session(admin, settings).client


@pytest.fixture
def other(drift: Drift) -> Drift:
    """A failed run of another experiment."""
    return Drift.objects.create(
        experiment=Experiment.objects.create(name="barley"),
        job_status="Failed",
        model="=HYPERLINK()",
        tags=["weekly"],
        parameters={"p_value": -0.5, "note": "+1", "sizes": [1, 2], "strict": True},
        detector="PSI",
    )


def found(browser: Client, **query: str) -> list[str]:
    return [run.model for run in browser.get(LIST, query).context["cl"].result_list]


def test_runs_are_filtered(browser: Client, drift: Drift, other: Drift) -> None:
    assert found(browser) == [other.model, "forest"]
    assert found(browser, experiment=str(drift.experiment_id)) == ["forest"]
    assert found(browser, verdict="unknown") == [other.model]
    assert found(browser, job_status__exact="Failed") == [other.model]
    assert found(browser, model="forest") == ["forest"]
    assert found(browser, tag="weekly") == [other.model]
    assert found(browser, q="psi") == [other.model]
    Drift.objects.filter(pk=other.pk).update(model=" forest ", tags=[" weekly"])
    assert found(browser, model=" forest ") == found(browser, tag=" weekly") == [" forest "]
    other.refresh_from_db()
    assert found(browser, until="2020-01-01") == []
    assert found(browser, o="2") == ["forest", other.model]


def test_filters_say_that_they_search_only_the_newest_runs(
    browser: Client, drift: Drift, other: Drift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_admin, "NEWEST", 1)
    assert found(browser, model="forest") == []
    assert found(browser, model="forest", experiment=str(drift.experiment_id)) == ["forest"]
    assert found(browser) == [other.model, "forest"]
    assert "Searches the newest 1 runs" in browser.get(LIST, {"model": "forest"}).content.decode()
    searched = Shown(browser.get(LIST, {"q": "psi"}))
    assert searched.texts(".paginator") == ["1 drift run of the newest 1"]
    assert searched.texts("#toolbar .quiet") == ["1 result of the newest 1 (Show all)"]
    assert Shown(browser.get(LIST)).texts(".paginator") == ["2 drift runs"]


def test_a_number_of_runs_that_is_a_lower_bound_says_so(
    browser: Client, drift: Drift, other: Drift, monkeypatch: pytest.MonkeyPatch
) -> None:
    Drift.objects.create_all_in(drift.experiment, [{"model": "third", "job_status": "Failed"}])
    monkeypatch.setattr(changelists, "COUNTED_AT_MOST", 2)
    monkeypatch.setattr(DriftAdmin, "list_per_page", 1)
    page = Shown(browser.get(LIST))
    assert page.texts(".paginator") == ["1 2 2+ drift runs Show all"]
    assert page.texts(".actions .question") == ["Select all 2+ drift runs"]
    assert page.texts(".actions .all") == ["All 2+ selected"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"experiment": "wine"}, "wine is not an id"),
        ({"since": "2026-02-30"}, "2026-02-30 is not a date"),
        ({"verdict": "perhaps"}, "2 drift runs"),
        ({"p": "perhaps"}, "2 drift runs"),
        ({"o": "perhaps.99"}, "2 drift runs"),
        ({"model": "\x00{$ne: 1}"}, "0 drift runs"),
    ],
)
def test_an_invalid_filter_is_reported_or_left_out(
    browser: Client, drift: Drift, other: Drift, query: dict[str, str], said: str
) -> None:
    response = browser.get(LIST, query, follow=True)
    assert response.status_code == 200
    assert said in response.content.decode()


def test_a_page_beyond_the_last_redirects_to_the_list(browser: Client, drift: Drift) -> None:
    assert browser.get(LIST, {"p": "9" * 40}, follow=True).status_code == 200


def test_a_run_shows_its_parameters_as_a_tree_and_links_to_its_experiment(browser: Client, drift: Drift) -> None:
    page = browser.get(reverse("admin:drifts_drift_change", args=[drift.pk])).content.decode()
    assert "<dt>p_value</dt><dd>0.003</dd>" in page
    assert '<dt>alcohol</dt><dd><dl class="tree">' in page
    assert reverse("admin:experiments_experiment_change", args=[drift.experiment_id]) in page


def test_a_tree_is_escaped_and_limited_in_size() -> None:
    assert "<b>" not in str(tree({"<b>": ["<b>", {"<b>": "<b>"}]}))
    assert tree([{"a": number} for number in range(2_001)]) is None
    assert tree({"a": [""] * 2_001}) is None
    assert tree({}) == "{}"
    assert tree({"a": [True]}) == '<dl class="tree"><dt>a</dt><dd>[true]</dd></dl>'


def export(browser: Client, how: str, *runs: Drift, **more: str) -> Any:
    chosen = {"action": f"export_as_{how}", "_selected_action": [str(run.pk) for run in runs]}
    return browser.post(LIST, chosen | more)


def test_a_selection_is_exported_as_a_table_without_formulas(browser: Client, drift: Drift, other: Drift) -> None:
    response = export(browser, "csv", drift, other)
    assert response["Content-Disposition"] == 'attachment; filename="drift-runs.csv"'
    first, second = csv.DictReader(io.StringIO(response.getvalue().decode()))
    assert first["model"] == "'=HYPERLINK()"
    assert (first["parameters.p_value"], first["parameters.note"]) == ("-0.5", "'+1")
    assert (first["parameters.sizes"], first["parameters.strict"]) == ("[1, 2]", "true")
    assert second["parameters.features.alcohol.statistic"] == "0.4"
    assert (second["verdict"], second["tags"], second["parameters.note"]) == ("drift", '["nightly"]', "")


def test_a_json_export_of_a_selection_equals_the_api_response(
    browser: Client, admin: Caller, drift: Drift, other: Drift
) -> None:
    path = f"/experiment/{drift.experiment_id}/drift/{drift.pk}"
    assert json.loads(export(browser, "json", drift).getvalue()) == [admin.get(path).json()]


def test_all_matching_runs_are_exported(browser: Client, drift: Drift, other: Drift) -> None:
    assert len(json.loads(export(browser, "json", drift, select_across="1").getvalue())) == 2


def test_one_request_deletes_a_limited_number_of_runs(
    browser: Client, drift: Drift, other: Drift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "MAX_CHANGED", 1)
    review = browser.post(LIST, {"action": "delete_selected", "_selected_action": drift.pk, "select_across": "1"})
    page = review.content.decode()
    assert "The action took only the first 1 objects" in page
    assert str(other.pk) in page
    assert str(drift.pk) not in page


@pytest.mark.parametrize("pk", ["nonsense", UNKNOWN])
@pytest.mark.parametrize("page", ["change", "delete", "history"])
def test_a_missing_run_is_reported(browser: Client, pk: str, page: str) -> None:
    response = browser.get(f"{LIST}{pk}/{page}/", follow=True)
    assert "Perhaps it was deleted?" in response.content.decode()


def test_a_run_is_added_to_an_experiment_as_by_the_api(browser: Client, experiment: Experiment) -> None:
    form = {"experiment": str(experiment.pk), "job_status": "Running", "model": "forest", "tags": "nightly"}
    path = reverse("admin:drifts_drift_add")
    unknown = "No experiment has this id. Copy it from the address of the experiment."
    for text, sentence in (("zz", "zz is not an id. Copy it from the address of the experiment."), (UNKNOWN, unknown)):
        refused = browser.post(path, {**form, "parameters": "{}", "experiment": text})
        assert refused.context["adminform"].form.errors["experiment"] == [sentence]
    mistakes = [{"parameters": text} for text in ("[1]", '{"a": NaN}', '{"a": [{"b": 1, "b": 2}]}')]
    for wrong in (*mistakes, {"tags": "x" * 21}, {"experiment": "nonsense"}, {"model": "\x00"}):
        refused = browser.post(path, {**form, "parameters": "{}", **wrong})
        assert refused.status_code == 200
        assert "errorlist" in refused.content.decode()
    # With a byte order mark, which some editors add to a file.
    assert browser.post(path, {**form, "parameters": '\ufeff{"p_value": 0.5}'}).status_code == 302
    added = Drift.objects.get()
    assert (added.parameters, added.tags, added.verdict) == ({"p_value": 0.5}, ["nightly"], "unknown")


@pytest.mark.parametrize(
    "parameters", ['{"p_value": NaN}', '{"p_value": 1e999}', '{"size": 99999999999999999999}', '{"a": ' * 2_000, "{}}"]
)
def test_parameters_that_the_api_would_refuse_are_refused(
    browser: Client, experiment: Experiment, parameters: str
) -> None:
    form = {"experiment": str(experiment.pk), "job_status": "Running", "model": "wine", "tags": ""}
    refused = browser.post("/admin/drifts/drift/add/", {**form, "parameters": parameters})
    assert refused.context["adminform"].form.errors.keys() == {"parameters"}
    assert not Drift.objects.exists()


def test_the_form_has_no_save_as_new(browser: Client, drift: Drift) -> None:
    assert browser.post(f"/admin/drifts/drift/{drift.pk}/change/", {"_saveasnew": "1"}).status_code == 400


def test_an_export_with_too_many_columns_is_refused(
    browser: Client, drift: Drift, other: Drift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MAX_COLUMNS", 1)
    response = export(browser, "csv", drift, other)
    assert response.status_code == 302
    assert "Export them as JSON" in browser.get(LIST).content.decode()


@pytest.mark.parametrize("column", range(1, 8))
def test_an_address_sorts_only_by_indexed_fields(browser: Client, drift: Drift, other: Drift, column: int) -> None:
    """Require the newest first, unless the column is a time."""
    assert found(browser, o=str(column)) == (["forest", "=HYPERLINK()"] if column == 2 else ["=HYPERLINK()", "forest"])
