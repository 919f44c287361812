"""The list of experiments, and the pages that create, edit, archive and delete one."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.sessions.models import Session
from django.utils.html import escape
from pytest_django import Settings

from audit.models import Event
from core import timestamps
from core.identity import Identity, Level
from core.totals import Total
from drifts.models import Drift
from drifts.summaries import COUNTED, NEWEST
from drifts.verdict import Verdict, percent
from experiments.models import MAX_CONFIG_TEXT, Experiment, Permission
from experiments.views import ExperimentView
from pages.experiments import PAGE_SIZE
from pages.plots.sparklines import POINTS, rates_over_time, sparkline_of
from tests.caller import Caller, Client
from tests.profiler import reads_of
from tests.session import through_session
from tests.test_observed_at import as_older_record
from tests.test_runs_page import Shown


@pytest.fixture
def browser(manager: Caller, settings: Settings) -> Client:
    """The manager's browser."""
    return through_session(manager, settings).client


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiments/{experiment.pk}"


def read(client: Client, **query: Any) -> str:
    response = client.get(f"/experiments?{urlencode(query)}")
    assert response.status_code == 200
    return response.content.decode()


def send(client: Client, path: str, form: dict[str, Any], **options: Any) -> Any:
    """Send a form like a browser."""
    return client.post(path, urlencode(form, doseq=True), "application/x-www-form-urlencoded", **options)


def changes() -> list[Event]:
    """The events of experiments in the audit trail."""
    return list(Event.objects.exclude(action="login"))


def names(page: str) -> list[str]:
    return re.findall(r'<a href="/experiments/[0-9a-f-]{36}">(.*?)</a>', page)


def made(*new: str, **fields: Any) -> list[Experiment]:
    now = timestamps.now()
    return Experiment.objects.bulk_create(
        Experiment(name=name, created_at=now - timedelta(minutes=number), **{"public": True, **fields})
        for number, name in enumerate(new)
    )


# The list.


def test_the_list_shows_what_the_visitor_may_read(anonymous: Caller, browser: Client, experiment: Experiment) -> None:
    made("barley")
    assert names(read(anonymous.client)) == ["barley"]
    assert names(read(browser)) == ["barley", "wine quality"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "WINE"}, ["red wine"]),
        ({"q": "of grapes"}, ["white"]),
        ({"q": "prod"}, ["rye"]),
        ({"q": "."}, ["a.b"]),
        ({"q": "a(b"}, []),
        ({"q": "x" * 100}, []),
        ({"q": "end of a long text"}, ["long"]),
        ({"tag": "production"}, ["rye"]),
        ({"tag": " padded "}, ["white"]),
        ({"tag": "prod"}, []),
        ({"tag": "$ne"}, []),
        ({"q": "r", "tag": "production"}, ["rye"]),
    ],
)
def test_the_list_is_searched_by_text_and_by_tag(anonymous: Caller, query: dict[str, str], found: list[str]) -> None:
    made("red wine", "a.b")
    made("white", description="Made of grapes", tags=[" padded "])
    made("rye", tags=["production"])
    made("long", description="o" * 5_000 + " end of a long text")
    assert names(read(anonymous.client, **query)) == found


@pytest.mark.parametrize(
    ("role", "show", "found"),
    [
        ("reader", "mine", {"wine quality"}),
        ("watcher", "mine", {"wine quality"}),
        ("stranger", "mine", set()),
        ("admin", "mine", set()),
        ("reader", "public", {"barley"}),
        ("reader", "archived", {"old public", "old private"}),
        ("anonymous", "archived", {"old public"}),
        ("admin", "", {"wine quality", "barley"}),
    ],
)
@pytest.mark.usefixtures("experiment")
def test_the_list_filters_by_visibility_and_archive(
    request: pytest.FixtureRequest, settings: Settings, reader: Caller, role: str, show: str, found: set[str]
) -> None:
    made("barley")
    made("old public", archived_at=timestamps.now())
    shared = [Permission(entity=reader.id, level=Level.READ)]
    made("old private", public=False, permissions=shared, archived_at=timestamps.now())
    caller: Caller = request.getfixturevalue(role)
    client = caller.client if role == "anonymous" else through_session(caller, settings).client
    assert set(names(read(client, show=show))) == found


