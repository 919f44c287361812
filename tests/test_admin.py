"""The admin portal."""

import datetime
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from accounts.models import ServiceToken, User
from audit.audited_admin import AuditedAdmin
from audit.models import Event
from core import timestamps
from core.models import BackgroundTask
from drifts.models import Drift
from experiments.models import DeletedExperiment, Experiment
from files.models import RunFile
from tests.caller import Caller, Client
from tests.conftest import GROUP, purge_in_background
from tests.session import version_shown

PASSWORD = "correct horse battery"


@pytest.fixture
def staff() -> Client:
    """A local administrator who has logged in with a password."""
    User.objects.create_superuser("root", "root@example.org", PASSWORD)
    client = Client()
    assert client.login(username="root", password=PASSWORD)
    return client


MODELS = [pytest.param(model, id=model.__name__) for model in admin.site._registry]


def page(model: type, name: str) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}")  # type: ignore[attr-defined]


def save(browser: Client, path: str, form: dict[str, str]) -> Any:
    """Send the form of an experiment, and confirm the changes of permissions."""
    review = browser.post(path, form)
    return browser.post(path, form | {name: value for name, value in review.context["sent"] if name == "_confirmed"})


@pytest.mark.parametrize("app", ["experiments", "drifts", "accounts", "audit", "admin"])
def test_the_page_of_an_app_lists_its_models_under_its_name(staff: Client, app: str) -> None:
    response = staff.get(f"/admin/{app}/")
    shown = response.content.decode()
    (listed,) = response.context["app_list"]
    assert f"<h1>{listed['name']}</h1>" in shown
    for model in listed["models"]:
        assert f'href="{model["admin_url"]}"' in shown.partition('id="content-main"')[2]
    assert "Reload to try again" not in shown


def test_the_portal_has_every_model() -> None:
    own = {User, ServiceToken, Experiment, DeletedExperiment, Drift, RunFile, Event, BackgroundTask}
    assert set(admin.site._registry) == {*own, LogEntry}


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_listed_and_searched(staff: Client, drift: Drift, model: type) -> None:
    assert staff.get(page(model, "changelist")).status_code == 200
    assert staff.get(page(model, "changelist"), {"q": "wine"}).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_visitors_are_redirected_to_the_login_page(drift: Drift, model: type) -> None:
    address = page(model, "changelist")
    response = Client().get(address, follow=True)
    assert response.redirect_chain[-1] == (f"/login?next={address}", 302)


@pytest.mark.parametrize("model", MODELS)
def test_an_ordinary_user_reads_that_the_portal_is_for_administrators(drift: Drift, model: type) -> None:
    plain = User.objects.create(subject="plain", email="plain@example.org")
    client = Client()
    client.force_login(plain)
    response = client.get(page(model, "changelist"), headers={"Accept": "text/html"})
    assert response.status_code == 403
    assert "plain@example.org is not staff" in response.content.decode()


def test_a_user_of_an_issuer_never_logs_in_with_a_password(reader: Caller) -> None:
    assert reader.user
    reader.user.set_password(PASSWORD)
    reader.user.is_superuser = True
    reader.user.save()
    assert not Client().login(username="reader", password=PASSWORD)


@pytest.mark.parametrize(("verdict", "count"), [("drift", 1), ("no_drift", 0), ("unknown", 0), ("nonsense", 1)])
def test_runs_are_filtered_by_verdict(staff: Client, drift: Drift, verdict: str, count: int) -> None:
    response = staff.get(page(Drift, "changelist"), {"verdict": verdict})
    assert response.context["cl"].result_count == count


def test_an_experiment_is_edited_with_its_permissions(staff: Client, experiment: Experiment) -> None:
    path = reverse("admin:experiments_experiment_change", args=[experiment.pk])
    content = staff.get(path).content.decode()
    assert GROUP in content
    form = {
        "name": "renamed",
        "description": "",
        "tags": "wine,nightly",
        "config": "{}",
        **version_shown(staff, path),
        "permissions-TOTAL_FORMS": "1",
        "permissions-INITIAL_FORMS": "0",
        "permissions-MIN_NUM_FORMS": "0",
        "permissions-MAX_NUM_FORMS": "1000",
        "permissions-0-entity": GROUP,
        "permissions-0-level": "Manage",
    }
    assert save(staff, path, form).status_code == 302
    experiment.refresh_from_db()
    assert experiment.name == "renamed"
    assert experiment.tags == ["wine", "nightly"]
    assert [(entry.entity, entry.level) for entry in experiment.permissions] == [(GROUP, "Manage")]


