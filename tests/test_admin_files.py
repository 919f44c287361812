"""Files in the admin portal: who sees and deletes them."""

import pytest
from django.urls import reverse
from pytest_django import Settings

from accounts.models import User
from audit.models import Action, Event
from drifts.models import Drift
from files.contents import chunks, files
from files.models import RunFile
from tests.caller import Caller
from tests.session import through_session
from tests.uploads import stored_file

STAFF = "stranger reader editor manager admin".split()
LIST = "/admin/files/runfile/"


@pytest.mark.parametrize("role", STAFF)
def test_staff_see_the_files_that_they_may_read_and_delete_those_that_they_may_edit(
    request: pytest.FixtureRequest, settings: Settings, drift: Drift, role: str
) -> None:
    caller: Caller = request.getfixturevalue(role)
    User.objects.filter(pk=caller.id).update(is_staff=True)
    browser = through_session(caller, settings).client
    file = stored_file(drift)
    may_edit = role in ("editor", "manager", "admin")
    shown = browser.get(LIST)
    assert shown.context["cl"].result_count == (0 if role == "stranger" else 1)
    address = reverse("admin:files_runfile_change", args=[file.pk])
    page = browser.get(address)
    assert page.status_code == (302 if role == "stranger" else 200)
    assert ("deletelink" in page.content.decode()) == may_edit
    assert browser.get(f"{LIST}add/").status_code == 403
    browser.post(address.replace("change", "delete"), {"post": "yes"})
    assert RunFile.objects.exists() == (not may_edit)
    assert (files().count_documents({}), chunks().count_documents({})) == ((0, 0) if may_edit else (1, 1))
    deletions = Event.objects.filter(action=Action.FILE_DELETED)
    assert [event.actor.email for event in deletions] == ([f"{role}@example.org"] if may_edit else [])


def test_the_page_of_a_file_links_to_its_content_and_its_run(admin: Caller, settings: Settings, drift: Drift) -> None:
    browser = through_session(admin, settings).client
    file = stored_file(drift)
    page = browser.get(reverse("admin:files_runfile_change", args=[file.pk])).content.decode()
    download = f"/api/v1/experiment/{drift.experiment_id}/drift/{drift.pk}/file/{file.pk}"
    assert f'href="{download}"' in page
    assert f'href="/admin/drifts/drift/{drift.pk}/change/"' in page
    assert f'href="/experiments/{drift.experiment_id}/runs/{drift.pk}/files/{file.pk}"' in page
    assert file.sha256 in page
    assert "_save" not in page
    assert browser.get(download).headers["Content-Disposition"].startswith("attachment")


def test_selected_files_are_deleted_with_their_contents_and_events(
    admin: Caller, settings: Settings, drift: Drift
) -> None:
    browser = through_session(admin, settings).client
    chosen = [str(stored_file(drift, name=f"{number}.html").pk) for number in range(3)]
    browser.post(LIST, {"action": "delete_selected", "_selected_action": chosen, "post": "yes"})
    assert not RunFile.objects.exists()
    assert not files().count_documents({})
    assert Event.objects.filter(action=Action.FILE_DELETED).count() == 3


def test_a_file_whose_experiment_is_deleted_does_not_break_the_list(
    admin: Caller, manager: Caller, settings: Settings, drift: Drift
) -> None:
    stored_file(drift)
    manager.delete(f"/experiment/{drift.experiment_id}")
    browser = through_session(admin, settings).client
    assert browser.get(LIST).context["cl"].result_count == 0