def test_ones_own_experiments_need_a_login(anonymous: Caller) -> None:
    response = anonymous.client.get("/experiments?show=mine")
    assert (response.status_code, response.headers["Location"]) == (302, "/login?next=/experiments%3Fshow%3Dmine")


@pytest.mark.parametrize(
    ("sort", "found"), [("newest", ["c", "a", "b"]), ("name", ["a", "b", "c"]), ("changed", ["b", "c", "a"])]
)
def test_the_list_is_sorted(anonymous: Caller, sort: str, found: list[str]) -> None:
    made("c", "a", "b")
    Experiment.objects.filter(name="b").update(updated_at=timestamps.now() + timedelta(days=1))
    Experiment.objects.filter(name="a").update(updated_at=timestamps.now() - timedelta(days=1))
    assert names(read(anonymous.client, sort=sort)) == found


def test_the_pages_of_a_list_keep_its_filter(anonymous: Caller) -> None:
    made(*(f"wine {number:02}" for number in range(PAGE_SIZE + 1)), tags=["eu"])
    first = read(anonymous.client, q="wine", tag="eu", sort="name")
    assert names(first) == [f"wine {number:02}" for number in range(PAGE_SIZE)]
    assert f"{PAGE_SIZE + 1} experiments" in first
    assert 'rel="prev"' not in first
    (following,) = re.findall(r'rel="next" href="(.*?)"', first)
    assert following == escape("?q=wine&tag=eu&sort=name&page=2")
    second = read(anonymous.client, q="wine", tag="eu", sort="name", page=2)
    assert names(second) == [f"wine {PAGE_SIZE}"]
    assert 'rel="next"' not in second
    assert "No more pages" in read(anonymous.client, page=9)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("show=archived", "No archived experiments."),
        ("show=mine", "No experiments of yours or your groups."),
        ("show=public", "No public experiments."),
        ("show=mine&q=rye", "No experiments match."),
        ("tag=rye", "No experiments match."),
    ],
)
def test_a_list_without_experiments_says_so_and_offers_once_to_clear_its_filters(
    browser: Client, query: str, sentence: str
) -> None:
    Experiment.objects.all().delete()
    page = browser.get(f"/experiments?{query}").content.decode()
    assert sentence in page
    assert page.count("Clear filters") == 1


PAGE_ADVICE = "Page: write a number from 1 to 10,000,000."


@pytest.mark.parametrize(
    ("query", "sentence"),
    [("page=0", PAGE_ADVICE), ("page=x", PAGE_ADVICE), ("page=99999999999999999999", PAGE_ADVICE),
     ("sort=size", "Sort by: choose Newest, Name or Last updated."),
     ("show=all", "Show: choose Active, Mine, Public or Archived."), ("q=%00", "Filter: Null characters"),
     (f"q={'x' * 101}", "Filter: at most 100 characters."), ("tag=" + "x" * 21, "Tag: at most 20 characters.")],
)  # fmt: skip
def test_an_invalid_address_is_refused_with_a_sentence(anonymous: Caller, query: str, sentence: str) -> None:
    response = anonymous.client.get(f"/experiments?{query}")
    assert response.status_code == 422
    assert f'role="alert" class="notice">{sentence}' in response.content.decode()
    assert "Show all experiments" in response.content.decode()


def test_names_and_descriptions_are_escaped(anonymous: Caller) -> None:
    made("<b>wine</b>", description="<script>", tags=['"><i>'])
    page = read(anonymous.client, q="<", tag='"><i>')
    assert "<b>wine" not in page
    assert "<script>" not in page
    assert "<i>" not in page


@pytest.mark.parametrize(
    ("role", "may"), [("anonymous", False), ("outsider", False), ("stranger", True), ("admin", True)]
)
@pytest.mark.parametrize("is_empty", [True, False])
def test_only_users_who_may_create_see_the_button_for_a_new_experiment(
    request: pytest.FixtureRequest, settings: Settings, role: str, may: bool, is_empty: bool
) -> None:
    if not is_empty:
        made("barley")
    caller: Caller = request.getfixturevalue(role)
    client = caller.client if role == "anonymous" else through_session(caller, settings).client
    page = read(client)
    assert ("/experiments/new" in page) == may
    assert ("http://testserver/api/v1/experiment" in page) == (may and is_empty)


