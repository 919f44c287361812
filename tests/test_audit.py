"""The audit trail: recorded events, their transactions, and who may read them."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any
from unittest.mock import ANY
from urllib.parse import quote

import pytest
from django.core.management import call_command
from django.db import IntegrityError
from django.test import RequestFactory
from django.urls import reverse
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, OperationFailure
from pytest_django import Settings

from accounts.models import ServiceToken, User
from accounts.tokens import refresh_token
from audit.checks import check_audit_settings
from audit.models import Action, AppendOnly, Event
from audit.trail import MAX_CHARACTERS, record
from core.client import client_address
from core.identity import Identity, identity_of_user
from core.mongodb.documents import mongodb
from drifts.exports import record_export
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.conftest import GROUP, RUN
from tests.profiler import commands
from tests.provider import Provider
from tests.session import version_shown

PASSWORD = "correct horse battery"
AGENT = "drift-monitor/1.2"
FROM = {"User-Agent": AGENT}


class Scene:
    """The users and objects that the audited actions need."""

    def __init__(self, manager: Caller, newcomer: Caller, drift: Drift, provider: Provider) -> None:
        self.manager = manager
        self.newcomer = newcomer
        self.drift = drift
        self.experiment = drift.experiment
        self.path = f"/experiment/{drift.experiment_id}"
        self.moved = Caller(provider.token("manager", "users", email="moved@example.org"), manager.user)
        self.root = User.objects.create_superuser("root", "root@example.org", PASSWORD)
        self.browser = Client(headers=FROM)
        assert manager.user
        self.token = ServiceToken.objects.issue(manager.user, "nightly", timedelta(days=1))
        week = timedelta(days=7)
        self.refresh = refresh_token(ServiceToken.objects.issue(manager.user, "hourly", week, refreshable=True))
        # The first request of a user stores their email, which is not a part of any audited action.
        manager.get("/user/self")

    def enter(self) -> Client:
        self.browser.force_login(self.root)
        return self.browser

    def log_in(self, password: str) -> Any:
        return self.browser.post("/login", {"username": "root", "password": password})

    def edit_in_portal(self, **changes: Any) -> Any:
        path = reverse("admin:experiments_experiment_change", args=[self.experiment.pk])
        form = {"name": self.experiment.name, "config": "{}", "tags": "", "description": ""}
        form |= version_shown(self.enter(), path) | changes
        permissions = {"TOTAL_FORMS": "1", "INITIAL_FORMS": "0", "0-entity": GROUP, "0-level": "Manage"}
        sent = {**form, **{f"permissions-{name}": value for name, value in permissions.items()}}
        review = self.enter().post(path, sent)
        return self.enter().post(path, dict(review.context["sent"]))

    def add_in_portal(self) -> Any:
        form = {"name": "barley", "config": "{}", "permissions-TOTAL_FORMS": "0", "permissions-INITIAL_FORMS": "0"}
        return self.enter().post(reverse("admin:experiments_experiment_add"), form)

    def delete_in_portal(self, thing: Any) -> Any:
        path = f"admin:{thing._meta.app_label}_{thing._meta.model_name}"
        return self.enter().post(reverse(f"{path}_delete", args=[thing.pk]), {"post": "yes"})

    def revoke_token(self) -> Any:
        return self.manager.delete(f"/token/{self.token.pk}", headers=FROM)

    def refresh_token(self) -> Any:
        return Caller().post("/token/refresh", {"refresh": self.refresh}, headers=FROM)

    def deactivate_in_portal(self) -> Any:
        assert self.manager.user
        path = reverse("admin:accounts_user_change", args=[self.manager.user.pk])
        browser = self.enter()
        return browser.post(path, {"email": self.manager.user.email, **version_shown(browser, path)})


@pytest.fixture
def scene(manager: Caller, newcomer: Caller, drift: Drift, provider: Provider) -> Scene:
    """The scene, set up before the test's own events are recorded."""
    scene = Scene(manager, newcomer, drift, provider)
    forget_events()
    return scene


def forget_events() -> None:
    mongodb().database[Event._meta.db_table].delete_many({})


