"""Drift runs in the admin portal: filters, parameters as a tree, and exports."""

import csv
import datetime
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
from tests import golden
from tests.caller import Caller, Client
from tests.session import through_session, version_shown
from tests.test_observed_at import as_older_record
from tests.test_runs_page import Shown

LIST = "/admin/drifts/drift/"
WINDOW = {"window_start": 1, "window_end": 2}
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
    assert found(browser, o="3") == ["forest", other.model]


def test_the_list_shows_the_time_of_a_run_beside_its_report_which_orders_and_filters_it(
    browser: Client, drift: Drift, other: Drift
) -> None:
    drift.update(observed_at=datetime.datetime(2025, 3, 1, 12, tzinfo=datetime.UTC))
    assert found(browser) == found(browser, since=f"{drift.created_at:%Y-%m-%d}") == [other.model, "forest"]
    assert found(browser, until="2025-03-02") == []
    page = Shown(browser.get(LIST))
    assert page.texts("#result_list thead th")[1:5] == ["Model", "Time (UTC)", "Reported (UTC)", "Verdict"]
    assert "2025-03-01 12:00" in page.texts(".field-time")
    assert "Reported (UTC)" in page.texts("#changelist-filter")[0]


def test_an_unsupported_run_is_marked_in_the_list_and_in_its_form(browser: Client, drift: Drift) -> None:
    silent = {"job_status": "Completed", "model": "silent"}
    measured = {**silent, "model": "measured", "sample_size": 0}
    unsupported, *_ = Drift.objects.create_all_in(
        drift.experiment, [silent, silent, measured, {"job_status": "Running", "model": "waiting"}]
    )
    page = Shown(browser.get(LIST))
    marked = ["No drift, unsupported"]
    assert page.texts(".field-marked_verdict") == ["Running", "No drift", *marked, *marked, "Drift"]
    for pk, answer in ((unsupported, "Yes: it says no drift, but measured nothing"), (drift.pk, "No")):
        form = Shown(browser.get(reverse("admin:drifts_drift_change", args=[pk])))
        assert form.texts(".field-measured_nothing .readonly") == [answer]


@pytest.mark.parametrize(("verdict", "runs"), golden.VERDICTS.items())
def test_the_verdict_filter_counts_as_statistics_do(
    browser: Client, experiment: Experiment, verdict: str, runs: int
) -> None:
    golden.store_g1(experiment)
    page = Shown(browser.get(LIST, {"verdict": verdict}))
    assert page.texts(".paginator") == [f"{runs} drift runs"]


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


def test_exports_have_the_fields_of_schema_1_1_0_also_for_an_older_record(
    browser: Client, admin: Caller, drift: Drift, other: Drift
) -> None:
    path = f"/experiment/{drift.experiment_id}/drift/{drift.pk}"
    fields = {"observed_at": "2026-01-02T06:00:00.500Z", "p_value": 1e-9, "sample_size": 0, "note": "two\nlines"}
    assert admin.patch(path, fields | {"window_end": "2026-01-02T00:00:00Z"}).status_code == 200
    as_older_record(str(other.pk))
    old, new = (admin.get(f"/experiment/{run.experiment_id}/drift/{run.pk}").json() for run in (other, drift))
    assert json.loads(export(browser, "json", drift, other).getvalue()) == [old, new]
    rows = list(csv.DictReader(io.StringIO(export(browser, "csv", drift, other).getvalue().decode(), newline="")))
    for row, run in zip(rows, (old, new), strict=True):
        cells = {name: value for name, value in run.items() if name not in ("parameters", "model", "tags", "series")}
        assert {name: row[name] for name in cells} == {
            name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in cells.items()
        }
        assert row["series"] == ("" if run["series"] is None else json.dumps(run["series"]))


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


def shown_values(browser: Client, path: str) -> dict[str, str]:
    """The values of the inputs of a form, as a browser sends them."""
    form = Shown(browser.get(path)).tree.select_one("#content-main form")
    assert form
    values = {
        str(each["name"]): str(each.get("value", "")) for each in form.select("input[type=text], input[type=number]")
    }
    values |= {str(each["name"]): each.get_text().removeprefix("\n") for each in form.select("textarea")}
    values |= {str(each["name"]): "on" for each in form.select("input[type=checkbox][checked]")}
    values |= {str(each.parent["name"]): str(each["value"]) for each in form.select("option[selected]") if each.parent}
    return values | version_shown(browser, path)