# Verdicts in the list.


def run(experiment: Experiment, number: int, **fields: Any) -> Drift:
    at = timestamps.now() + timedelta(seconds=number)
    return Drift(experiment=experiment, model="forest", job_status="Completed", created_at=at, **fields)


def test_the_list_shows_the_newest_runs_and_their_number() -> None:
    many, few, none = made("many", "few", "none")
    Drift.objects.bulk_create(run(many, number, drift_detected=number == NEWEST) for number in range(NEWEST + 1))
    Drift.objects.bulk_create([run(few, 1, drift_detected=True), run(few, 2)])
    Drift.objects.filter(experiment=few, drift_detected=False).update(job_status="Running")
    found = Drift.objects.summaries_of([many.pk, few.pk, none.pk])
    assert [found[experiment.pk].runs for experiment in (many, few, none)] == [Total(NEWEST + 1), Total(2), Total(0)]
    assert found[many.pk].verdicts == [Verdict.DRIFT, *[Verdict.NO_DRIFT] * (NEWEST - 1)]
    assert found[few.pk].verdicts == [Verdict.UNKNOWN, Verdict.DRIFT]
    assert found[few.pk].last_run == Drift.objects.filter(experiment=few).latest("created_at").created_at
    assert (found[none.pk].verdicts, found[none.pk].last_run) == ([], None)


@pytest.mark.parametrize("number", [5, NEWEST + 51])
def test_the_list_orders_older_and_newer_runs_by_the_time_of_their_data(number: int) -> None:
    """Runs are reported in another order than observed, and a third of them are stored as schema 1.0.0 does."""
    start = timestamps.now() - timedelta(days=1)
    (experiment,) = made("mixed")
    runs = [run(experiment, place, drift_detected=place % 5 == 0) for place in range(number)]
    for place, each in enumerate(runs):
        each.observed_at = start + timedelta(seconds=place * 7 % number)
    Drift.objects.bulk_create(runs)
    for each in runs[::3]:
        as_older_record(each.pk.hex, each.observed_at)
    newest = sorted(runs, key=lambda each: each.observed_at or start, reverse=True)
    summary = Drift.objects.summaries_of([experiment.pk])[experiment.pk]
    assert summary.last_run == newest[0].observed_at
    assert summary.verdicts == [each.verdict for each in newest[:NEWEST]]
    assert summary.runs == Total(number)


def test_runs_are_counted_up_to_a_limit(anonymous: Caller) -> None:
    (experiment,) = made("many")
    Drift.objects.bulk_create(run(experiment, number) for number in range(COUNTED + 5))
    assert Drift.objects.summaries_of([experiment.pk])[experiment.pk].runs == Total(COUNTED, is_exact=False)
    assert f"{COUNTED:,}+" in read(anonymous.client)


def test_one_indexed_query_reads_the_runs_of_a_whole_page(anonymous: Caller) -> None:
    experiments = made(*(f"wine {number}" for number in range(PAGE_SIZE)))
    Drift.objects.bulk_create(run(each, number) for each in experiments for number in range(NEWEST + 50))
    with reads_of(Drift) as reads:
        page = read(anonymous.client)
    assert page.count('class="sparkline"') == PAGE_SIZE
    # The profiler reports an aggregation, and each of its unions as well.
    assert sum("$unionWith" in each.stages for each in reads) <= 1
    assert {each.plan.split()[0] for each in reads} == {"IXSCAN"}
    assert not any(each.sorts_in_memory for each in reads)
    assert max(each.documents for each in reads) <= NEWEST * PAGE_SIZE


def verdicts(*letters: str) -> list[Verdict]:
    """The verdicts from `summaries_of`, newest first."""
    meaning = {"d": Verdict.DRIFT, "n": Verdict.NO_DRIFT, "u": Verdict.UNKNOWN}
    return [meaning[letter] for letter in "".join(letters)]


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (None, "No verdict"),
        (0.0, "0 %"),
        (0.001, "under 1 %"),
        (0.006, "1 %"),
        (0.994, "99 %"),
        (0.999, "over 99 %"),
        (1.0, "100 %"),
    ],
)
def test_a_drift_rate_is_zero_only_without_drift_and_full_only_with_drift_alone(rate: float | None, shown: str) -> None:
    assert percent(rate) == shown


