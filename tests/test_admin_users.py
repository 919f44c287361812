"""The page of a user in the portal: what the user may access and why, the tokens, and the latest events."""

import datetime
import re
import uuid
from html import unescape
from typing import Any

import pytest
from django.urls import reverse
from pytest_django import Settings

from accounts.admin import LATEST_EVENTS, UserAdmin
from accounts.models import ServiceToken, User
from audit.models import Action, Actor, Event, Target
from audit.trail import record
from core.identity import Identity, Level, Requirement
from experiments.admin_users import MAX_TOKENS
from experiments.models import Experiment, Permission
from experiments.sharing import MAX_LISTED
from tests.caller import Caller, Client
from tests.conftest import GROUP
from tests.profiler import reads_of
from tests.session import through_session

DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def portal(admin: Caller, settings: Settings) -> Client:
    return through_session(admin, settings).client


@pytest.fixture
def staff(reader: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A member of staff who may view users, but neither tokens nor events, and reads one experiment."""
    monkeypatch.setitem(UserAdmin.required_levels, "view", Requirement.STAFF)
    User.objects.filter(pk=reader.id).update(is_staff=True)
    return through_session(reader, settings).client


def parts_of(browser: Client, caller: Caller) -> dict[str, list[str]]:
    """The rows of each part of the page of a user, by the heading; paragraphs are rows too."""
    page = browser.get(reverse("admin:accounts_user_change", args=[caller.id]))
    assert page.status_code == 200
    found = {}
    for section in re.findall(r'<section class="panel.*?</section>', page.content.decode(), re.DOTALL):
        heading, *rows = map(text_of, re.findall(r"<h2.*?</h2>|<p.*?</p>|<tr>.*?</tr>", section, re.DOTALL))
        found[heading] = rows
    return found


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def access_of(browser: Client, caller: Caller) -> list[str]:
    return parts_of(browser, caller)["Access to experiments"]


def note_groups(caller: Caller, *groups: str) -> None:
    assert caller.user
    caller.user.note_entitlements(groups, int(DAY.timestamp()))


# Access.


def test_the_experiments_that_name_the_user_or_a_known_group_are_listed_with_level_and_reasons(
    portal: Client, stranger: Caller, experiment: Experiment
) -> None:
    note_groups(stranger, "users", GROUP)
    entries = [Permission(entity=stranger.id, level=Level.EDIT), Permission(entity=GROUP, level=Level.READ)]
    Experiment.objects.create(name="hops", permissions=entries, public=True)
    Experiment.objects.create(name="hidden barley")
    Experiment.objects.create(name="public barley", public=True)
    assert access_of(portal, stranger) == [
        "By the groups and roles of the last known login or token, of 2026-01-01 00:00 UTC.",
        "Read: 2 public experiments. Show all",
        "Experiment Level Why",
        f"hops Edit Edit: named in the list Read: as a member of {GROUP} Read: because it is public",
        f"wine quality Read Read: as a member of {GROUP}",
    ]
    page = portal.get(reverse("admin:accounts_user_change", args=[stranger.id])).content.decode()
    assert f'href="{reverse("admin:experiments_experiment_change", args=[experiment.pk])}"' in page


def test_an_administrator_manages_all_experiments(portal: Client, admin: Caller, experiment: Experiment) -> None:
    note_groups(admin, "admins", GROUP)
    _, managed, public, _, row = access_of(portal, admin)
    assert managed == "Manage: 1 experiment, as an administrator. Show all"
    assert public == "Read: 0 public experiments."
    assert row == f"wine quality Manage Manage: as an administrator Read: as a member of {GROUP}"


def test_a_user_without_a_login_has_no_known_groups(portal: Client, watcher: Caller, experiment: Experiment) -> None:
    known, *_, named = access_of(portal, watcher)
    assert known == "No groups or roles are known: this user has not logged in yet."
    assert named == "No experiment names this user or a group of this user."


@pytest.mark.parametrize(("groups", "is_active"), [(("guests", GROUP), True), (("users", GROUP), False)])
def test_a_user_who_may_not_use_the_service_has_public_access_only(
    portal: Client, editor: Caller, experiment: Experiment, groups: tuple[str, ...], is_active: bool
) -> None:
    note_groups(editor, *groups)
    User.objects.filter(pk=editor.id).update(is_active=is_active)
    shown = access_of(portal, editor)
    assert "public access only" in shown[1]
    assert shown[-1] == "No experiment names this user or a group of this user."


def test_only_the_newest_of_many_experiments_are_listed(portal: Client, stranger: Caller) -> None:
    note_groups(stranger, "users")
    Experiment.objects.bulk_create(
        Experiment(
            name=f"hops {number:02}",
            permissions=[Permission(entity=stranger.id, level=Level.READ)],
            created_at=DAY + datetime.timedelta(days=number),
        )
        for number in range(MAX_LISTED + 10)
    )
    shown = access_of(portal, stranger)
    names = [row for row in shown if row.startswith("hops")]
    assert [name[:7] for name in names] == [f"hops {number}" for number in range(59, 9, -1)]
    assert shown[-1] == "The newest 50 of 60 that name the user or a group of the user."


def test_staff_see_the_access_to_experiments_whose_members_they_may_see_and_no_other_part(
    staff: Client, watcher: Caller, experiment: Experiment
) -> None:
    """Neither a private experiment that staff cannot read, nor the list of a public one, nor their number leaks."""
    note_groups(watcher, "users", GROUP)
    own = [Permission(entity=watcher.id, level=Level.MANAGE)]
    Experiment.objects.create(name="hidden barley", permissions=own)
    Experiment.objects.create(name="public barley", permissions=own, public=True)
    parts = parts_of(staff, watcher)
    assert parts.keys() == {"Access to experiments"}
    assert parts["Access to experiments"][1:] == [
        "Read: 1 public experiment. Show all",
        "Experiment Level Why",
        f"wine quality Read Read: as a member of {GROUP}",
    ]
    page = staff.get(reverse("admin:accounts_user_change", args=[watcher.id])).content.decode()
    assert "barley" not in page


def test_staff_without_a_permission_see_nothing_private(
    staff: Client, manager: Caller, admin: Caller, experiment: Experiment
) -> None:
    note_groups(manager, "users")
    note_groups(admin, "admins")
    Experiment.objects.update(permissions=[Permission(entity=manager.id, level=Level.MANAGE)])
    nothing = "No experiment names this user or a group of this user."
    assert access_of(staff, manager)[1:] == ["Read: 0 public experiments.", nothing]
    assert access_of(staff, admin)[1:] == [
        "Manage: 0 experiments, as an administrator. Show all",
        "Read: 0 public experiments.",
        nothing,
    ]
    assert "wine" not in staff.get(reverse("admin:accounts_user_change", args=[manager.id])).content.decode()


# Tokens.


def test_the_tokens_of_the_user_are_listed(
    portal: Client, editor: Caller, reader: Caller, experiment: Experiment
) -> None:
    assert editor.user
    assert reader.user
    week = datetime.timedelta(days=7)
    ServiceToken.objects.issue(reader.user, "of somebody else", week)
    gone = str(uuid.uuid4())
    limited = ServiceToken.objects.issue(
        editor.user, "nightly", week, level=Level.READ, experiments=[str(experiment.pk), gone]
    )
    whole = ServiceToken.objects.issue(editor.user, "weekly", week)
    ServiceToken.objects.filter(pk=limited.pk).update(last_used_at=DAY, revoked_at=DAY, created_at=DAY, expires_at=DAY)
    made, expires = (f"{time:%Y-%m-%d %H:%M}" for time in (whole.created_at, whole.expires_at))
    day = "2026-01-01 00:00"
    assert parts_of(portal, editor)["Access tokens"][1:] == [
        f"weekly Active Manage All {made} {expires} Never",
        f"nightly Revoked Read wine quality and 1 other {day} {day} {day} {day}",
    ]
    page = portal.get(reverse("admin:accounts_user_change", args=[editor.id])).content.decode()
    assert f'href="{reverse("admin:accounts_servicetoken_change", args=[whole.pk])}"' in page


def test_only_the_newest_of_many_tokens_are_listed(portal: Client, editor: Caller, reader: Caller) -> None:
    ServiceToken.objects.bulk_create(
        ServiceToken(user=editor.user, name=f"token {number}", expires_at=DAY) for number in range(MAX_TOKENS + 1)
    )
    shown = parts_of(portal, editor)["Access tokens"]
    assert len(shown) == MAX_TOKENS + 2
    assert shown[-1] == "The newest 50 of 51. Show all"
    assert parts_of(portal, reader)["Access tokens"] == ["No tokens yet"]


# Events.


def test_the_latest_events_by_and_about_the_user_lead_to_all_of_them(
    portal: Client, editor: Caller, reader: Caller, experiment: Experiment
) -> None:
    by_editor, by_reader = (
        Identity("issuer", caller.user.subject, caller.user.email, user=caller.user)
        for caller in (editor, reader)
        if caller.user
    )
    record(Action.ADMIN_CHANGED, by_reader, editor.user, after={"is_active": True})
    record(Action.LOGIN, by_reader, reader.user)
    for _ in range(LATEST_EVENTS - 1):
        record(Action.EXPERIMENT_UPDATED, by_editor, experiment, after={"name": "hops"})
    *_, about, link = parts_of(portal, editor)["Latest events"]
    assert about.endswith("Changed in the admin portal reader@example.org user editor@example.org Command line")
    assert link == "Show all events by and about this user"
    record(Action.LOGOUT, by_editor, editor.user)
    _, newest, *others, _ = parts_of(portal, editor)["Latest events"]
    assert "Logout" in newest
    assert len(others) == LATEST_EVENTS - 1
    assert not any("Changed in the admin portal" in row for row in others)
    trail = portal.get(reverse("admin:audit_event_changelist"), {"person": editor.id})
    assert trail.context["cl"].result_count == LATEST_EVENTS + 1
    trail = portal.get(reverse("admin:audit_event_changelist"), {"person": "editor@example.org"})
    assert trail.context["cl"].result_count == LATEST_EVENTS


def test_few_of_many_events_are_read_by_two_indexes(portal: Client, editor: Caller) -> None:
    about = Target(type="user", object_id=editor.id, name="")
    other = Target(type="user", object_id=str(uuid.uuid4()), name="")
    Event.objects.bulk_create(
        Event(
            action=Action.LOGIN,
            actor=Actor(kind="user", user_id=uuid.UUID(editor.id) if number % 3 == 0 else uuid.uuid4(), email=""),
            target=about if number % 3 == 1 else other,
            way="session",
            created_at=DAY + datetime.timedelta(minutes=number),
        )
        for number in range(2_000)
    )
    with reads_of(Event) as reads:
        parts_of(portal, editor)
    (read,) = reads
    assert read.plan.count("IXSCAN") == 2
    assert not read.sorts_in_memory
    # The type of the target is compared in the document, which the merged result fetches again.
    assert read.documents <= 2 * LATEST_EVENTS
    with reads_of(Event) as reads:
        portal.get(reverse("admin:audit_event_changelist"), {"person": editor.id})
    assert all("COLLSCAN" not in each.plan for each in reads)
    (listed,) = (each for each in reads if "$sort" in each.stages)
    assert not listed.sorts_in_memory
    assert listed.documents <= 100


def test_saving_the_form_still_works(portal: Client, editor: Caller) -> None:
    path = reverse("admin:accounts_user_change", args=[editor.id])
    form: dict[str, Any] = {"email": "editor@example.org", "is_active": "on", "is_staff": "on"}
    version = portal.get(path).context["adminform"].form.version
    assert portal.post(path, {**form, "email": "no email", "_version": version}).status_code == 200
    assert portal.post(path, {**form, "_version": version}).status_code == 302
    assert User.objects.get(pk=editor.id).is_staff
