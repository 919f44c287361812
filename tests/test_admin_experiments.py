"""Experiments in the admin portal: the permission editor, actions on several experiments, figures of their runs, and
filters.
"""

import datetime
import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from pytest_django import Settings

from audit.models import Event
from drifts.models import Drift
from experiments.admin import RULES, ExperimentAdmin
from experiments.models import Experiment, Permission
from tests.caller import Caller, Client
from tests.conftest import GROUP
from tests.session import through_session, version_shown
from tests.test_runs_page import Shown

LIST = "/admin/experiments/experiment/"


@pytest.fixture
def browser(admin: Caller, settings: Settings) -> Client:
    """The session of an administrator."""
    return through_session(admin, settings).client


def address(experiment: Experiment) -> str:
    return reverse("admin:experiments_experiment_change", args=[experiment.pk])


def form_of(browser: Client, experiment: Experiment, *entries: tuple[str, str], **changes: str) -> dict[str, str]:
    rows = {
        f"permissions-{i}-{name}": value for i, row in enumerate(entries) for name, value in zip(KEYS, row, strict=True)
    }
    total = {"permissions-TOTAL_FORMS": str(len(entries)), "permissions-INITIAL_FORMS": "0"}
    shown = {"name": experiment.name, "config": "{}", **version_shown(browser, address(experiment))}
    return {**shown, **total, **rows, **changes}


KEYS = ("entity", "level")


def entries_of(experiment: Experiment) -> list[tuple[str, str]]:
    experiment.refresh_from_db()
    return [(entry.entity, entry.level) for entry in experiment.permissions]


def test_changed_levels_are_reviewed_before_they_are_saved(
    browser: Client, experiment: Experiment, manager: Caller, editor: Caller, stranger: Caller
) -> None:
    before = entries_of(experiment)
    form = form_of(browser, experiment, (manager.id, "Manage"), ("stranger@example.org", "Edit"))
    review = browser.post(address(experiment), form)
    changes = " ".join(Shown(review).texts("li"))
    assert f"stranger@example.org {stranger.id} No access → Edit" in changes
    assert f"editor@example.org {editor.id} Edit → No access" in changes
    assert GROUP in changes
    assert entries_of(experiment) == before
    saved = browser.post(address(experiment), dict(review.context["sent"]))
    assert saved.status_code == 302
    assert entries_of(experiment) == [(manager.id, "Manage"), (stranger.id, "Edit")]


def test_a_concurrent_change_is_shown_for_another_review(
    browser: Client, experiment: Experiment, manager: Caller
) -> None:
    form = form_of(browser, experiment, (manager.id, "Manage"))
    review = browser.post(address(experiment), form)
    Experiment.objects.update(permissions=[Permission(entity=GROUP, level="Manage")])
    refused = browser.post(address(experiment), dict(review.context["sent"]))
    assert "Someone else changed this experiment" in refused.content.decode()
    assert entries_of(experiment) == [(GROUP, "Manage")]
    again = browser.post(address(experiment), {**form, "_version": refused.context["adminform"].form.version})
    *_, loss = Shown(again).texts("#content li")
    assert loss.startswith(GROUP)
    assert loss.endswith("Manage → No access")
    assert browser.post(address(experiment), dict(again.context["sent"])).status_code == 302
    assert entries_of(experiment) == [(manager.id, "Manage")]


def test_a_confirmation_holds_for_the_reviewed_change_only(browser: Client, experiment: Experiment) -> None:
    kept = entries_of(experiment)
    review = browser.post(address(experiment), form_of(browser, experiment, *kept, public="on"))
    confirmed = dict(review.context["sent"])["_confirmed"]
    other = form_of(browser, experiment, *kept, ("everyone", "Manage"), _confirmed=confirmed)
    assert "everyone" in " ".join(Shown(browser.post(address(experiment), other)).texts("#content li"))
    assert entries_of(experiment) == kept


