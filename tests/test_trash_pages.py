"""The trash on the pages and in the admin portal."""

import datetime
from typing import Any

import pytest
from django.urls import reverse
from pytest_django import Settings

from accounts.models import User
from audit.models import Event
from core import timestamps
from drifts.models import Drift
from experiments.models import DeletedExperiment, Experiment
from tests.caller import Caller, Client
from tests.conftest import RUN, purge_in_background
from tests.session import through_session
from tests.test_runs_page import Shown

DAY = datetime.timedelta(days=1)
LIST = "/admin/experiments/deletedexperiment/"


@pytest.fixture
def trashed(experiment: Experiment, drift: Drift, manager: Caller) -> DeletedExperiment:
    """The experiment with a run, deleted by its manager."""
    assert manager.delete(f"/experiment/{experiment.pk}").status_code == 204
    return DeletedExperiment.objects.get()


@pytest.fixture
def browser(manager: Caller, settings: Settings) -> Client:
    """The session of the manager."""
    return through_session(manager, settings).client


@pytest.fixture
def office(admin: Caller, settings: Settings) -> Client:
    """The session of an administrator."""
    return through_session(admin, settings).client


def act(browser: Client, action: str, *selected: DeletedExperiment, **more: str) -> Any:
    form = {"action": action, "_selected_action": [str(each.pk) for each in selected], **more}
    return browser.post(LIST, form, follow=True)