@contextmanager
def unwritable_events() -> Iterator[None]:
    """A collection that refuses every event, as with a full disk or a validation rule."""
    database, name = mongodb().database, Event._meta.db_table
    database.command("collMod", name, validator={"never": {"$exists": True}})
    try:
        yield
    finally:
        database.command("collMod", name, validator={})


MANAGER = "manager@example.org"
ROOT = "root@example.org"
COMMAND = "Command line"
ALL = {"name", "description", "public", "permissions", "tags", "config"}

# Audited actions: the call, then the action, the actor, the target, and some of the values before and after.
AuditedCall = Callable[[Scene], Any]
ACTIONS: dict[str, tuple[AuditedCall, str, str, str, dict[str, Any], dict[str, Any]]] = {
    "registering": (
        lambda scene: scene.newcomer.post("/user", headers=FROM),
        *("registered", "newcomer@example.org", "user newcomer@example.org"),
        *({}, {"email": "newcomer@example.org", "is_superuser": False}),
    ),
    "refreshing an email": (
        lambda scene: scene.moved.put("/user/self", headers=FROM),
        *("email_changed", "moved@example.org", "user manager@example.org"),
        *({"email": MANAGER}, {"email": "moved@example.org"}),
    ),
    "creating an experiment": (
        lambda scene: scene.manager.post("/experiment", {"name": "hops"}, headers=FROM),
        *("experiment_created", MANAGER, "experiment hops"),
        *({}, {"name": "hops", "public": False, "tags": []}),
    ),
    "renaming an experiment": (
        lambda scene: scene.manager.patch(scene.path, {"name": "hops"}, headers=FROM),
        *("experiment_updated", MANAGER, "experiment hops"),
        *({"name": "wine quality"}, {"name": "hops"}),
    ),
    "publishing an experiment": (
        lambda scene: scene.manager.patch(scene.path, {"public": True}, headers=FROM),
        *("visibility_changed", MANAGER, "experiment wine quality"),
        *({"public": False}, {"public": True}),
    ),
    "deleting an experiment": (
        lambda scene: scene.manager.delete(scene.path, headers=FROM),
        *("experiment_deleted", MANAGER, "experiment wine quality"),
        *({"name": "wine quality", "drift_runs": 1}, {"purge_at": ANY}),
    ),
    "deleting a run": (
        lambda scene: scene.manager.delete(f"{scene.path}/drift/{scene.drift.id}", headers=FROM),
        *("drift_deleted", MANAGER, "drift run forest"),
        *({"model": "forest", "drift_detected": True, "job_status": "Completed"}, {}),
    ),
    "logging in": (
        lambda scene: scene.log_in(PASSWORD),
        *("login", ROOT, "user root@example.org", {}, {}),
    ),
    "failing to log in": (
        lambda scene: scene.log_in("wrong"),
        *("login_failed", "Anonymous", "user root@example.org", {}, {}),
    ),
    "logging out": (
        lambda scene: scene.enter().post("/admin/logout/"),
        *("logout", ROOT, "user root@example.org", {}, {}),
    ),
    "adding in the portal": (
        Scene.add_in_portal,
        *("admin_added", ROOT, "experiment barley", {}, {"name": "barley", "public": False}),
    ),
    "changing in the portal": (
        lambda scene: scene.edit_in_portal(name="barley", public="on"),
        *("admin_changed", ROOT, "experiment barley"),
        {"name": "wine quality", "public": False},
        {"name": "barley", "public": True, "permissions": [{"entity": GROUP, "level": "Manage"}]},
    ),
    "deactivating in the portal": (
        Scene.deactivate_in_portal,
        *("admin_changed", ROOT, "user manager@example.org", {"is_active": True}, {"is_active": False}),
    ),
    "deleting an experiment in the portal": (
        lambda scene: scene.delete_in_portal(scene.experiment),
        *("admin_deleted", ROOT, "experiment wine quality"),
        *({"name": "wine quality", "drift_runs": 1}, {"purge_at": ANY}),
    ),
    "deleting a run in the portal": (
        lambda scene: scene.delete_in_portal(scene.drift),
        *("admin_deleted", ROOT, "drift run forest", {"model": "forest"}, {}),
    ),
    "deleting a user in the portal": (
        lambda scene: scene.delete_in_portal(scene.manager.user),
        *("admin_deleted", ROOT, "user manager@example.org", {"email": MANAGER}, {}),
    ),
    "issuing a token": (
        lambda scene: call_command(
            *("token", "root", "--entitlement", "admins", "--name", "cron"), stdout=StringIO(), stderr=StringIO()
        ),
        *("token_issued", COMMAND, "access token cron", {}, {"entitlements": ["admins"], "issued_by_operator": True}),
    ),
    "making a token": (
        lambda scene: scene.manager.post("/token", {"name": "weekly", "level": "Edit"}, headers=FROM),
        *("token_issued", MANAGER, "access token weekly", {}, {"name": "weekly", "level": "Edit"}),
    ),
    "revoking a token": (
        Scene.revoke_token,
        *("token_revoked", MANAGER, "access token nightly", {"name": "nightly"}, {}),
    ),
    "refreshing a token": (
        Scene.refresh_token,
        *("token_refreshed", MANAGER, "access token hourly", {}, {}),
    ),
    "making an administrator": (
        lambda scene: User.objects.create_superuser("second", "second@example.org", PASSWORD),
        *("registered", COMMAND, "user second@example.org", {}, {"is_superuser": True}),
    ),
}