def test_a_form_is_not_saved_over_a_concurrent_change_of_any_field(browser: Client, experiment: Experiment) -> None:
    form = form_of(browser, experiment, *entries_of(experiment), description="from the portal")
    Experiment.objects.update(description="from elsewhere")
    refused = browser.post(address(experiment), form)
    assert "Someone else changed this experiment" in refused.content.decode()
    assert "from the portal" in refused.content.decode()
    experiment.refresh_from_db()
    assert experiment.description == "from elsewhere"


def test_a_concurrent_change_is_reported_when_editing_goes_on_after_the_review(
    browser: Client, experiment: Experiment
) -> None:
    form = form_of(browser, experiment, *entries_of(experiment), public="on", description="from the portal")
    browser.post(address(experiment), form)
    Experiment.objects.update(description="from elsewhere")
    page = browser.post(address(experiment), {**form, "_edit": "Keep editing"}).content.decode()
    assert "Not saved yet." in page
    assert "Someone else changed this experiment" in page


def test_a_change_between_the_check_and_the_write_is_kept(
    browser: Client, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_form = ExperimentAdmin.save_form

    def change_and_save(*args: Any, **options: Any) -> Any:
        saved = save_form(*args, **options)
        Experiment.objects.update(permissions=[Permission(entity=GROUP, level="Manage")])
        return saved

    monkeypatch.setattr(ExperimentAdmin, "save_form", change_and_save)
    refused = browser.post(address(experiment), form_of(browser, experiment, *entries_of(experiment), name="renamed"))
    assert "Someone else changed this experiment" in browser.get(refused.headers["Location"]).content.decode()
    assert entries_of(experiment) == [(GROUP, "Manage")]
    assert experiment.name == "wine quality"


def test_the_review_leads_back_to_the_form(browser: Client, experiment: Experiment, manager: Caller) -> None:
    form = form_of(browser, experiment, (manager.id, "Manage"), name="renamed")
    review = browser.post(address(experiment), form)
    page = browser.post(address(experiment), {**dict(review.context["sent"]), "_edit": "Keep editing"})
    assert page.content.decode().count("Not saved yet.") == 1
    assert "Please correct the error" not in page.content.decode()
    assert 'value="renamed"' in page.content.decode()
    experiment.refresh_from_db()
    assert experiment.name == "wine quality"


def test_only_changes_of_access_are_reviewed_first(browser: Client, experiment: Experiment) -> None:
    kept = entries_of(experiment)
    public = browser.post(address(experiment), form_of(browser, experiment, *kept, public="on"))
    assert "Anyone can read it" in public.content.decode()
    assert browser.post(address(experiment), form_of(browser, experiment, *kept, description="new")).status_code == 302
    experiment.refresh_from_db()
    assert (experiment.description, experiment.public) == ("new", False)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([(GROUP, "Manage"), ("nobody@example.org", "Read")], "No registered user has this email"),
        ([(GROUP, "Read")], "The experiment needs a manager."),
        ([], "The experiment needs a manager."),
        ([(GROUP, "Owner")], "Choose Read, Edit or Manage."),
        ([(GROUP, "Manage"), ("readers", "")], "readers: Choose Read, Edit or Manage."),
        ([(GROUP, "Manage"), ("", "Read")], "An entry without a name: Name a person or group."),
        ([(GROUP, "Manage"), ("  ", "Read")], "An entry without a name: Name a person or group."),
    ],
)
def test_the_form_refuses_permissions_that_the_api_would_refuse(
    browser: Client, experiment: Experiment, entries: list[tuple[str, str]], problem: str
) -> None:
    before = entries_of(experiment)
    response = browser.post(address(experiment), form_of(browser, experiment, *entries))
    assert problem in response.content.decode()
    assert entries_of(experiment) == before


