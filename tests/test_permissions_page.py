"""The permissions page: the members, the reasons for their access, and the review of changes."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from pytest_django import Settings

from accounts.models import User
from audit.models import Action, Event
from core.identity import Level
from experiments.models import Experiment, Permission
from tests.caller import Caller, Client
from tests.conftest import GROUP
from tests.session import through_session

Rows = list[tuple[str, str]]
Send = Callable[..., Any]


@pytest.fixture
def browser(manager: Caller, settings: Settings) -> Client:
    """The manager's browser."""
    return through_session(manager, settings).client


def address(experiment: Experiment) -> str:
    return f"/experiments/{experiment.pk}/permissions"


def version_in(page: Any) -> str:
    found = re.search(r'name="version" value="(\w+)"', page.content.decode())
    assert found
    return found[1]


def stored(experiment: Experiment) -> dict[str, str]:
    experiment.refresh_from_db()
    return {entry.entity: entry.level for entry in experiment.permissions}


@pytest.fixture
def send(browser: Client, experiment: Experiment) -> Send:
    """Send the manager's form with these rows, with the current version of the list unless one is given."""

    def sent(rows: Rows, step: str = "", *, client: Client = browser, **fields: str) -> Any:
        fields = {"version": version_in(browser.get(address(experiment)))} | fields
        form = {"entity": [entity for entity, _ in rows], "level": [level for _, level in rows], "step": step, **fields}
        return client.post(address(experiment), form_encoded(form), content_type=FORM)

    return sent


FORM = "application/x-www-form-urlencoded"


def form_encoded(fields: dict[str, Any]) -> str:
    return urlencode(fields, doseq=True)


@pytest.fixture
def rows(manager: Caller, editor: Caller, reader: Caller) -> Callable[..., Rows]:
    """The current rows of the list, with other levels for some."""
    ids = {"manager": manager.id, "editor": editor.id, "reader": reader.id, "group": GROUP}
    levels = {"manager": "Manage", "editor": "Edit", "reader": "Read", "group": "Read"}
    return lambda **changed: [(ids[name], level) for name, level in (levels | changed).items()]


def test_a_manager_sees_the_emails_of_members_and_their_reasons(browser: Client, experiment: Experiment) -> None:
    User.objects.filter(email="reader@example.org").update(is_active=False)
    page = browser.get(address(experiment)).content.decode()
    for text in ("manager@example.org", "(you)", "editor@example.org", GROUP, "Unknown user"):
        assert text in page
    assert "Your access: Manage" in page
    assert "reader@example.org" not in page


@pytest.mark.parametrize("role", ["reader", "watcher", "editor", "stranger"])
def test_a_forged_form_of_another_user_changes_nothing(
    request: pytest.FixtureRequest, settings: Settings, experiment: Experiment, send: Send, browser: Client, role: str
) -> None:
    before = stored(experiment)
    caller: Caller = request.getfixturevalue(role)
    client = through_session(caller, settings).client
    own = [(caller.id, "Manage")]
    assert client.get(address(experiment)).status_code == 403
    assert send(own, "save", client=client).status_code == 403
    version = version_in(browser.get(address(experiment)))
    assert hand_over(client, experiment, manager=caller.id, step="save", version=version).status_code == 403
    assert stored(experiment) == before


def test_a_member_without_manage_reads_whom_to_ask(editor: Caller, settings: Settings, experiment: Experiment) -> None:
    page = through_session(editor, settings).client.get(address(experiment)).content.decode()
    assert "You can edit the runs of “wine quality”, but this page needs Manage access." in page
    assert "Ask one of its managers: manager@example.org." in page


def test_a_change_is_reviewed_before_it_is_saved(
    send: Send, rows: Callable[..., Rows], experiment: Experiment, stranger: Caller, reader: Caller
) -> None:
    before = stored(experiment)
    wanted = [*rows(editor="Read", reader=""), ("stranger@example.org", "Read")]
    preview = send(wanted, public="on")
    page = preview.content.decode()
    assert preview.status_code == 200
    gains, losses = page.split("<h2>Less access</h2>")
    assert "stranger@example.org" in gains
    assert "reader@example.org" in losses
    assert "editor@example.org" in losses
    assert "Anyone can read it" in page
    assert stored(experiment) == before
    saved = send(wanted, "save", public="on")
    assert saved.status_code == 302
    assert saved.headers["Location"] == address(experiment)
    after = stored(experiment)
    assert reader.id not in after
    assert after[stranger.id] == "Read"
    assert experiment.public
    recorded = Event.objects.exclude(action=Action.LOGIN).values_list("action", flat=True)
    assert set(recorded) == {Action.PERMISSIONS_CHANGED, Action.VISIBILITY_CHANGED}