@pytest.fixture
def failing_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first commit of each transaction fails with an error that the driver retries."""
    run, commit = ClientSession.with_transaction, ClientSession.commit_transaction
    failing: set[int] = set()

    def with_transaction(session: ClientSession, *args: Any, **options: Any) -> Any:
        failing.add(id(session))
        return run(session, *args, **options)

    def commit_transaction(session: ClientSession) -> None:
        if id(session) in failing:
            failing.remove(id(session))
            session.abort_transaction()
            raise OperationFailure("for the test", 251, {"errorLabels": ["TransientTransactionError"]})
        commit(session)

    monkeypatch.setattr(ClientSession, "with_transaction", with_transaction)
    monkeypatch.setattr(ClientSession, "commit_transaction", commit_transaction)


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_recorded_once_if_its_transaction_is_retried(
    name: str, scene: Scene, failing_commits: None
) -> None:
    test_an_action_is_recorded(name, scene)


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_recorded(name: str, scene: Scene) -> None:
    call, action, actor, target, before, after = ACTIONS[name]
    call(scene)
    event = Event.objects.get(action=action)
    assert str(event.actor) == actor
    assert str(event.target).startswith(target)
    assert event.before.items() >= before.items()
    assert event.after.items() >= after.items()
    assert bool(event.before) is bool(before)
    assert bool(event.after) is bool(after)
    if actor == COMMAND:
        assert (event.way, event.address, event.user_agent) == ("command", None, "")
    else:
        way = "session" if actor in (ROOT, "Anonymous") else "bearer"
        assert (event.way, event.address, event.user_agent) == (way, "127.0.0.1", AGENT)
    on_experiment = event.target.type in ("experiment", "drift")
    assert (event.experiment_id is not None) is on_experiment
    assert (event.expires_at - event.created_at).days in (364, 365)


def test_the_way_is_that_of_the_authentication_which_succeeded(scene: Scene) -> None:
    """Pages and the portal ignore bearer tokens, and a login has none."""
    header = {"Authorization": f"Bearer {scene.manager.token}"}
    scene.browser.post("/login", {"username": "root", "password": PASSWORD}, headers=header)
    scene.browser.post(reverse("admin:drifts_drift_delete", args=[scene.drift.pk]), {"post": "yes"}, headers=header)
    recorded = {event.action: (str(event.actor), event.way) for event in Event.objects.all()}
    assert recorded == {"login": (ROOT, "session"), "admin_deleted": (ROOT, "session")}
    forget_events()
    for _ in range(2):
        scene.refresh_token()
    recorded = {event.action: (str(event.actor), event.way) for event in Event.objects.all()}
    assert recorded == {"token_refreshed": (MANAGER, "bearer"), "token_revoked": ("Anonymous", "bearer")}


def test_exports_are_recorded_for_each_experiment_and_for_the_trail(scene: Scene, admin: Caller) -> None:
    other = Experiment.objects.create(name="barley", public=True)
    runs = [scene.drift.pk, *(Drift.objects.create(experiment=other, **RUN).pk for _ in range(2))]
    for form in ("csv", "json"):
        chosen = {"action": f"export_as_{form}", "_selected_action": list(map(str, runs))}
        assert scene.enter().post(reverse("admin:drifts_drift_changelist"), chosen).status_code == 200
        exported = Event.objects.filter(action="exported", after__file=f"drift-runs.{form}")
        numbers = {(event.target.name, event.experiment_id): event.after["drift_runs"] for event in exported}
        assert numbers == {("wine quality", scene.experiment.pk): 1, ("barley", other.pk): 2}
    forget_events()
    assert lines_of(admin.get("/audit/export?since=2026-01-01&actor=nobody")) == []
    event = Event.objects.get()
    assert (event.action, event.actor.email, event.way) == ("exported", "admin@example.org", "bearer")
    assert event.after == {"file": "audit.ndjson", "since": "2026-01-01T00:00:00Z", "actor": "nobody"}


def test_an_export_of_many_experiments_is_recorded_in_one_write(scene: Scene) -> None:
    for number in range(20):
        Drift.objects.create(experiment=Experiment.objects.create(name=f"barley {number}"), **RUN)
    with commands() as entries:
        record_export(identity_of_user(scene.root), Drift.objects.all(), "runs.csv")
    assert [entry["op"] for entry in entries].count("insert") == 1
    assert Event.objects.count() == 21


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("chart.csv?x=created_at&y=count", "barley-chart.csv"),
        ("timeline.csv?", "barley-timeline.csv"),
        ("compare?format=csv&selected={run}", "comparison.csv"),
    ],
)
def test_a_table_that_a_user_downloads_from_a_page_is_recorded(scene: Scene, address: str, file: str) -> None:
    other = Experiment.objects.create(name="barley", public=True)
    run = Drift.objects.create(experiment=other, **RUN)
    path = f"/experiments/{other.pk}/{address.format(run=run.pk)}"
    assert Client().get(path).status_code == 200
    scene.enter()
    forget_events()
    assert scene.browser.get(path).headers["Content-Type"].startswith("text/csv")
    event = Event.objects.get()
    assert (event.action, str(event.actor), str(event.target)) == ("exported", ROOT, "experiment barley")
    assert event.after == {"file": file, "query": path.partition("?")[2]}


def test_a_handover_is_recorded_as_a_change_of_permissions(scene: Scene) -> None:
    scene.manager.post(f"{scene.path}/access/handover", {"entity": "root@example.org"})
    event = Event.objects.get(action=Action.PERMISSIONS_CHANGED)
    new = {"entity": str(scene.root.pk), "level": "Manage"}
    assert new in event.after["permissions"]
    assert new not in event.before["permissions"]


@pytest.mark.parametrize("name", ACTIONS)
def test_no_secret_is_recorded(name: str, scene: Scene) -> None:
    ACTIONS[name][0](scene)
    recorded = str(list(mongodb().database[Event._meta.db_table].find()))
    assert recorded != "[]"
    passwords = filter(None, User.objects.values_list("password", flat=True))
    for secret in (PASSWORD, "wrong", scene.manager.token, "eyJ", *passwords):
        assert secret
        assert secret not in recorded


# Actions that fail if their event cannot be recorded, and how to see that nothing changed.
STATE = ("accounts_user", "accounts_servicetoken", "experiments_experiment", "drifts_drift")


def stored() -> list[Any]:
    without_login = {"last_login": 0}
    return [list(mongodb().database[name].find({}, without_login, sort=[("_id", 1)])) for name in STATE]


@pytest.mark.parametrize(
    "name", [name for name, call in ACTIONS.items() if not call[1].startswith("log") and call[1] != "token_issued"]
)
def test_an_action_that_cannot_be_recorded_changes_nothing(name: str, scene: Scene) -> None:
    scene.enter()
    scene.enter = lambda: scene.browser  # type: ignore[method-assign]
    scene.browser.raise_request_exception = False
    before = stored()
    with unwritable_events():
        if ACTIONS[name][2] == COMMAND:
            with pytest.raises(BulkWriteError):
                ACTIONS[name][0](scene)
        else:
            assert ACTIONS[name][0](scene).status_code >= 500
    assert stored() == before
    forget_events()
    ACTIONS[name][0](scene)
    assert stored() != before, "without that it is done"


def test_a_login_that_cannot_be_recorded_fails(scene: Scene) -> None:
    scene.browser.raise_request_exception = False
    with unwritable_events():
        assert scene.log_in(PASSWORD).status_code == 500
    assert scene.browser.get("/admin/").status_code == 302


def test_a_token_that_cannot_be_recorded_is_not_issued(scene: Scene) -> None:
    printed = StringIO()
    with unwritable_events(), pytest.raises(BulkWriteError):
        call_command("token", "root", stdout=printed)
    assert printed.getvalue() == ""


@pytest.mark.parametrize(
    ("fail", "status"),
    [
        (lambda scene: scene.manager.post("/experiment", {"name": "taken"}), 409),
        (lambda scene: scene.manager.patch(scene.path, {"name": "taken", "public": True}), 409),
        (lambda scene: scene.manager.post("/user"), 409),
        (lambda scene: scene.newcomer.delete(scene.path), 403),
        (lambda scene: scene.manager.patch(scene.path, {"public": "yes"}), 422),
        (lambda scene: scene.manager.delete(f"{scene.path}/drift/{scene.experiment.id}"), 404),
    ],
)
def test_a_refused_request_is_not_recorded(scene: Scene, fail: AuditedCall, status: int) -> None:
    Experiment.objects.create(name="taken")
    assert fail(scene).status_code == status
    assert not Event.objects.exists()
    scene.experiment.refresh_from_db()
    assert not scene.experiment.public


def test_an_update_without_changes_is_not_recorded(scene: Scene) -> None:
    whole = scene.manager.get(scene.path).json()
    assert scene.manager.put(scene.path, whole).status_code == 200
    assert scene.manager.put("/user/self").status_code == 200
    assert not Event.objects.exists()


def test_reads_and_new_runs_are_not_recorded(scene: Scene) -> None:
    assert scene.manager.get(scene.path).status_code == 200
    assert scene.manager.post(f"{scene.path}/drift", RUN).status_code == 201
    assert scene.manager.patch(f"{scene.path}/drift/{scene.drift.id}", {"tags": ["a"]}).status_code == 200
    assert not Event.objects.exists()


def test_an_update_is_named_after_its_changes(scene: Scene) -> None:
    entry = {"entity": "urn:example:group:brewers", "level": "Edit"}
    changes = {"public": True, "permissions": [entry], "tags": ["new"], "description": ""}
    assert scene.manager.patch(scene.path, changes).status_code == 200
    recorded = {event.action: (event.before, event.after) for event in Event.objects.all()}
    assert recorded.keys() == {"visibility_changed", "permissions_changed", "experiment_updated"}
    assert recorded["experiment_updated"] == ({"tags": []}, {"tags": ["new"]})
    before, after = recorded["permissions_changed"]
    assert [item["level"] for item in before["permissions"]] == ["Manage", "Edit", "Read", "Read"]
    assert after["permissions"] == [entry, {"entity": scene.manager.id, "level": "Manage"}]


def test_long_values_are_recorded_as_hashes_and_permissions_in_full(scene: Scene) -> None:
    entries = [{"entity": f"urn:example:group:{number}", "level": "Read"} for number in range(300)]
    long = {"config": {"notes": "a" * MAX_CHARACTERS}, "description": "b" * MAX_CHARACTERS, "permissions": entries}
    assert scene.manager.patch(scene.path, long).status_code == 200
    updated = Event.objects.get(action="experiment_updated")
    assert all(re.fullmatch(r"\(40\d\d characters, SHA-256 [0-9a-f]{64}\)", value) for value in updated.after.values())
    assert len(Event.objects.get(action="permissions_changed").after["permissions"]) == 301


def test_a_secret_field_is_recorded_as_changed_without_its_value(scene: Scene) -> None:
    values = [{"password": text, "name": "same"} for text in ("old", "new")]
    record(Action.ADMIN_CHANGED, None, scene.root, before=values[0], after=values[1])
    event = Event.objects.get()
    assert event.before == event.after == {"password": "(not recorded)"}


def test_an_unknown_login_name_is_not_recorded(scene: Scene) -> None:
    scene.browser.post("/login", {"username": PASSWORD, "password": "wrong"})
    assert Event.objects.get().target.name == ""
    assert PASSWORD not in str(mongodb().database[Event._meta.db_table].find_one())


# The events.


def test_events_are_never_changed_or_deleted(scene: Scene) -> None:
    record(Action.LOGIN, identity_of_user(scene.root), scene.root)
    event = Event.objects.get()
    event.action = Action.LOGOUT
    events = Event.objects.filter(pk=event.pk)
    attempts: list[Callable[[], Any]] = [
        event.save,
        event.delete,
        lambda: events.update(action="logout"),
        lambda: Event.objects.bulk_update([event], ["action"]),
        lambda: Event.objects.update_or_create({"action": "logout"}, pk=event.pk),
        events.delete,
    ]
    for attempt in attempts:
        with pytest.raises(AppendOnly):
            attempt()
    with pytest.raises(IntegrityError):
        Event(pk=event.pk, action="logout", actor=event.actor, target=event.target, way="session").save()
    assert Event.objects.get().action == "login"


def test_an_event_outlives_its_actor_and_its_target(scene: Scene) -> None:
    scene.manager.delete(scene.path)
    User.objects.all().delete()
    event = Event.objects.get()
    assert (event.actor.email, event.target.name) == (MANAGER, "wine quality")


def test_mongodb_removes_events_when_they_expire() -> None:
    indexes = mongodb().database[Event._meta.db_table].index_information()
    assert indexes["event_expiry"]["key"] == [("expires_at", 1)]
    assert indexes["event_expiry"]["expireAfterSeconds"] == 0


def test_the_setting_decides_when_events_expire(scene: Scene, settings: Settings) -> None:
    settings.AUDIT_DAYS = 2
    scene.manager.delete(scene.path)
    event = Event.objects.get()
    assert (event.expires_at - event.created_at).total_seconds() == pytest.approx(2 * 24 * 3600, abs=1)


@pytest.mark.parametrize(("name", "value"), [("AUDIT_DAYS", 0), ("AUDIT_DAYS", 1e9)])
def test_invalid_settings_are_refused(settings: Settings, name: str, value: float) -> None:
    assert check_audit_settings() == []
    setattr(settings, name, value)
    (problem,) = check_audit_settings()
    assert name in problem.msg


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.9", "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.66, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.66, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "nonsense", "192.0.2.1"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "2001:DB8::1", "2001:db8::1"),
    ],
)
def test_the_recorded_address_comes_from_the_trusted_proxies(
    settings: Settings, proxies: int, forwarded: str, address: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert client_address(RequestFactory(REMOTE_ADDR="192.0.2.1").get("/", headers=headers)) == address


# Readers.


def record_many(experiment: Experiment, number: int) -> None:
    for index in range(number):
        record(Action.EXPERIMENT_UPDATED, None, experiment, after={"description": f"line\n{index}"})


@pytest.fixture
def hidden() -> Experiment:
    """An experiment that only its manager and the administrator may see."""
    experiment = Experiment.objects.create(name="secret hops")
    record(Action.EXPERIMENT_CREATED, None, experiment, after={"name": experiment.name})
    return experiment


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"$or": [{"action": "experiment_created"}, {"action": {"$exists": True}}]},
        {"target.name": {"$regex": "hops"}},
        {"$nor": [{"action": "login"}]},
    ],
    ids=json.dumps,
)
def test_managers_see_only_the_events_of_their_experiment(
    scene: Scene, hidden: Experiment, document: dict[str, Any]
) -> None:
    record(Action.LOGIN, identity_of_user(scene.root), scene.root)
    scene.manager.patch(scene.path, {"public": True})
    response = scene.manager.post(f"{scene.path}/audit/search", document)
    assert {event["experiment_id"] for event in response.json()} <= {str(scene.experiment.id)}
    assert "secret" not in response.content.decode()
    expected = 0 if "target.name" in document else 1
    assert len(response.json()) == json.loads(response.headers["X-Pagination"])["total"] == expected
    elsewhere = scene.manager.post(f"{scene.path}/audit/search", {"experiment_id": str(hidden.id)})
    assert elsewhere.json() == []
    refused = scene.manager.post(f"/experiment/{hidden.id}/audit/search", {})
    assert refused.status_code == 403
    assert "secret" not in refused.content.decode()


def test_the_api_representation_of_an_event(scene: Scene) -> None:
    scene.manager.patch(scene.path, {"public": True}, headers=FROM)
    (event,) = scene.manager.post(f"{scene.path}/audit/search", {}).json()
    assert scene.manager.user
    assert event.pop("id")
    assert event.pop("created_at") < event.pop("expires_at")
    assert event.pop("request_id")
    assert event == {
        "action": "visibility_changed",
        "actor": {
            "kind": "user",
            "user_id": scene.manager.id,
            "issuer": scene.manager.user.issuer,
            "subject": "manager",
            "email": MANAGER,
        },
        "target": {"type": "experiment", "id": str(scene.experiment.id), "name": "wine quality"},
        "experiment_id": str(scene.experiment.id),
        "address": "127.0.0.1",
        "user_agent": AGENT,
        "way": "bearer",
        "before": {"public": False},
        "after": {"public": True},
    }


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"action": "login"}, 1),
        ({"action": {"$in": ["login", "experiment_created"]}}, 2),
        ({"actor.email": ROOT}, 1),
        ({"actor.kind": "command line"}, 1),
        ({"actor.issuer": "driftwatch", "actor.subject": "root"}, 1),
        ({"target.type": "experiment", "target.name": "secret hops"}, 1),
        ({"experiment_id": None}, 1),
        ({"created_at": {"$gte": "2026-01-01"}}, 2),
        ({"created_at": {"$lt": "2026-01-01"}}, 0),
        ({"way": "command", "address": None}, 2),
        ({"actor": {"$exists": True}}, 2),
    ],
    ids=json.dumps,
)
def test_administrators_filter_all_events(
    admin: Caller, scene: Scene, hidden: Experiment, document: dict[str, Any], found: int
) -> None:
    record(Action.LOGIN, identity_of_user(scene.root), scene.root)
    assert len(admin.post("/audit/search", document).json()) == found
    by_id = admin.post("/audit/search", {"actor.user_id": str(scene.root.id)}).json()
    by_target = admin.post("/audit/search", {"target.id": str(scene.root.id)}).json()
    assert [event["action"] for event in by_id] == [event["action"] for event in by_target] == ["login"]


@pytest.mark.parametrize(
    "document", [{"actor": "root"}, {"actor.password": "a"}, {"after": {}}, {"actor": {"$size": 1}}], ids=json.dumps
)
def test_a_filter_by_an_unknown_field_is_refused(admin: Caller, document: dict[str, Any]) -> None:
    assert admin.post("/audit/search", document).status_code == 422


def test_events_are_sorted_newest_first_or_by_action(admin: Caller, scene: Scene) -> None:
    for action in (Action.LOGIN, Action.LOGOUT, Action.ADMIN_ADDED):
        record(action, None, scene.root)
    newest = [event["created_at"] for event in admin.post("/audit/search", {}).json()]
    assert newest == sorted(newest, reverse=True)
    by_action = admin.post("/audit/search?sort_by=action&order_by=asc", {}).json()
    assert [event["action"] for event in by_action] == ["admin_added", "login", "logout"]
    assert admin.post("/audit/search?sort_by=address", {}).status_code == 422


# Export.


def lines_of(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/x-ndjson"
    content = b"".join(response.streaming_content)
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def test_the_export_streams_one_line_for_each_event_oldest_first(admin: Caller, scene: Scene) -> None:
    record_many(scene.experiment, 1_200)
    events = lines_of(admin.get("/audit/export"))
    assert [event["after"]["description"] for event in events] == [f"line\n{index}" for index in range(1_200)]
    assert events[0].keys() == {*admin.post("/audit/search", {}).json()[0]}


def test_the_export_reads_from_the_server_as_the_client_reads(admin: Caller, scene: Scene) -> None:
    record_many(scene.experiment, 1_200)
    database = mongodb().database
    database.command("profile", 2)
    try:
        stream = admin.get("/audit/export").streaming_content
        next(stream)
        batches = [database["system.profile"].count_documents({"op": "getmore"})]
        for _ in stream:
            pass
        batches.append(database["system.profile"].count_documents({"op": "getmore"}))
    finally:
        database.command("profile", 0)
        database["system.profile"].drop()
    assert batches == [0, 1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 3),
        ("?action=login", 1),
        (f"?actor={quote(ROOT)}", 1),
        ("?actor={id}", 1),
        ("?actor=nobody", 0),
        ("?action=login&actor={id}", 1),
        ("?action=logout&actor={id}", 0),
        ("?since=2020-01-01", 3),
        ("?since=2020-01-01T00:00:00Z&until=2020-02-01", 0),
        ("?since=2020-01-01t00:00:00z&until=2020-02-01t00:00:00.000z", 0),
    ],
)
def test_query_parameters_filter_the_export(admin: Caller, scene: Scene, query: str, found: int) -> None:
    record(Action.LOGIN, identity_of_user(scene.root), scene.root)
    record_many(scene.experiment, 2)
    assert len(lines_of(admin.get(f"/audit/export{query.format(id=scene.root.id)}"))) == found


def test_the_start_time_is_inclusive_and_the_end_time_exclusive(admin: Caller, scene: Scene) -> None:
    for _ in range(3):
        record_many(scene.experiment, 1)
    first, second, third = (quote(event["created_at"]) for event in lines_of(admin.get("/audit/export")))
    if first < second < third:
        chosen = lines_of(admin.get(f"/audit/export?since={second}&until={third}"))
        assert [quote(event["created_at"]) for event in chosen] == [second]


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-13-01", "action=sleep", "actor=%00"])
def test_a_bad_query_parameter_is_refused(admin: Caller, query: str) -> None:
    response = admin.get(f"/audit/export?{query}")
    assert response.status_code == 422
    assert query.partition("=")[0] in response.json()["errors"]["query"]


@pytest.mark.parametrize("accept", ["*/*", "application/x-ndjson", "application/json"])
def test_the_export_ignores_the_accept_header(admin: Caller, reader: Caller, accept: str) -> None:
    assert lines_of(admin.get("/audit/export", headers={"Accept": accept})) == []
    refused = reader.get("/audit/export", headers={"Accept": accept})
    assert (refused.status_code, refused.headers["Content-Type"]) == (403, "application/json")


# The portal.


def test_the_portal_shows_events_and_changes_none(scene: Scene) -> None:
    record(
        Action.EXPERIMENT_UPDATED,
        Identity("https://issuer.example", "ada", "ada@example.org"),
        scene.experiment,
        before={"description": "<b>old</b>"},
        after={"description": "new"},
    )
    event = Event.objects.get()
    portal = scene.enter()
    listed = portal.get(reverse("admin:audit_event_changelist"), {"q": "ada@example"})
    assert listed.context["cl"].result_count == 1
    assert portal.get(reverse("admin:audit_event_changelist"), {"q": "bob"}).context["cl"].result_count == 0
    assert (
        portal.get(reverse("admin:audit_event_changelist"), {"action__exact": "login"}).context["cl"].result_count == 1
    ), "the visitor's own"
    path = reverse("admin:audit_event_change", args=[event.pk])
    page = portal.get(path).content.decode()
    assert "&lt;b&gt;old&lt;/b&gt;" in page
    assert "<pre>new</pre>" in page
    assert "subject ada" in page
    assert portal.post(path, {"action": "login"}).status_code == 403
    assert portal.post(reverse("admin:audit_event_delete", args=[event.pk]), {"post": "yes"}).status_code == 403
    assert portal.get(reverse("admin:audit_event_add")).status_code == 403
    assert "delete_selected" not in listed.content.decode()