@pytest.mark.parametrize(
    ("field", "text", "sentence"),
    [
        ("config", "[1]", ""),
        ("config", "[]", "Must be an object"),
        ("config", '{"a": "\\ud800"}', "a: A string must not hold a lone surrogate"),
        ("config", "{", "This is not valid JSON (line 1, column 2)."),
        ("config", '{"a": [1, NaN]}', "a.1: NaN is not a JSON number. Send null or leave it out."),
        ("config", '{"a": {"b": 1, "b": 2}}', 'a: The name "b" stands twice.'),
        ("tags", 'a,"b', "Write the tags in one line, separated by commas."),
        ("tags", 'a," "', "Must not be empty."),
        ("tags", ",".join("t" * 51), "At most 50 tags are allowed."),
        ("tags", "a," + "x" * 21, f"Tag “{'x' * 21}” has more than 20 characters."),
        ("tags", "\x00", "A string must not hold the character NUL"),
        ("name", "barley", "An experiment with this name already exists. Choose another name."),
    ],
)
def test_other_fields_follow_the_rules_of_the_api(
    browser: Client, experiment: Experiment, field: str, text: str, sentence: str
) -> None:
    Experiment.objects.create(name="barley")
    response = browser.post(address(experiment), form_of(browser, experiment, *entries_of(experiment), **{field: text}))
    assert response.status_code == 200
    form = response.context["adminform"].form
    [problem] = form.errors[field]
    assert sentence in problem
    # Texts that cannot be read are shown as they were typed.
    assert field != "config" or form["config"].value().replace(" ", "") == text.replace(" ", "")


def test_a_form_that_changes_another_field_keeps_names_and_tags_as_they_were_sent(
    browser: Client, experiment: Experiment
) -> None:
    tags = ["a,b", " spaced ", '"']
    Experiment.objects.update(name=" wine ", tags=tags)
    experiment.refresh_from_db()
    shown = browser.get(address(experiment)).context["adminform"].form
    texts = {name: str(shown[name].value()) for name in ("name", "tags")}
    form = form_of(browser, experiment, *entries_of(experiment), **texts, description="aged")
    assert browser.post(address(experiment), form).status_code == 302
    experiment.refresh_from_db()
    assert (experiment.name, experiment.tags, experiment.description) == (" wine ", tags, "aged")


def test_a_refused_form_keeps_the_stored_name_in_its_heading(browser: Client, experiment: Experiment) -> None:
    form = form_of(browser, experiment, *entries_of(experiment), name="barley", config="{")
    page = browser.post(address(experiment), form).content.decode()
    assert "<h2>wine quality</h2>" in page
    assert 'value="barley"' in page


@pytest.mark.parametrize("text", ['\ufeff{"a": 1}', '\ufeff{"a": 1, "a": 2}', "\ufeff{"])
def test_a_byte_order_mark_is_ignored_as_by_the_api(browser: Client, experiment: Experiment, text: str) -> None:
    response = browser.post(address(experiment), form_of(browser, experiment, *entries_of(experiment), config=text))
    experiment.refresh_from_db()
    if text.endswith("1}"):
        assert (response.status_code, experiment.config) == (302, {"a": 1})
    else:
        [problem] = response.context["adminform"].form.errors["config"]
        assert ("stands twice" if "2" in text else "(line 1, column 2)") in problem


@pytest.mark.parametrize("text", ["", "null"])
def test_an_empty_configuration_is_an_empty_object(browser: Client, experiment: Experiment, text: str) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(config={"a": 1})
    form = form_of(browser, experiment, *entries_of(experiment), config=text)
    assert browser.post(address(experiment), form).status_code == 302
    experiment.refresh_from_db()
    assert experiment.config == {}


def test_labels_are_those_of_the_pages(browser: Client, experiment: Experiment) -> None:
    page = browser.get(address(experiment)).content.decode()
    for label in ("Access:", "Configuration (JSON):", "Created:", "Updated:", "Separate with commas"):
        assert label in page