def test_a_sparkline_has_a_text_alternative() -> None:
    line = sparkline_of(verdicts("ddddnnnnnn", "n" * 190))
    assert line.label == "Drift rate of the newest 200 runs: 2 %; of the newest 10: 40 %"
    assert len(line.points.split()) == POINTS
    assert line.points.startswith("3.0,25.0 ")
    assert sparkline_of(verdicts("dnuu")).label == "Drift rate of the newest 4 runs: 50 %"
    assert sparkline_of(verdicts("d")).label == "Drift rate of the only run: 100 %"
    assert sparkline_of(verdicts("d")).points == "3.0,3.0 117.0,3.0"
    assert sparkline_of([]) == sparkline_of(verdicts("uu"))
    assert sparkline_of([]).label == "No verdict yet"


@pytest.mark.parametrize("number", [1, 2, 19, 20, 21, 39, 50, 199, 200])
def test_the_points_of_a_sparkline_stand_for_equally_many_runs_in_the_order_of_time(number: int) -> None:
    drifted = [place >= number // 2 for place in range(number)]
    rates = rates_over_time(drifted)
    assert len(rates) == min(number, POINTS)
    assert rates == sorted(rates)
    assert rates_over_time([True] * number) == [1.0] * len(rates)


# Creation.

FORM = {"name": "rye", "description": "Two\r\nlines", "tags": 'eu, "a,b",, nightly', "config": '{"window": 7}'}


def test_an_experiment_is_created_with_all_fields_of_the_form(browser: Client, manager: Caller) -> None:
    response = send(browser, "/experiments/new", {**FORM, "public": "on"}, follow=True)
    experiment = Experiment.objects.get(name="rye")
    assert response.redirect_chain == [(f"/experiments/{experiment.pk}", 302)]
    assert "“rye” was created. You manage it." in response.content.decode()
    assert (experiment.description, experiment.public) == ("Two\nlines", True)
    assert (experiment.tags, experiment.config) == (["eu", "a,b", "nightly"], {"window": 7})
    assert [(entry.entity, entry.level) for entry in experiment.permissions] == [(manager.id, "Manage")]
    assert Event.objects.get(action="experiment_created").actor.email == "manager@example.org"


@pytest.mark.parametrize(
    ("wrong", "control", "sentence"),
    [
        ({"name": " "}, "name", "Must not be empty."),
        ({"name": "x" * 256}, "name", "Must have at most 255 characters."),
        ({"name": "wine quality"}, "name", ExperimentView.conflict),
        ({"tags": "eu, " + "x" * 21}, "tags", f'Tag "{"x" * 20}…" has more than 20 characters.'),
        ({"tags": ",".join("t" * 51)}, "tags", "At most 50 tags are allowed."),
        ({"tags": "eu\nus"}, "tags", "Write the tags in one line, separated by commas."),
        ({"tags": "eu\n"}, "tags", "Write the tags in one line, separated by commas."),
        ({"tags": 'eu, "us'}, "tags", "Write the tags in one line, separated by commas."),
        ({"config": "{"}, "config", "This is not valid JSON (line 1, column 2). Names and texts need double quotes."),
        ({"config": "[1]"}, "config", "Must be an object."),
        ({"config": "NaN"}, "config", "NaN is not a JSON number. Send null or leave it out."),
        ({"config": '{"a": 9223372036854775808}'}, "config", "a: An integer must fit 64 bits."),
        ({"config": '{"a": [{"b": 1, "b": 2}]}'}, "config", 'a.0: The name "b" stands twice.'),
        ({"config": '{"a":' * 60 + "1" + "}" * 60}, "config", "a: Nested deeper than 50 levels."),
    ],
    ids=str,
)
@pytest.mark.usefixtures("experiment")
def test_an_error_of_a_new_experiment_is_shown_beside_its_control(
    browser: Client, wrong: dict[str, str], control: str, sentence: str
) -> None:
    response = send(browser, "/experiments/new", {**FORM, **wrong})
    page = response.content.decode()
    assert response.status_code == 422
    assert f'<span class="error" id="{control}-error">{escape(sentence)}' in page
    assert escape(wrong[control]) in page
    assert escape(FORM["tags"] if control != "tags" else FORM["config"]) in page
    assert not Experiment.objects.filter(name="rye").exists()


def test_all_errors_are_shown_at_once(browser: Client) -> None:
    response = send(browser, "/experiments/new", {"tags": "eu\nus", "config": "{"})
    assert response.status_code == 422
    assert set(response.context["form"].errors) == {"name", "tags", "config"}
    assert all(len(sentences) == 1 for sentences in response.context["form"].errors.values())


def test_visitors_cannot_create_an_experiment(anonymous: Caller) -> None:
    response = anonymous.client.get("/experiments/new")
    assert response.status_code == 302
    assert response.headers["Location"] == "/login?next=/experiments/new"


# Edits.


def filled(browser: Client, path: str) -> dict[str, Any]:
    """The form of an experiment, as a browser would send it back."""
    page = Shown(browser.get(f"{path}/edit")).tree.select("form.experiment")[0]
    controls = page.select("textarea[name], input[name]:not([type=checkbox]), input[name][checked]")
    sent: dict[str, Any] = {}
    for control in controls:
        # The line break after the start of a textarea is not a part of its value.
        text = control.get_text()[1:] if control.name == "textarea" else control.get("value", "on")
        sent.setdefault(str(control["name"]), []).append(text)
    del sent["csrfmiddlewaretoken"]
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in sent.items()}


