"""`manage.py user`: the export and the erasure of an account."""

import datetime
import json
import uuid
from collections.abc import Callable
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.authentication import RECENT_SECONDS
from accounts.models import ServiceToken, User
from audit.models import Actor, Event, Target
from audit.personal_data import events_of
from core.identity import Level
from core.mongodb.documents import mongodb
from drifts.models import Drift
from experiments import personal_data
from experiments.models import Experiment, Permission
from tests.caller import Caller, Client
from tests.provider import Provider
from tests.session import through_session
from tests.test_service_tokens import made

ADDRESS, AGENT, ELSEWHERE = "203.0.113.77", "the browser of the manager", "198.51.100.7"
FROM_HERE: dict[str, Any] = {"REMOTE_ADDR": ADDRESS, "HTTP_USER_AGENT": AGENT}


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("user", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def stored_text() -> str:
    """All documents of the database in one text."""
    database = mongodb().database
    names = [name for name in database.list_collection_names() if not name.startswith("system.")]
    return "\n".join(str(document) for name in names for document in database[name].find())


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal_data, "RECENT_SECONDS", 0)


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", "root@example.org", "correct horse battery")


@pytest.fixture
def busy(manager: Caller, admin: Caller, drift: Drift, settings: Settings, root: User) -> Caller:
    """The manager with traces everywhere: a session, a token, events, and an entry in the portal's log."""
    assert manager.user
    made(manager)
    experiment = f"/experiment/{drift.experiment_id}"
    assert manager.patch(experiment, {"description": "new"}, **FROM_HERE).status_code == 200
    assert manager.put("/user/self", **FROM_HERE).status_code == 200
    User.objects.filter(pk=manager.id).update(email="old@example.org")
    assert manager.put("/user/self", **FROM_HERE).status_code == 200
    for email in ("manager@example.org", "old@example.org", "reader@example.org"):
        assert admin.get(f"/audit/export?actor={email}").status_code == 200
    through_session(manager, settings)
    portal = Client(REMOTE_ADDR=ELSEWHERE)
    portal.force_login(root)
    form = portal.get(f"/admin/accounts/user/{manager.id}/change/").context["adminform"].form
    values = {"email": "manager@example.org", "is_active": "on", "is_staff": "on", "_version": form.version}
    assert portal.post(f"/admin/accounts/user/{manager.id}/change/", values).status_code == 302
    return manager


def test_an_export_has_all_data_of_the_account(busy: Caller, experiment: Experiment) -> None:
    exported = json.loads(run("export", "manager@example.org"))
    account = exported["account"]
    assert (account["id"], account["subject"], account["email"]) == (busy.id, "manager", "manager@example.org")
    assert [token["name"] for token in exported["tokens"]] == ["nightly"]
    assert [session.keys() for session in exported["sessions"]] == [{"id", "started_at", "ends_at"}]
    assert exported["permissions"] == [{"experiment": str(experiment.id), "name": "wine quality", "level": "Manage"}]
    events = {event["action"]: event for event in exported["events"]}
    assert {"token_issued", "experiment_updated", "email_changed", "login", "admin_changed"} == events.keys()
    assert events["experiment_updated"]["address"] == ADDRESS
    assert (events["admin_changed"]["actor"], events["admin_changed"]["address"]) == (None, None)
    assert not [secret for secret in ("root", "password", "dw_") if secret in json.dumps(exported)]
    event = Event.objects.first()
    assert event
    assert (event.action, event.way, event.target.object_id) == ("exported", "command", busy.id)


def test_an_erasure_leaves_an_id_and_nothing_else(busy: Caller, reader: Caller) -> None:
    before = stored_text()
    traces = ("manager@example.org", "old@example.org", "'manager'", ADDRESS, AGENT)
    assert [trace for trace in traces if trace not in before] == []
    events = events_of(uuid.UUID(busy.id)).count()
    said = run("erase", busy.id, "--successor", reader.id)
    assert said == f"The account {busy.id} is erased; its {events + 2} events have only this id."
    after = stored_text()
    assert [trace for trace in traces if trace in after] == []
    assert not User.objects.filter(pk=busy.id).exists()
    assert not ServiceToken.objects.exists()
    (session,) = Session.objects.all()
    assert session.get_decoded()["_auth_user_id"] == str(User.objects.get(subject="root").pk)
    assert busy.id not in [entry.entity for entry in Experiment.objects.get().permissions]
    assert Drift.objects.count() == 1
    assert busy.get("/user/self").status_code == 403