def test_a_deletion_asks_for_confirmation_and_can_be_cancelled(browser: Client, experiment: Experiment) -> None:
    page = browser.get(reverse("admin:experiments_experiment_delete", args=[experiment.pk])).content.decode()
    assert "<h1>Delete experiment?</h1>" in page
    assert (
        page.index("Experiment: wine quality")
        < page.index("It can be restored from the trash")
        < page.index(">Cancel<")
    )
    page = act(browser, "delete_selected", experiment)
    assert "<h1>Delete the selected experiments?</h1>" in page
    assert (
        page.index("Experiment: wine quality")
        < page.index("It can be restored from the trash")
        < page.index(">Cancel<")
    )
    assert "Delete the selected experiments</option>" in browser.get(LIST).content.decode()


def test_an_object_without_changes_in_the_portal_has_an_empty_history(browser: Client, experiment: Experiment) -> None:
    path = reverse("admin:experiments_experiment_history", args=[experiment.pk])
    assert "No changes in the admin portal yet." in browser.get(path).content.decode()
    form = form_of(browser, experiment, *entries_of(experiment), description="new")
    assert browser.post(address(experiment), form).status_code == 302
    page = browser.get(path).content.decode()
    assert "Changed Description" in page
    assert "Access" not in page.partition("Changed Description")[2].partition("</td>")[0]
    assert "No changes" not in page


def test_only_a_search_offers_to_show_all(browser: Client, experiment: Experiment) -> None:
    assert "Show all" not in browser.get(LIST, {"public__exact": "0"}).content.decode()
    assert "Show all" in browser.get(LIST, {"q": "wine"}).content.decode()


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"permissions-TOTAL_FORMS": "many", "permissions-INITIAL_FORMS": "0"},
        {"permissions-TOTAL_FORMS": "999999999999", "permissions-INITIAL_FORMS": "-1"},
        {"permissions-TOTAL_FORMS": "1", "permissions-INITIAL_FORMS": "0", "permissions-0-entity": "\x00"},
    ],
)
def test_a_forged_form_changes_nothing(browser: Client, experiment: Experiment, sent: dict[str, str]) -> None:
    before = entries_of(experiment)
    response = browser.post(address(experiment), {"name": "renamed", "config": "{}", **sent})
    assert response.status_code == 200
    assert entries_of(experiment) == before
    assert experiment.name == "wine quality"


def test_the_form_names_users_by_email_and_suggests_entitlements(browser: Client, experiment: Experiment) -> None:
    page = browser.get(address(experiment)).content.decode()
    assert "<strong>editor@example.org</strong>" in page
    assert f'<option value="{GROUP}">' in page
    assert '<option value="admins">' in page


def test_a_form_of_too_many_entries_is_refused_with_the_limit(browser: Client, experiment: Experiment) -> None:
    form = form_of(browser, experiment, *entries_of(experiment)) | {"permissions-TOTAL_FORMS": "99999999"}
    page = browser.post(address(experiment), form).content.decode()
    assert "At most 1,000 entries are allowed. Remove some." in page
    assert page.count("<select") <= 1_002


def test_a_form_that_was_cut_off_is_refused(browser: Client, experiment: Experiment) -> None:
    form = form_of(browser, experiment, *entries_of(experiment))
    del form["permissions-TOTAL_FORMS"]
    assert "The form was incomplete. Open the page again." in browser.post(address(experiment), form).content.decode()


def test_the_length_of_a_search_is_limited(browser: Client, experiment: Experiment) -> None:
    page = browser.get(LIST, {"q": "wine " * 41})
    assert "The search is too long. Write at most 200 characters." in page.content.decode()
    assert page.context["cl"].result_count == 0


def act(browser: Client, action: str, *experiments: Experiment) -> Any:
    chosen = {"action": action, "_selected_action": [str(experiment.pk) for experiment in experiments]}
    return browser.post(LIST, chosen, follow=True).content.decode()


def test_several_experiments_are_archived_and_restored(browser: Client, experiment: Experiment) -> None:
    other = Experiment.objects.create(name="barley")
    assert "2 experiments archived." in act(browser, "archive", experiment, other)
    assert not Experiment.objects.archived(False).exists()
    assert "1 experiment restored." in act(browser, "restore", other)
    counts = {which: browser.get(LIST, {"archived": which}).context["cl"].result_count for which in ("yes", "no")}
    assert counts == {"yes": 1, "no": 1}
    recorded = Event.objects.exclude(action="login").order_by("created_at").values_list("action", flat=True)
    assert list(recorded) == ["experiment_archived"] * 2 + ["experiment_restored"]