def test_a_review_without_changes_offers_no_confirmation(send: Send, rows: Callable[..., Rows]) -> None:
    page = send(rows()).content.decode()
    assert "No changes" in page
    assert "Confirm" not in page


@pytest.mark.parametrize(("level", "stored_level"), [("Read", "Edit"), ("Manage", "Manage")])
def test_a_person_who_is_added_again_holds_the_higher_level(
    send: Send, rows: Callable[..., Rows], experiment: Experiment, editor: Caller, level: str, stored_level: str
) -> None:
    assert send([*rows(), ("editor@example.org", level)], "save").status_code == 302
    assert stored(experiment)[editor.id] == stored_level


STAYS_MANAGER = "You stay a manager. To give that up, use "


@pytest.mark.parametrize("level", ["", "Read"])
def test_a_review_tells_a_manager_who_removes_their_own_entry_that_they_stay(
    send: Send, rows: Callable[..., Rows], level: str
) -> None:
    assert STAYS_MANAGER in send(rows(manager=level)).content.decode()
    page = send(rows(manager=level, reader="")).content.decode()
    assert STAYS_MANAGER in page
    assert "reader@example.org" in page
    assert STAYS_MANAGER not in send(rows(reader="")).content.decode()


def test_the_form_keeps_its_values_after_a_review(
    send: Send, rows: Callable[..., Rows], experiment: Experiment, stranger: Caller
) -> None:
    page = send([*rows(reader=""), (stranger.id, "Edit")], "edit", public="on").content.decode()
    assert stranger.id in page
    assert page.count('<option value="" selected>') == 1
    assert 'name="public" checked' in page
    assert stranger.id not in stored(experiment)


@pytest.mark.parametrize(
    ("entity", "level", "problem"),
    [
        ("nobody@example.org", "Read", "No registered user has this email"),
        (GROUP + "s", "Own", "Choose one of: Read, Edit, Manage."),
        ("a\0b", "Read", "Null characters are not allowed"),
        ("x" * 256, "Read", "at most 255 characters"),
    ],
)
def test_an_invalid_list_is_shown_again_with_the_reason(
    send: Send, rows: Callable[..., Rows], experiment: Experiment, entity: str, level: str, problem: str
) -> None:
    before = stored(experiment)
    for step in ("", "save"):
        response = send([*rows(), (entity, level)], step)
        assert response.status_code == 422
        assert problem in response.content.decode()
    assert stored(experiment) == before


def test_the_last_manager_cannot_be_removed(
    send: Send, rows: Callable[..., Rows], experiment: Experiment, admin: Caller, settings: Settings
) -> None:
    client = through_session(admin, settings).client
    for step in ("", "save"):
        response = send(rows(manager="Read"), step, client=client)
        assert response.status_code == 422
        assert "The experiment needs a manager." in response.content.decode()
    # A manager who is not an administrator keeps their permission.
    assert "No changes" in send(rows(manager="")).content.decode()


def test_a_form_of_an_older_list_is_refused_with_the_newer_one(
    send: Send, rows: Callable[..., Rows], experiment: Experiment, browser: Client, stranger: Caller, manager: Caller
) -> None:
    version = version_in(browser.get(address(experiment)))
    Experiment.objects.update(permissions=[Permission(entity=manager.id, level=Level.MANAGE)])
    for step in ("", "save"):
        response = send([*rows(), (stranger.id, "Read")], step, version=version)
        assert response.status_code == 409
        assert "Someone else saved first" in response.content.decode()
        assert "reader@example.org" not in response.content.decode()
    assert stored(experiment) == {manager.id: "Manage"}