def test_a_stale_form_does_not_activate_a_disabled_account_again(staff: Client, editor: Caller) -> None:
    assert editor.user
    path = reverse("admin:accounts_user_change", args=[editor.user.pk])
    form = {"email": editor.user.email, "is_active": "on", "is_staff": "on", **version_shown(staff, path)}
    User.objects.filter(pk=editor.user.pk).update(is_active=False)
    assert "Someone else changed this user" in staff.post(path, form).content.decode()
    assert not User.objects.get(pk=editor.user.pk).is_active


def test_a_stale_form_does_not_undo_the_status_of_a_run(staff: Client, drift: Drift) -> None:
    path = reverse("admin:drifts_drift_change", args=[drift.pk])
    form = {"job_status": drift.job_status, "model": drift.model, "tags": "checked", **version_shown(staff, path)}
    drift.update(job_status="Failed")
    assert "Someone else changed this drift run" in staff.post(path, form).content.decode()
    assert Drift.objects.get(pk=drift.pk).job_status == "Failed"


def test_a_user_with_changes_in_the_log_is_disabled_and_not_deleted(staff: Client, drift: Drift) -> None:
    path = reverse("admin:drifts_drift_change", args=[drift.pk])
    form = {"job_status": "Failed", "model": "renamed", "tags": "", **version_shown(staff, path)}
    assert staff.post(path, form).status_code == 302
    (entry,) = LogEntry.objects.all()
    listed = staff.get(page(LogEntry, "changelist"), {"action": "2"})
    assert listed.context["cl"].result_count == 1
    shown = staff.get(reverse("admin:admin_logentry_change", args=[entry.pk])).content.decode()
    for text in ("Drift run", "Changed Status, Model"):
        assert text in shown

    root = str(User.objects.get(subject="root").pk)
    one = staff.get(reverse("admin:accounts_user_delete", args=[root])).content.decode()
    assert "This user cannot be deleted, because the log of the portal has entries of them." in one
    several = staff.post(page(User, "changelist"), {"action": "delete_selected", "_selected_action": [root]})
    assert "they cannot be deleted together" in several.content.decode()