def test_staff_publish_only_the_selected_experiments_that_they_manage(
    settings: Settings, experiment: Experiment, manager: Caller
) -> None:
    assert manager.user
    manager.user.is_staff = True
    manager.user.save()
    browser = through_session(manager, settings).client
    other = Experiment.objects.create(name="barley", permissions=[Permission(entity=manager.id, level="Edit")])
    said = act(browser, "publish", experiment, other)
    assert "1 experiment made public." in said
    assert "Not changed, because" in said
    assert [it.name for it in Experiment.objects.filter(public=True)] == ["wine quality"]
    assert "1 experiment made private." in act(browser, "make_private", experiment)


def test_the_list_shows_the_number_of_runs_and_links_to_them(browser: Client, drift: Drift) -> None:
    Experiment.objects.create(name="barley")
    page = browser.get(LIST).content.decode()
    runs = f"/admin/drifts/drift/?experiment={drift.experiment_id}"
    assert f'<a href="{runs}">1</a>' in page
    assert f"{drift.created_at:%Y-%m-%d %H:%M} UTC" in page
    assert browser.get(runs).context["cl"].result_count == 1


def test_experiments_are_filtered_by_tag_day_and_visibility(browser: Client, experiment: Experiment) -> None:
    Experiment.objects.create(name="barley", tags=["nightly"], public=True)

    def found(**query: str) -> int:
        return browser.get(LIST, query).context["cl"].result_count

    assert found(tag="nightly") == 1
    assert found(public__exact="1") == 1
    assert found(q="WINE") == 1
    assert found(since="2020-01-01") == 2
    assert found(until="2020-01-01") == 0
    assert found(until=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}") == 2
    assert found(until="9999-12-31") == 2
    assert "someday is not a date" in browser.get(LIST, {"since": "someday"}).content.decode()


def test_a_description_keeps_its_line_breaks(browser: Client, experiment: Experiment) -> None:
    kept = entries_of(experiment)
    for _ in range(2):
        form = form_of(browser, experiment, *kept, description="one\r\n\r\ntwo")
        assert browser.post(address(experiment), form).status_code == 302
        experiment.refresh_from_db()
        assert experiment.description == "one\n\ntwo"
    changes = LogEntry.objects.order_by("action_time").values_list("change_message", flat=True)
    assert ["Description" in json.loads(change)[0]["changed"]["fields"] for change in changes] == [True, False]


def test_the_rules_for_runs_are_shown_and_kept_by_the_form(
    browser: Client, manager: Caller, experiment: Experiment
) -> None:
    assert Shown(browser.get(address(experiment))).texts(".field-mapped_fields .readonly") == ["-"]
    rules = {"series_by": ["model", "parameters.site"], "field_map": {"p_value": "parameters.p"}, "run_timeout": 60}
    rules["retention_days"] = 30
    assert manager.patch(f"/experiment/{experiment.pk}", rules).status_code == 200
    experiment.refresh_from_db()
    entries = [(entry.entity, entry.level) for entry in experiment.permissions]
    form = form_of(browser, experiment, *entries, description="Chemistry")
    assert browser.post(address(experiment), form).status_code == 302
    kept = Experiment.objects.get()
    assert (kept.description, kept.run_rules) == ("Chemistry", experiment.run_rules)
    page = Shown(browser.get(address(experiment)))
    shown = [page.texts(f".field-{name} .readonly")[0] for name in RULES]
    started = f"since {kept.updated_at:%Y-%m-%d}"
    assert shown[:4] == ["model, parameters.site", "p_value: parameters.p", "60", "30"]
    assert shown[4].startswith(f"0 of 0 runs by the new field_map, {started}")