def test_one_of_two_concurrent_managers_saves_and_the_other_sees_the_change(
    rows: Callable[..., Rows], experiment: Experiment, browser: Client, admin: Caller, settings: Settings
) -> None:
    clients = [browser, through_session(admin, settings).client]
    wanted = [rows(reader="Edit"), rows(reader="")]

    def save(client: Client, entries: Rows, version: str, together: threading.Barrier) -> int:
        form = {"entity": [who for who, _ in entries], "level": [level for _, level in entries], "version": version}
        together.wait()
        response = client.post(address(experiment), form_encoded({**form, "step": "save"}), content_type=FORM)
        connection.close()
        return response.status_code

    for _ in range(5):
        version, together = version_in(browser.get(address(experiment))), threading.Barrier(2, timeout=30)
        with ThreadPoolExecutor(2) as pool:
            responses = pool.map(save, clients, wanted, [version] * 2, [together] * 2)
            assert sorted(responses) == [302, 409]
        send_back = [{"entity": entity, "level": level} for entity, level in rows()]
        admin.patch(f"/experiment/{experiment.pk}", {"permissions": send_back})


def test_a_list_of_hundreds_can_be_changed(
    send: Send, rows: Callable[..., Rows], experiment: Experiment, browser: Client
) -> None:
    many = [*rows(), *((f"urn:group:{number}", "Read") for number in range(600))]
    assert send(many).status_code == 200
    assert send(many, "save").status_code == 302
    assert len(stored(experiment)) == 604
    assert browser.get(address(experiment)).status_code == 200


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        ("reader@example.org", "Read access"),
        (GROUP, "Read access"),
        ("stranger@example.org", "No registered user has this email"),
        ("zz@y.z", "No registered user has this email. People appear after their first login."),
        ("urn:other", "<strong>urn:other</strong> has no access."),
        ("a\0b", "NUL"),
    ],
)
def test_a_manager_looks_up_the_level_of_a_user(
    browser: Client, experiment: Experiment, entity: str, text: str
) -> None:
    page = browser.get(address(experiment), {"entity": entity}).content.decode()
    assert text in page
    assert ("This check does not know a person" in page) == (entity == "reader@example.org")


# Handover.


def hand_over(client: Client, experiment: Experiment, **fields: str) -> Any:
    if "version" not in fields:
        fields["version"] = version_in(client.get(address(experiment)))
    return client.post(f"{address(experiment)}/handover", form_encoded(fields), content_type=FORM)


@pytest.mark.parametrize(("keep", "goes_to"), [("Manage", "/permissions"), ("Read", ""), ("", None)])
def test_a_manager_reviews_a_handover_before_it_is_saved(
    browser: Client, experiment: Experiment, manager: Caller, stranger: Caller, keep: str, goes_to: str | None
) -> None:
    wanted = {"manager": "stranger@example.org", "keep": keep}
    before = stored(experiment)
    preview = hand_over(browser, experiment, **wanted).content.decode()
    assert "stranger@example.org" in preview
    assert ("<h2>Less access</h2>" in preview) == (keep != "Manage")
    assert stored(experiment) == before
    done = hand_over(browser, experiment, **wanted, step="save")
    after = stored(experiment)
    assert (after[stranger.id], after.get(manager.id, "")) == ("Manage", keep)
    assert done.headers["Location"] == ("/experiments" if goes_to is None else f"/experiments/{experiment.pk}{goes_to}")


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"manager": "nobody@example.org"}, "No registered user has this"),
        ({"manager": "manager@example.org"}, "You already manage this experiment. Enter another user."),
        ({"manager": GROUP}, "No registered user has this"),
        ({"manager": ""}, "Must not be empty."),
        ({"manager": "editor@example.org", "keep": "Own"}, "Choose one of: Read, Edit, Manage."),
    ],
)
def test_an_invalid_handover_is_refused_with_the_reason(
    browser: Client, experiment: Experiment, wanted: dict[str, str], problem: str
) -> None:
    before = stored(experiment)
    response = hand_over(browser, experiment, **wanted, step="save")
    assert response.status_code == 422
    assert problem in response.content.decode()
    assert stored(experiment) == before


def test_a_handover_is_refused_if_the_list_has_changed_since_the_review(
    browser: Client, experiment: Experiment, stranger: Caller, manager: Caller
) -> None:
    version = version_in(browser.get(address(experiment)))
    Experiment.objects.update(permissions=[Permission(entity=manager.id, level=Level.MANAGE)])
    wanted = {"manager": stranger.id, "keep": "", "step": "save"}
    assert hand_over(browser, experiment, **wanted, version=version).status_code == 409
    assert stored(experiment) == {manager.id: "Manage"}