def test_a_change_in_the_portal_is_dated(staff: Client, drift: Drift) -> None:
    Drift.objects.update(updated_at=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    path = reverse("admin:drifts_drift_change", args=[drift.pk])
    form = {"job_status": "Failed", "model": "renamed", "tags": "", **version_shown(staff, path)}
    assert staff.post(path, form).status_code == 302
    assert Drift.objects.get(pk=drift.pk).updated_at.year > 2020


def test_the_form_writes_no_other_fields_than_its_own(
    staff: Client, drift: Drift, editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other fields are changed between the check of the form and its write."""
    assert editor.user
    save_form = AuditedAdmin.save_form

    def change_and_save(*args: Any, **options: Any) -> Any:
        saved = save_form(*args, **options)
        drift.update(parameters={"p_value": 0.5})
        User.objects.update(entitlements=["users"], entitlements_issued_at=4_000_000_000)
        return saved

    monkeypatch.setattr(AuditedAdmin, "save_form", change_and_save)
    path = reverse("admin:drifts_drift_change", args=[drift.pk])
    form = {"job_status": "Failed", "model": "renamed", "tags": "", **version_shown(staff, path)}
    assert staff.post(path, form).status_code == 302
    stored = Drift.objects.get(pk=drift.pk)
    assert (stored.model, stored.parameters) == ("renamed", {"p_value": 0.5})

    path = reverse("admin:accounts_user_change", args=[editor.user.pk])
    assert staff.post(path, {"email": "new@example.org", **version_shown(staff, path)}).status_code == 302
    user = User.objects.get(pk=editor.user.pk)
    assert (user.email, user.entitlements_issued_at, user.entitlements) == ("new@example.org", 4_000_000_000, ["users"])


def test_the_form_refuses_a_name_that_is_taken(staff: Client, experiment: Experiment) -> None:
    response = staff.post(
        reverse("admin:experiments_experiment_add"),
        {
            "name": experiment.name,
            "config": "{}",
            "permissions-TOTAL_FORMS": "0",
            "permissions-INITIAL_FORMS": "0",
        },
    )
    assert response.status_code == 200
    assert "already exists" in response.content.decode()


@pytest.mark.parametrize("by", ["page", "action"])
def test_an_experiment_is_deleted_with_its_runs(staff: Client, drift: Drift, by: str) -> None:
    pk = drift.experiment_id
    if by == "page":
        path = reverse("admin:experiments_experiment_delete", args=[pk])
        assert "Drift runs" in staff.get(path).content.decode()
        staff.post(path, {"post": "yes"})
    else:
        chosen = {"action": "delete_selected", "_selected_action": [str(pk)], "post": "yes"}
        staff.post(page(Experiment, "changelist"), chosen)
    assert not Experiment.objects.exists()
    purge_in_background()
    assert not Drift.objects.exists()
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "role"),
    [
        ({}, "User"),
        ({"is_staff": True}, "Staff"),
        ({"is_staff": True, "is_active": False}, "Not active, Staff"),
        ({"entitlements": ["admins"]}, "Administrator"),
    ],
)
def test_users_are_listed_with_their_role_and_last_login(staff: Client, changes: dict[str, Any], role: str) -> None:
    User.objects.create(issuer="https://issuer", subject="plain", email="plain@example.org", **changes)
    content = staff.get(page(User, "changelist"), {"q": "plain@"}).content.decode()
    assert f'<td class="field-role">{role}</td>' in content
    assert '<td class="field-latest_login">Never</td>' in content


def test_tokens_are_revoked(staff: Client) -> None:
    user = User.objects.create(subject="plain", email="plain@example.org")
    tokens = [ServiceToken.objects.issue(user, name, datetime.timedelta(days=1)) for name in ("nightly", "weekly")]
    content = staff.get(page(ServiceToken, "changelist")).content.decode()
    assert "2 access tokens" in content
    assert '<td class="field-last_use">Never</td>' in content
    chosen = {"action": "revoke", "_selected_action": [str(token.pk) for token in tokens]}
    assert "2 tokens revoked." in staff.post(page(ServiceToken, "changelist"), chosen, follow=True).content.decode()
    assert not ServiceToken.objects.filter(revoked_at=None).exists()


# Background tasks.

NOW = timestamps.now()
LATER = NOW + datetime.timedelta(days=1)
EARLIER = NOW - datetime.timedelta(minutes=2)
TIME = "%Y-%m-%d %H:%M UTC"


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"due_at": LATER}, "Waiting"),
        ({"due_at": EARLIER, "started_at": NOW, "lease_ends_at": LATER}, f"Running since {NOW:{TIME}}"),
        ({"due_at": LATER, "failures_in_a_row": 2}, f"Failing, next attempt {LATER:{TIME}}"),
        ({"due_at": EARLIER}, "Overdue: manage.py work does not run"),
        ({"due_at": EARLIER, "lease_ends_at": EARLIER}, "Overdue: manage.py work does not run"),
    ],
)
def test_background_tasks_are_listed_with_their_state(staff: Client, fields: dict[str, Any], state: str) -> None:
    label, error = "Removal of deleted experiments", "ValueError: <b>" + "x" * 200
    BackgroundTask.objects.create(name="purge", label=label, duration=1234.5, failures=7, error=error, **fields)
    listed = staff.get(page(BackgroundTask, "changelist")).content.decode()
    assert all(text in listed for text in (label, state, "1,234.50 s", "ValueError: &lt;b&gt;", "x…"))
    shown = staff.get(reverse("admin:driftwatch_backgroundtask_change", args=["purge"]))
    assert all(text in shown.content.decode() for text in (label, state, "x" * 200))
    assert 'name="_save"' not in shown.content.decode()