def test_the_form_changes_an_experiment(browser: Client, experiment: Experiment, path: str) -> None:
    form = {**filled(browser, path), "description": "aged", "tags": "eu", "public": "on"}
    response = send(browser, f"{path}/edit", form)
    assert (response.status_code, response.headers["Location"]) == (302, path)
    experiment.refresh_from_db()
    assert (experiment.description, experiment.tags, experiment.public) == ("aged", ["eu"], True)
    assert {event.action for event in changes()} == {"experiment_updated", "visibility_changed"}


def test_a_form_sent_back_unchanged_changes_nothing(browser: Client, experiment: Experiment, path: str) -> None:
    tags = ["a,b", 'with "quotes"', "plain", " spaced ", '"', "\ttab"]
    config = {"ü": [1, 1.5, 1e300, None, {"<": "\u2028"}]}
    Experiment.objects.update(name=" wine ", tags=tags, config=config, description="\n\nTwo\nlines  ")
    rules: dict[str, Any] = {
        "series_by": ["feature", "model", "parameters.a b"],
        "field_map": {"p_value": "parameters.p"},
    }
    Experiment.objects.update(run_timeout=60, **rules)
    assert send(browser, f"{path}/edit", filled(browser, path)).status_code == 302
    experiment.refresh_from_db()
    assert (experiment.tags, experiment.config, experiment.description) == (tags, config, "\n\nTwo\nlines  ")
    assert {name: getattr(experiment, name) for name in rules} == rules
    assert (experiment.run_timeout, experiment.recomputation) == (60, None)
    assert not changes()


def test_an_experiment_without_own_rules_shows_the_defaults_and_keeps_them(
    browser: Client, experiment: Experiment, path: str
) -> None:
    form = filled(browser, path)
    assert [name for name in form["series_by"] if name] == ["model", "detector", "environment", "feature"]
    assert send(browser, f"{path}/edit", {**form, "description": "new"}).status_code == 302
    experiment.refresh_from_db()
    assert (experiment.recomputation, experiment.rules_version) == (None, None)
    (change,) = changes()
    assert set(change.after) == {"description"}


def test_a_form_of_the_earlier_release_leaves_the_rules_unchanged(
    browser: Client, experiment: Experiment, path: str
) -> None:
    Experiment.objects.update(series_by=["model"], field_map={"p_value": "parameters.p"}, run_timeout=60)
    experiment.refresh_from_db()
    fields = ("name", "description", "tags", "config", "public")
    form = {"name": experiment.name, "description": "new", "tags": "", "config": "{}"}
    assert send(browser, f"{path}/edit", {**form, "version": experiment.version(*fields)}).status_code == 302
    experiment.refresh_from_db()
    assert (experiment.description, experiment.series_by, experiment.run_timeout) == ("new", ["model"], 60)
    assert experiment.field_map == {"p_value": "parameters.p"}


