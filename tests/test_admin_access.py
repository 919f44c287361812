"""The access rule in the admin portal: administrators see and change everything, other staff their own."""

from collections.abc import Callable

import pytest
from django.contrib import admin as portal
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.urls import reverse
from pytest_django import Settings

from accounts.models import ServiceToken, User
from audit.models import Event
from core.identity import Level, Requirement
from core.models import BackgroundTask
from core.portal.permissions import GuardedAdmin
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller, Client
from tests.conftest import GROUP
from tests.session import through_session, version_shown

STAFF = "stranger reader watcher editor manager admin".split()
Enter = Callable[[str], Client]
NO_FORM = {"permissions-TOTAL_FORMS": "0", "permissions-INITIAL_FORMS": "0"}


def address(model: type[Model], name: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


@pytest.fixture
def enter(request: pytest.FixtureRequest, settings: Settings) -> Enter:
    """Log in as one of the test users, whom an administrator made staff."""

    def enter(role: str) -> Client:
        caller: Caller = request.getfixturevalue(role)
        User.objects.filter(pk=caller.id).update(is_staff=True)
        return through_session(caller, settings).client

    return enter


def test_every_model_declares_the_level_of_each_action() -> None:
    for model_admin in portal.site._registry.values():
        assert isinstance(model_admin, GuardedAdmin)
        assert set(model_admin.required_levels) == {"view", "add", "change", "delete"}
        assert all(
            isinstance(required, Requirement | Level | None) for required in model_admin.required_levels.values()
        )


@pytest.mark.parametrize("role", STAFF)
def test_staff_see_only_experiments_and_runs_that_they_may_read(enter: Enter, drift: Drift, role: str) -> None:
    browser = enter(role)
    for model in (Experiment, Drift):
        found = browser.get(address(model, "changelist")).context["cl"].result_count
        assert found == (0 if role == "stranger" else 1)


@pytest.mark.parametrize("model", [User, ServiceToken, Event, LogEntry, BackgroundTask])
@pytest.mark.parametrize("role", STAFF)
def test_only_administrators_see_users_tokens_and_events(enter: Enter, model: type[Model], role: str) -> None:
    assert enter(role).get(address(model, "changelist")).status_code == (200 if role == "admin" else 403)


@pytest.mark.parametrize("role", STAFF)
def test_only_its_managers_change_and_delete_an_experiment(enter: Enter, experiment: Experiment, role: str) -> None:
    browser, may_manage = enter(role), role in ("manager", "admin")
    path = address(Experiment, "change", experiment.pk)
    page = browser.get(path)
    assert page.status_code == (302 if role == "stranger" else 200)
    assert ('name="_save"' in page.content.decode()) == may_manage
    form = {"name": "renamed", "config": "{}", "permissions-0-entity": GROUP, "permissions-0-level": "Manage"}
    if role != "stranger":
        form["_version"] = page.context["adminform"].form.version
    sent = browser.post(path, form | {"permissions-TOTAL_FORMS": "1", "permissions-INITIAL_FORMS": "0"})
    browser.post(address(Experiment, "delete", experiment.pk), {"post": "yes"})
    chosen = {"_selected_action": [str(experiment.pk)], "post": "yes"}
    browser.post(address(Experiment, "changelist"), chosen | {"action": "publish"})
    browser.post(address(Experiment, "changelist"), chosen | {"action": "delete_selected"})
    if may_manage:
        assert sent.status_code in (200, 302)
        assert not Experiment.objects.exists()
    else:
        experiment.refresh_from_db()
        assert (experiment.name, experiment.public) == ("wine quality", False)


@pytest.mark.parametrize("role", STAFF)
def test_only_editors_of_its_experiment_add_change_and_delete_a_run(enter: Enter, drift: Drift, role: str) -> None:
    browser, may_edit = enter(role), role in ("editor", "manager", "admin")
    form = {"job_status": "Failed", "model": "other", "tags": "", "parameters": "{}"}
    browser.post(address(Drift, "add"), {**form, "experiment": str(drift.experiment_id)})
    assert Drift.objects.count() == (2 if may_edit else 1)
    path = address(Drift, "change", drift.pk)
    if role != "stranger":
        form |= version_shown(browser, path)
    browser.post(path, form)
    drift.refresh_from_db()
    assert drift.model == ("other" if may_edit else "forest")
    assert drift.parameters["p_value"] == 0.003
    browser.post(address(Drift, "delete", drift.pk), {"post": "yes"})
    assert Drift.objects.filter(pk=drift.pk).exists() == (not may_edit)


@pytest.mark.parametrize(
    ("role", "may_add_runs", "may_change_experiments"),
    [("stranger", False, False), ("watcher", False, False), ("editor", True, False), ("manager", True, True)],
)
def test_a_list_offers_the_actions_allowed_on_some_experiment(
    enter: Enter, drift: Drift, role: str, may_add_runs: bool, may_change_experiments: bool
) -> None:
    browser = enter(role)
    runs = browser.get(address(Drift, "changelist")).content.decode()
    experiments = browser.get(address(Experiment, "changelist")).content.decode()
    assert (address(Drift, "add") in runs) == may_add_runs
    assert ('value="delete_selected"' in runs) == may_add_runs
    for action in ("archive", "publish", "delete_selected"):
        assert (f'value="{action}"' in experiments) == may_change_experiments
    assert address(Experiment, "add") in experiments


@pytest.mark.parametrize(("role", "status"), [("stranger", 403), ("reader", 403), ("editor", 200), ("manager", 200)])
def test_only_editors_of_a_run_see_its_history(enter: Enter, drift: Drift, role: str, status: int) -> None:
    Experiment.objects.update(public=True)
    browser, history = enter(role), address(Drift, "history", drift.pk)
    assert browser.get(history).status_code == status
    assert (history in browser.get(address(Drift, "change", drift.pk)).content.decode()) == (status == 200)


def test_the_permissions_of_a_public_experiment_are_hidden_from_staff_without_one(
    enter: Enter, experiment: Experiment
) -> None:
    Experiment.objects.update(public=True)
    path = address(Experiment, "change", experiment.pk)
    assert GROUP not in enter("stranger").get(path).content.decode()
    assert GROUP in enter("reader").get(path).content.decode()


def test_staff_who_add_an_experiment_manage_it(enter: Enter, reader: Caller) -> None:
    enter("reader").post(address(Experiment, "add"), {"name": "barley", "config": "{}", **NO_FORM})
    assert [(entry.entity, entry.level) for entry in Experiment.objects.get().permissions] == [(reader.id, "Manage")]


def test_the_portal_refuses_former_staff(enter: Enter, reader: Caller) -> None:
    browser = enter("reader")
    assert browser.get("/admin/").status_code == 200
    User.objects.update(is_staff=False)
    assert browser.get("/admin/").status_code == 403
    User.objects.update(is_staff=True, is_active=False)
    assert browser.get("/admin/").status_code == 302


def test_only_readers_of_an_experiment_learn_its_name_from_its_id(
    enter: Enter, drift: Drift, stranger: Caller, reader: Caller
) -> None:
    """Both may add runs to another experiment, whose form asks for an id."""
    own = [Permission(entity=caller.id, level=Level.EDIT) for caller in (stranger, reader)]
    Experiment.objects.create(name="barley", permissions=own)
    pk, add, runs = drift.experiment_id, address(Drift, "add"), address(Drift, "changelist")
    browser = enter("stranger")
    refused = browser.post(add, {"experiment": str(pk)})
    pages = [refused, browser.post(runs, {"action": "archive", "_selected_action": str(pk)}, follow=True)]
    paths = [
        "/admin/",
        f"{add}?experiment={pk}",
        f"{add}?experiment=nonsense",
        f"{runs}?experiment={pk}",
        f"{address(Experiment, 'changelist')}?q=wine",
        "/admin/autocomplete/?app_label=drifts&model_name=drift&field_name=experiment&term=wine",
        *(address(Experiment, page, pk) for page in ("change", "delete", "history")),
        *(address(Drift, page, drift.pk) for page in ("change", "delete", "history")),
    ]
    pages += [browser.get(path, follow=True) for path in paths]
    assert not any("wine quality" in page.content.decode() for page in pages)
    assert refused.context["adminform"].form.errors["experiment"][0].startswith("No experiment has this id.")
    assert "wine quality" in enter("reader").get(f"{add}?experiment={pk}").content.decode()


@pytest.mark.parametrize("query", ["parameters__p_value=1", "experiment__name__startswith=w", "model__regex=(a%2B)%2B"])
def test_a_query_that_no_filter_offers_is_refused(enter: Enter, drift: Drift, query: str) -> None:
    assert enter("reader").get(f"{address(Drift, 'changelist')}?{query}").status_code == 400


@pytest.mark.parametrize(
    ("model", "action"), [(Drift, "export_as_csv"), (Experiment, "archive"), (Drift, "delete_selected")]
)
def test_an_action_on_a_malformed_id_does_nothing(enter: Enter, drift: Drift, model: type[Model], action: str) -> None:
    browser = enter("manager")
    chosen = {"action": action, "_selected_action": [str(drift.pk), "x"], "post": "yes"}
    page = browser.post(address(model, "changelist"), chosen, follow=True)
    assert "Select the rows again" in page.content.decode()
    assert Drift.objects.count() == 1


def test_a_link_prefills_a_form_but_not_its_permissions(enter: Enter) -> None:
    page = enter("reader").get(f"{address(Experiment, 'add')}?name=wine&permissions=everybody")
    assert page.status_code == 200
    assert page.context["adminform"].form.initial == {"name": "wine"}


def test_the_portal_redirects_to_no_other_site(enter: Enter) -> None:
    assert enter("admin").get("/admin/r/1/1/").status_code == 404