def minutes(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


# Pages.


def test_a_deletion_says_until_when_it_can_be_restored_and_links_to_the_trash(
    browser: Client, experiment: Experiment, drift: Drift
) -> None:
    path = f"/experiments/{experiment.pk}/delete"
    shown = browser.get(path)
    assert "Moves the experiment to the trash" in browser.get(f"/experiments/{experiment.pk}/edit").text
    assert minutes(shown.context["restorable_until"]) in shown.text
    assert timestamps.now() + 30 * DAY - shown.context["restorable_until"] < DAY
    assert "cannot be undone" not in shown.text
    deleted = browser.post(path, {"name": "wine quality"}, follow=True)
    assert 'It can be restored from the <a href="/experiments/trash">trash</a> until' in deleted.text


def test_without_a_trash_a_deletion_cannot_be_undone(
    browser: Client, experiment: Experiment, settings: Settings
) -> None:
    settings.TRASH_DAYS = 0
    path = f"/experiments/{experiment.pk}/delete"
    assert "Deletes its runs too." in browser.get(f"/experiments/{experiment.pk}/edit").text
    assert "This cannot be undone." in browser.get(path).text
    assert "trash</a>" not in browser.post(path, {"name": "wine quality"}, follow=True).text


def test_the_name_in_the_message_of_a_deletion_is_text(browser: Client, experiment: Experiment) -> None:
    Experiment.objects.update(name="<b>wine</b>")
    deleted = browser.post(f"/experiments/{experiment.pk}/delete", {"name": "<b>wine</b>"}, follow=True)
    assert "“&lt;b&gt;wine&lt;/b&gt;” was deleted." in deleted.text


def test_the_trash_shows_who_deleted_what_and_until_when_it_is_kept(
    browser: Client, trashed: DeletedExperiment
) -> None:
    shown = Shown(browser.get("/experiments/trash"))
    assert shown.texts("tbody td, tbody th")[:5] == [
        "wine quality",
        "1",
        minutes(trashed.deleted_at),
        "manager@example.org",
        minutes(trashed.purge_at),
    ]
    assert shown.texts("tbody button, tbody a") == ["Restore"]
    assert "Deleted experiments that you managed, with their runs." in shown.text


@pytest.mark.parametrize(("role", "names"), [("reader", []), ("editor", []), ("manager", ["wine quality"])])
def test_the_trash_shows_what_its_reader_managed(
    request: pytest.FixtureRequest, trashed: DeletedExperiment, settings: Settings, role: str, names: list[str]
) -> None:
    caller: Caller = request.getfixturevalue(role)
    shown = Shown(through_session(caller, settings).client.get("/experiments/trash"))
    assert shown.texts("tbody th") == names
    assert ("The trash is empty." in shown.text) is (not names)


def test_the_list_of_experiments_links_to_the_trash_for_those_who_are_logged_in(
    browser: Client, anonymous: Caller
) -> None:
    link = 'href="/experiments/trash"'
    assert link in browser.get("/experiments").text
    assert link not in anonymous.client.get("/experiments").text


def test_the_trash_has_pages(office: Client) -> None:
    now = timestamps.now()
    DeletedExperiment.objects.bulk_create(
        DeletedExperiment(name=f"experiment {n}", deleted_at=now - n * datetime.timedelta(minutes=1), runs=0)
        for n in range(21)
    )
    first, second = (Shown(office.get(f"/experiments/trash?page={number}")) for number in (1, 2))
    assert first.texts("tbody th") == [f"experiment {number}" for number in range(20)]
    assert second.texts("tbody th") == ["experiment 20"]
    assert "All deleted experiments, with their runs." in first.text
    assert "No more pages." in office.get("/experiments/trash?page=3").text
    assert office.get("/experiments/trash?page=0").status_code == 422


def test_an_experiment_is_restored_from_the_trash(browser: Client, trashed: DeletedExperiment) -> None:
    path = f"/experiments/trash/{trashed.pk}/restore"
    restored = browser.post(path, follow=True)
    assert restored.redirect_chain == [(f"/experiments/{trashed.pk}", 302)]
    assert "“wine quality” was restored with its runs." in restored.text
    assert browser.post(path).status_code == 404


def test_a_name_that_is_taken_is_told(browser: Client, trashed: DeletedExperiment) -> None:
    Experiment.objects.create(name="wine quality")
    refused = browser.post(f"/experiments/trash/{trashed.pk}/restore", follow=True)
    assert refused.redirect_chain == [("/experiments/trash", 302)]
    assert "Another experiment has the name “wine quality” now. Have that one renamed" in refused.text


def test_an_administrator_deletes_an_experiment_now(
    office: Client, browser: Client, trashed: DeletedExperiment
) -> None:
    assert Shown(office.get("/experiments/trash")).texts("tbody button, tbody a") == ["Restore", "Delete now"]
    path = f"/experiments/trash/{trashed.pk}/delete"
    asked = office.get(path).text
    assert "with 1 run. This cannot be undone." in asked
    assert minutes(trashed.purge_at) in asked
    done = office.post(path, follow=True)
    assert done.redirect_chain == [("/experiments/trash", 302)]
    assert "“wine quality” is removed for good." in done.text
    assert [office.get(path).status_code, office.post(path).status_code] == [404, 404]
    assert browser.post(f"/experiments/trash/{trashed.pk}/restore").status_code == 404
    assert Drift.objects.exists()
    purge_in_background()
    assert not Drift.objects.exists()
    event = Event.objects.get(action="experiment_purged")
    assert (event.actor.email, event.before["drift_runs"]) == ("admin@example.org", 1)


@pytest.mark.parametrize("page", ["restore", "delete"])
def test_an_address_that_is_no_id_is_not_found(office: Client, page: str) -> None:
    assert office.post(f"/experiments/trash/none/{page}").status_code == 404


# The portal.


@pytest.fixture
def staff(manager: Caller, settings: Settings) -> Client:
    """The session of the manager, whom an administrator has marked as staff."""
    User.objects.filter(pk=manager.id).update(is_staff=True)
    return through_session(manager, settings).client


def test_the_portal_lists_the_trash_by_the_same_rule(staff: Client, office: Client, trashed: DeletedExperiment) -> None:
    Experiment.objects.create(name="nobody's").delete_by(None)
    assert Shown(staff.get(LIST)).texts(".field-name") == ["wine quality"]
    shown = Shown(office.get(LIST))
    assert shown.texts(".field-name") == ["nobody's", "wine quality"]
    assert shown.texts(".field-deleted_by") == ["-", "manager@example.org"]
    page = staff.get(reverse("admin:experiments_deletedexperiment_change", args=[trashed.pk]))
    assert Shown(page).texts(".field-kept_until .readonly") == [minutes(trashed.purge_at)]
    other = DeletedExperiment.objects.get(name="nobody's")
    assert staff.get(reverse("admin:experiments_deletedexperiment_change", args=[other.pk])).status_code == 302


def test_the_portal_restores(staff: Client, trashed: DeletedExperiment) -> None:
    assert "1 experiment restored." in act(staff, "restore", trashed).text
    assert Drift.objects.get().experiment == Experiment.objects.get()
    assert "0 experiments in the trash" in Shown(staff.get(LIST)).text


def test_the_portal_says_why_it_does_not_restore(office: Client, trashed: DeletedExperiment) -> None:
    Experiment.objects.create(name="wine quality")
    assert "Not restored, because another experiment has the name" in act(office, "restore", trashed).text
    assert DeletedExperiment.objects.exists()


def test_only_administrators_delete_now_in_the_portal(
    staff: Client, office: Client, trashed: DeletedExperiment, manager: Caller
) -> None:
    path = reverse("admin:experiments_deletedexperiment_delete", args=[trashed.pk])
    label = "Delete the selected experiments now"
    assert label not in staff.get(LIST).text
    assert label in office.get(LIST).text
    assert staff.get(path).status_code == 403
    act(staff, "delete_selected", trashed, post="yes")
    assert DeletedExperiment.objects.in_trash().exists()
    for page in (office.get(path), act(office, "delete_selected", trashed)):
        assert "This cannot be undone." in page.text
        assert "drift runs: 1" in " ".join(Shown(page).text.split()).lower()
    another = manager.post("/experiment", {"name": "another"}).json()["id"]
    manager.post(f"/experiment/{another}/drift", RUN)
    manager.delete(f"/experiment/{another}")
    act(office, "delete_selected", trashed, post="yes")
    assert (
        office.post(reverse("admin:experiments_deletedexperiment_delete", args=[another]), {"post": "yes"}).status_code
        == 302
    )
    assert not DeletedExperiment.objects.in_trash().exists()
    purge_in_background()
    assert not Drift.objects.exists()
    events = Event.objects.filter(action="experiment_purged")
    assert [event.actor.email for event in events] == ["admin@example.org"] * 2


def test_a_deletion_in_the_portal_says_until_when_it_can_be_restored(
    office: Client, experiment: Experiment, settings: Settings
) -> None:
    path = reverse("admin:experiments_experiment_delete", args=[experiment.pk])
    assert "It can be restored from the trash until" in office.get(path).text
    settings.TRASH_DAYS = 0
    assert "This cannot be undone." in office.get(path).text