def test_the_rules_of_runs_are_set_and_the_page_tells_the_progress(
    browser: Client, experiment: Experiment, path: str
) -> None:
    Drift.objects.create_in(experiment, job_status="Failed", model="m", parameters={"site": 1, "test": {"p": 0.5}})
    shown = Shown(browser.get(f"{path}/edit"))
    assert shown.all("#suggested-paths option", "value") == ["parameters.site", "parameters.test.p"]
    form = {
        **filled(browser, path),
        "series_by": ["model", "model_version", " parameters.site ", ""],
        "field_map.p_value": "parameters.test.p",
        "field_map.sample_size": "parameters.n",
        "run_timeout": " 3600 ",
    }
    saved = send(browser, f"{path}/edit", form, follow=True).content.decode()
    applied = "The new rules are being applied to its stored runs: see the progress under Settings."
    assert f"“wine quality” was saved. {applied}" in saved
    experiment.refresh_from_db()
    assert experiment.series_by == ["model", "model_version", "parameters.site"]
    assert experiment.field_map == {"p_value": "parameters.test.p", "sample_size": "parameters.n"}
    assert experiment.run_timeout == 3600
    again = send(browser, f"{path}/edit", {**filled(browser, path), "description": "x"}, follow=True).content.decode()
    assert "“wine quality” was saved." in again
    assert applied not in again
    shown = Shown(browser.get(f"{path}/edit"))
    assert shown.all("input[name=series_by]:not([type=checkbox])", "value") == ["parameters.site", "", ""]
    recomputation: Any = experiment.recomputation
    Experiment.objects.update(recomputation={**recomputation, "done": 12_310, "total": 48_000})
    sentence = "Applying the changed fields from parameters to stored runs: 12,310 of 48,000 runs."
    assert sentence in browser.get(f"{path}/edit").content.decode()
    cleared = {**filled(browser, path), "series_by": "", "field_map.p_value": "", "run_timeout": ""}
    assert send(browser, f"{path}/edit", cleared).status_code == 302
    experiment.refresh_from_db()
    assert experiment.series_by == ["model", "detector", "environment", "feature"]
    assert experiment.field_map == {"sample_size": "parameters.n"}
    assert experiment.run_timeout is None


def test_the_form_tells_the_time_that_the_operator_set_for_runs(browser: Client, path: str, settings: Settings) -> None:
    assert "Leave empty to keep them." in Shown(browser.get(f"{path}/edit")).text
    settings.RETENTION_DAYS = 400
    shown = Shown(browser.get(f"{path}/edit")).text
    assert "None is kept for longer than 400 days." in shown
    assert "Leave empty" not in shown


@pytest.mark.parametrize(
    ("wrong", "control", "sentence"),
    [
        ({"series_by": ["model", "p_value"]}, "series", "p_value: Write the path of a parameter"),
        (
            {"series_by": ["model", "window.size"]},
            "series",
            "window.size: Write the path of a parameter, such as parameters.window.size.",
        ),
        ({"series_by": ["parameters..x"]}, "series", "parameters..x: Write names separated by single dots"),
        ({"series_by": [f"parameters.{each}" for each in "abcdef"]}, "series", "Choose at most 5."),
        (
            {"field_map.p_value": "p_value"},
            "field_map.p_value",
            "Write the path of a parameter, such as parameters.p_value.",
        ),
        ({"field_map.feature": "parameters."}, "field_map.feature", "Write names separated by single dots"),
        ({"run_timeout": "an hour"}, "run_timeout", "Must be an integer."),
        ({"run_timeout": "-1"}, "run_timeout", "Must be at least 1."),
        ({"run_timeout": "0"}, "run_timeout", "Must be at least 1."),
        ({"run_timeout": "9" * 50}, "run_timeout", "Must be at most "),
    ],
    ids=str,
)
def test_a_refused_rule_is_explained_beside_its_control(
    browser: Client, experiment: Experiment, path: str, wrong: dict[str, Any], control: str, sentence: str
) -> None:
    response = send(browser, f"{path}/edit", {**filled(browser, path), **wrong})
    assert response.status_code == 422
    shown = Shown(response)
    (error,) = shown.texts("form.experiment details[open] .error")
    assert error.startswith(sentence)
    assert shown.all("form.experiment .error", "id") == [f"{control}-error"]
    assert f"{control}-error" in " ".join(shown.all("[aria-invalid]", "aria-describedby"))
    typed = shown.all("form.experiment input[aria-invalid]", "value")
    assert "" not in typed
    assert set(typed) >= {value for values in wrong.values() for value in ([values] if str is type(values) else [])}