def test_saving_a_run_keeps_its_derived_fields_derived_unless_the_form_changes_them(
    browser: Client, manager: Caller, experiment: Experiment
) -> None:
    api = f"/experiment/{experiment.pk}"
    field_map = {name: f"parameters.{name}" for name in ("detector", "p_value", "sample_size", "window_end")}
    assert manager.patch(api, {"field_map": field_map}).status_code == 200
    parameters = {"detector": "ks", "p_value": 0.1, "sample_size": 10, "window_end": "2026-01-02T00:00:00.500Z"}
    sent = {"job_status": "Completed", "model": "forest", "drift_detected": True, "parameters": parameters}
    run = manager.post(f"{api}/drift", sent).json()
    path = reverse("admin:drifts_drift_change", args=[run["id"]])
    form = shown_values(browser, path)
    assert browser.post(path, {**form, "model": "boosting", "p_value": "0.2"}).status_code == 302
    changed = {"model": "boosting", "p_value": 0.2, "series": {"detector": "ks", "model": "boosting"}}
    stored = manager.get(f"{api}/drift/{run['id']}").json()
    assert stored == run | changed | {"updated_at": stored["updated_at"]}
    assert set(Drift.objects.get().derived or ()) == {"detector", "observed_at", "window_end", "sample_size"}
    parameters |= {"detector": "psi", "p_value": 0.3, "sample_size": 20}
    stored = manager.patch(f"{api}/drift/{run['id']}", {"parameters": parameters}).json()
    assert (stored["detector"], stored["p_value"], stored["sample_size"]) == ("psi", 0.2, 20)
    # A field that the form empties has its mapped value again.
    assert browser.post(path, {**shown_values(browser, path), "p_value": ""}).status_code == 302
    assert Drift.objects.get().p_value == 0.3


def test_the_form_takes_the_fields_of_a_run_with_the_rules_of_the_api(browser: Client, experiment: Experiment) -> None:
    path = reverse("admin:drifts_drift_add")
    form = {
        "experiment": str(experiment.pk),
        "job_status": "Running",
        "model": "forest",
        "parameters": "{}",
        "observed_at_0": "2026-01-02",
        "observed_at_1": "06:00:00",
        "window_start_0": "2026-01-01",
        "window_start_1": "00:00:00",
        "window_end_0": "2026-01-02",
        "window_end_1": "00:00:00",
        "p_value": "1e-9",
        "statistic": "-0.5",
        "sample_size": str(2**63 - 1),
        "note": "First line\r\nsecond line ",
    }
    mistakes = {
        "window_end": ({"window_end_0": "2026-01-01"}, "Must be after window_start."),
        "observed_at": ({"observed_at_0": "9999-01-01"}, "Must be at most 24 hours ahead"),
        "p_value": ({"p_value": "1.5"}, "Must be at most 1."),
        "threshold": ({"threshold": "inf"}, "Enter a number."),
        "sample_size": ({"sample_size": "-1"}, "Must be at least 0."),
        "run_timeout": ({"run_timeout": "0"}, "Must be at least 1."),
        "note": ({"note": "x" * 2_001}, "at most 2000 characters"),
    }
    for name, (mistake, sentence) in mistakes.items():
        refused = browser.post(path, {**form, **mistake})
        assert sentence in refused.context["adminform"].form.errors[name][0], name
    assert browser.post(path, form).status_code == 302
    run = Drift.objects.get()
    assert (run.p_value, run.statistic, run.sample_size, run.feature) == (1e-9, -0.5, 2**63 - 1, None)
    assert run.note == "First line\nsecond line "
    assert str(run.observed_at) == "2026-01-02 06:00:00+00:00"
    page = Shown(browser.get(reverse("admin:drifts_drift_change", args=[run.pk])))
    assert page.texts(".field-series .readonly") == ['{"model": "forest"}']
    assert page.texts("textarea[name=note]") == ["First line second line"]
    assert page.all("input[name^=window_end]", "aria-label") == ["Window end: date", "Window end: time"]


def test_the_form_of_a_stored_run_refuses_an_empty_window(browser: Client, experiment: Experiment) -> None:
    window = {name: datetime.datetime(2026, 1, day, tzinfo=datetime.UTC) for name, day in WINDOW.items()}
    run = Drift.objects.create_in(experiment, job_status="Running", model="forest", **window)
    path = reverse("admin:drifts_drift_change", args=[run.pk])
    refused = browser.post(path, {**shown_values(browser, path), "window_end_0": "2026-01-01"})
    assert refused.context["adminform"].form.errors == {"window_end": ["Must be after window_start."]}


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
    """Require those reported last first, unless the column is the time of the report."""
    assert found(browser, o=str(column)) == (["forest", "=HYPERLINK()"] if column == 3 else ["=HYPERLINK()", "forest"])


def test_a_run_whose_window_lies_within_a_second_can_be_saved(browser: Client, drift: Drift) -> None:
    """The form shows whole seconds."""
    start = datetime.datetime(2026, 1, 1, 0, 0, 0, 100_000, datetime.UTC)
    end = start + datetime.timedelta(milliseconds=800)
    drift.update(window_start=start, window_end=end)
    address = reverse("admin:drifts_drift_change", args=[drift.pk])
    saved = browser.post(address, shown_values(browser, address) | {"note": "checked"})
    assert saved.status_code == 302, saved.context["adminform"].form.errors
    drift.refresh_from_db()
    assert (drift.note, drift.window_start, drift.window_end) == ("checked", start, end)


def test_one_end_of_a_window_is_compared_with_the_stored_other(browser: Client, drift: Drift) -> None:
    drift.update(window_start=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))
    address = reverse("admin:drifts_drift_change", args=[drift.pk])
    form = shown_values(browser, address) | {"window_end_0": "2026-01-01", "window_end_1": "00:00:00"}
    refused = browser.post(address, form)
    assert refused.context["adminform"].form.errors == {"window_end": ["Must be after window_start."]}