def test_events_keep_their_ids_and_those_of_others_keep_all(busy: Caller, reader: Caller) -> None:
    run("erase", "manager@example.org", "--successor", "reader@example.org")
    own = Event.objects.get(action="experiment_updated")
    assert own.actor.user_id == uuid.UUID(busy.id)
    assert (own.target.name, own.after) == ("wine quality", {"description": "new"})
    changed = Event.objects.get(action="admin_changed")
    assert (changed.actor.email, changed.address, changed.target.object_id) == ("root@example.org", ELSEWHERE, busy.id)
    assert changed.after == {"is_staff": True}
    searched = [event.after["actor"] for event in Event.objects.filter(action="exported").order_by("pk")]
    assert searched == ["(erased)", "(erased)", "reader@example.org"]
    email = Event.objects.get(action="email_changed")
    assert (email.before, email.after) == ({"email": "(erased)"}, {"email": "(erased)"})
    erased = Event.objects.get(action="user_erased")
    assert (erased.actor.kind, erased.target.object_id, erased.target.name) == ("command line", busy.id, "")
    assert LogEntry.objects.get(object_id=busy.id).object_repr == busy.id


def test_a_failed_login_keeps_no_address(root: User) -> None:
    Client().post("/login", {"username": "root", "password": "a guess"}, **FROM_HERE)
    run("erase", "root")
    event = Event.objects.get(action="login_failed")
    assert (event.address, event.user_agent, event.target.object_id) == (None, "", str(root.pk))


def test_events_from_before_the_registration_are_erased_too(newcomer: Caller, provider: Provider) -> None:
    event = Event.objects.create(
        action="exported",
        actor=Actor(kind="user", issuer=provider.issuer, subject="newcomer", email="newcomer@example.org"),
        target=Target(type="", object_id="", name=""),
        address=ADDRESS,
        user_agent=AGENT,
        way="bearer",
    )
    assert newcomer.post("/user").status_code == 201
    user = User.objects.get(subject="newcomer")
    run("erase", "newcomer@example.org")
    stored = Event.objects.get(pk=event.pk)
    assert (stored.actor.user_id, stored.actor.email, stored.actor.subject) == (user.pk, "", "")
    assert (stored.address, stored.user_agent) == (None, "")


def test_an_id_that_nothing_has_is_refused() -> None:
    with pytest.raises(CommandError, match="No account and no event has the id"):
        run("erase", str(uuid.uuid4()))


def test_the_only_manager_is_not_erased_without_a_successor(
    busy: Caller, reader: Caller, experiment: Experiment
) -> None:
    before = stored_text()
    with pytest.raises(
        CommandError, match=f"The account is not erased: it is the only manager of 'wine quality' .{experiment.id}."
    ):
        run("erase", busy.id)
    assert stored_text() == before
    run("erase", busy.id, "--successor", reader.id)
    levels = {entry.entity: entry.level for entry in Experiment.objects.get().permissions}
    assert levels[reader.id] == "Manage"
    assert busy.id not in levels


@pytest.mark.parametrize("name", ["manager", "inactive"])
def test_a_successor_is_another_active_account(name: str, manager: Caller, reader: Caller) -> None:
    User.objects.filter(pk=reader.id).update(is_active=False)
    successor = manager.id if name == "manager" else reader.id
    with pytest.raises(CommandError, match="The successor must be another account, and active"):
        run("erase", manager.id, "--successor", successor)
    assert User.objects.filter(pk=manager.id).exists()