def test_rules_that_another_manager_changed_meanwhile_are_shown(
    browser: Client, manager: Caller, experiment: Experiment, path: str
) -> None:
    form = {**filled(browser, path), "series_by": ["model"], "field_map.p_value": "parameters.mine"}
    theirs = {"series_by": ["model_version"], "field_map": {"p_value": "parameters.theirs"}, "run_timeout": 60}
    assert manager.patch(f"/experiment/{experiment.pk}", theirs).status_code == 200
    response = send(browser, f"{path}/edit", form)
    assert response.status_code == 409
    newer = Shown(response).texts("form.experiment details[open] .newer")
    assert newer == ["Current value: Version", "Current value: p-value: parameters.theirs", "Current value: 60"]
    again = {**form, "version": response.context["form"].version}
    assert send(browser, f"{path}/edit", again).status_code == 302
    experiment.refresh_from_db()
    assert (experiment.series_by, experiment.field_map) == (["model"], {"p_value": "parameters.mine"})


def test_an_edit_of_an_older_version_is_refused_once(
    browser: Client, manager: Caller, experiment: Experiment, path: str
) -> None:
    form = {**filled(browser, path), "description": "mine"}
    manager.patch(f"/experiment/{experiment.pk}", {"description": "theirs", "tags": ["new"]})
    response = send(browser, f"{path}/edit", form)
    page = response.content.decode()
    assert response.status_code == 409
    assert "Someone else saved first" in page
    assert "Current value: theirs" in page
    assert "Current value: new" in page
    assert page.count("Current value: ") == 2
    assert ">\nmine</textarea>" in page
    experiment.refresh_from_db()
    assert experiment.description == "theirs"
    again = {**form, "version": response.context["form"].version}
    assert send(browser, f"{path}/edit", again).status_code == 302
    experiment.refresh_from_db()
    assert (experiment.description, experiment.tags) == ("mine", [])


@pytest.mark.parametrize(("before", "after"), [("small", "large"), ("large", "small")])
def test_an_edit_can_be_saved_after_the_configuration_became_too_large_for_the_form_or_small_enough(
    browser: Client, manager: Caller, experiment: Experiment, path: str, before: str, after: str
) -> None:
    configs = {"small": {"a": 1}, "large": {"a": "x" * MAX_CONFIG_TEXT}}
    Experiment.objects.update(config=configs[before])
    form = filled(browser, path)
    manager.patch(f"/experiment/{experiment.pk}", {"description": "theirs", "config": configs[after]})
    response = send(browser, f"{path}/edit", form)
    assert response.status_code == 409
    assert set(response.context["form"].newer) == {"description"} | ({"config"} if "config" in form else set())
    again = {**form, "version": response.context["form"].version}
    assert send(browser, f"{path}/edit", again).status_code == 302
    experiment.refresh_from_db()
    assert (experiment.description, experiment.config) == ("", configs["small"])


def test_two_users_who_make_the_same_change_both_succeed(
    browser: Client, manager: Caller, experiment: Experiment, path: str
) -> None:
    form = {**filled(browser, path), "description": "ours"}
    manager.patch(f"/experiment/{experiment.pk}", {"description": "ours"})
    assert send(browser, f"{path}/edit", form).status_code == 302


def test_a_concurrent_change_of_permissions_does_not_block_an_edit(
    browser: Client, manager: Caller, experiment: Experiment, path: str
) -> None:
    form = filled(browser, path)
    manager.patch(f"/experiment/{experiment.pk}", {"permissions": [{"entity": manager.id, "level": "Manage"}]})
    assert send(browser, f"{path}/edit", {**form, "name": "claret"}).status_code == 302


def test_an_error_of_an_edit_is_shown_beside_its_control(browser: Client, path: str) -> None:
    made("barley")
    response = send(browser, f"{path}/edit", {**filled(browser, path), "name": "barley", "description": "kept"})
    assert response.status_code == 422
    page = response.content.decode()
    assert f'<span class="error" id="name-error">{ExperimentView.conflict}' in page
    assert "It says by now" not in page
    assert "kept</textarea>" in page