def test_an_interrupted_erasure_is_finished_by_the_id(
    busy: Caller, reader: Caller, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(personal_data, "erase_from_events", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("erase", busy.id, "--successor", reader.id)
    monkeypatch.undo()
    assert ADDRESS in stored_text()
    for _ in range(2):
        assert run("erase", busy.id).startswith(f"No account has the id {busy.id}; ")
        assert ADDRESS not in stored_text()
    with pytest.raises(CommandError, match="No user has the local name or the email"):
        run("erase", "manager@example.org")


def late(caller: Caller) -> Experiment:
    """An experiment that a request created during the erasure."""
    return Experiment.objects.create(name="late", permissions=[Permission(entity=caller.id, level=Level.MANAGE)])


def before(step: str, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step of the erasure begin with this act."""
    original = getattr(personal_data, step)

    def delayed(*arguments: Any) -> Any:
        act()
        return original(*arguments)

    monkeypatch.setattr(personal_data, step, delayed)


@pytest.mark.parametrize("step", ["stored_sessions", "delete_account", "erase_from_events"])
def test_experiments_of_requests_that_were_running_have_another_manager(
    step: str, busy: Caller, reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(step, lambda: late(busy), monkeypatch)
    run("erase", busy.id, "--successor", reader.id)
    assert not Experiment.objects.naming_entity(busy.id).exists()
    (entry,) = Experiment.objects.get(name="late").permissions
    assert (entry.entity, entry.level) == (reader.id, "Manage")


def test_a_token_of_a_request_that_was_running_is_deleted(
    busy: Caller, reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, issue = User.objects.get(pk=busy.id), ServiceToken.objects.issue
    before("erase_from_events", lambda: issue(user, "late", datetime.timedelta(days=1)), monkeypatch)
    run("erase", busy.id, "--successor", reader.id)
    assert not ServiceToken.objects.exists()


def test_an_erasure_waits_until_no_process_accepts_a_token(busy: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    Experiment.objects.all().delete()
    waits: list[tuple[float, bool]] = []
    is_active = User.objects.filter(pk=busy.id).values_list("is_active", flat=True)
    monkeypatch.setattr(personal_data, "RECENT_SECONDS", RECENT_SECONDS)
    # Threads of the driver sleep too.
    clock = SimpleNamespace(sleep=lambda seconds: waits.append((seconds, is_active.get())))
    monkeypatch.setattr(personal_data, "time", clock)
    run("erase", busy.id)
    assert waits == [(RECENT_SECONDS, False)]


@pytest.mark.parametrize("was_active", [True, False])
def test_an_account_that_became_an_only_manager_stays_as_it_was(
    was_active: bool, busy: Caller, reader: Caller, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.filter(pk=busy.id).update(is_active=was_active)
    both = [Permission(entity=caller.id, level=Level.MANAGE) for caller in (busy, reader)]
    Experiment.objects.filter(pk=experiment.pk).update(permissions=both)
    before("stored_sessions", lambda: late(busy), monkeypatch)
    with pytest.raises(CommandError, match=r"The account is not erased: it is the only manager of 'late' .*sessions"):
        run("erase", busy.id)
    assert User.objects.get(pk=busy.id).is_active is was_active
    assert Experiment.objects.naming_entity(busy.id).count() == 2


def test_the_id_of_an_erased_account_is_erased_from_permissions_too(
    busy: Caller, reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    Experiment.objects.all().delete()
    before("delete_account", lambda: late(busy), monkeypatch)
    left = "The account is erased, but its id is the only manager of 'late' "
    with pytest.raises(CommandError, match=left):
        run("erase", busy.id)
    with pytest.raises(CommandError, match=left):
        run("erase", busy.id)
    assert run("erase", busy.id, "--successor", reader.id).startswith(f"No account has the id {busy.id}; ")
    (entry,) = Experiment.objects.get().permissions
    assert (entry.entity, entry.level) == (reader.id, "Manage")


def test_a_group_is_not_taken_for_an_account() -> None:
    group = str(uuid.uuid4())
    Experiment.objects.create(name="barley", permissions=[Permission(entity=group, level=Level.MANAGE)])
    with pytest.raises(CommandError, match="No account and no event has the id"):
        run("erase", group)
    assert Experiment.objects.naming_entity(group).exists()