@pytest.mark.parametrize("role", "anonymous outsider stranger reader watcher editor manager admin".split())
def test_only_managers_see_the_edit_links(
    request: pytest.FixtureRequest, settings: Settings, experiment: Experiment, path: str, role: str
) -> None:
    Experiment.objects.update(public=True)
    caller: Caller = request.getfixturevalue(role)
    client = caller.client if role == "anonymous" else through_session(caller, settings).client
    page = client.get(path).content.decode()
    assert (f"{path}/edit" in page) == (role in ("manager", "admin"))
    assert f"{path}/delete" not in page


# Archive and deletion.


def test_an_experiment_is_archived_and_restored(browser: Client, experiment: Experiment, path: str) -> None:
    page = send(browser, f"{path}/archive", {}, follow=True).content.decode()
    assert "“wine quality” was archived." in page
    assert f'action="{path}/restore"' in page
    assert names(read(browser)) == []
    assert names(read(browser, show="archived")) == ["wine quality"]
    page = send(browser, f"{path}/restore", {}, follow=True).content.decode()
    assert f'action="{path}/archive"' in page
    assert names(read(browser)) == ["wine quality"]


def test_a_deletion_shows_the_number_of_runs_and_asks_for_the_name(browser: Client, drift: Drift, path: str) -> None:
    assert "Moves it to the trash, with 1 run." in browser.get(f"{path}/delete").content.decode()
    for typed in ("", "wine", "WINE QUALITY", "\0"):
        response = send(browser, f"{path}/delete", {"name": typed})
        assert response.status_code == 422
        assert 'id="name-error"' in response.content.decode()
    assert Drift.objects.exists()
    response = send(browser, f"{path}/delete", {"name": " wine quality "}, follow=True)
    assert response.redirect_chain == [("/experiments", 302)]
    assert "“wine quality” was deleted with its runs." in response.content.decode()
    assert not Experiment.objects.exists()
    assert Event.objects.get(action="experiment_deleted").actor.email == "manager@example.org"


@pytest.mark.parametrize("page", ["edit", "archive", "restore", "delete"])
def test_a_deleted_experiment_is_not_found(browser: Client, experiment: Experiment, path: str, page: str) -> None:
    Experiment.objects.all().delete()
    response = send(browser, f"{path}/{page}", {"name": "wine quality"})
    assert response.status_code == 404
    assert "This experiment does not exist. It may have been deleted." in response.content.decode()


@pytest.mark.parametrize("page", ["archive", "restore"])
def test_the_addresses_of_buttons_have_no_page(browser: Client, path: str, page: str) -> None:
    assert browser.get(f"{path}/{page}").status_code == 405


def test_a_form_of_another_site_changes_nothing(browser: Client, experiment: Experiment, path: str) -> None:
    form = filled(browser, path)
    browser.handler.enforce_csrf_checks = True
    for page in ("edit", "archive", "delete"):
        refused = send(browser, f"{path}/{page}", {**form, "name": "wine quality", "description": "forged"})
        assert refused.status_code == 403
        assert "Go back, reload the page, and send the form again." in refused.content.decode()
    experiment.refresh_from_db()
    assert experiment.description == ""
    assert not changes()


def test_the_plan_for_experiments_with_few_runs_is_not_reused_for_many() -> None:
    few, many = made("few", "many")
    Drift.objects.bulk_create(run(few, number) for number in range(24))
    Drift.objects.bulk_create(run(many, number) for number in range(10 * NEWEST))
    for _ in range(3):
        Drift.objects.summaries_of([few.pk])
    with reads_of(Drift) as reads:
        Drift.objects.summaries_of([many.pk])
    assert not any(each.sorts_in_memory for each in reads)


def test_a_session_that_ends_during_a_change_is_told(
    browser: Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_by = Experiment.archive_by

    def archived_and_logged_out(experiment: Experiment, identity: Identity) -> None:
        archive_by(experiment, identity)
        Session.objects.all().delete()

    monkeypatch.setattr(Experiment, "archive_by", archived_and_logged_out)
    response = send(browser, f"{path}/archive", {})
    assert response.status_code == 400
    assert "Your session has ended. Log in again, and see whether your change was saved." in response.text
    assert Experiment.objects.get().archived_at
