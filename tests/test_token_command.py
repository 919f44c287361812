"""`manage.py token`."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import ServiceToken, User
from core.identity import Level
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller
from tests.conftest import RUN
from tests.provider import claims_of


def issue(*arguments: str) -> tuple[str, str]:
    """The output of the command: the token, and the messages."""
    out, err = StringIO(), StringIO()
    call_command("token", *arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue()


def test_a_new_name_is_registered_and_can_use_the_api_at_once() -> None:
    token, remarks = issue("ada@example.org", "--entitlement", "users")
    assert "Registered the local user ada@example.org" in remarks
    ada = Caller(token)
    assert ada.get("/user/self").json()["email"] == "ada@example.org"
    assert ada.get("/entitlement").json() == {"items": ["users"]}
    assert ada.post("/experiment", {"name": "wine"}).status_code == 201
    assert ada.post("/user").status_code == 409


@pytest.mark.parametrize("name", ["not an email", ""])
def test_a_name_that_no_user_can_have_is_refused(name: str) -> None:
    with pytest.raises(CommandError, match="cannot be a local user"):
        issue(name)
    assert not User.objects.exists()


def test_a_token_for_a_disabled_account_is_issued_with_a_warning(manager: Caller) -> None:
    assert manager.user
    User.objects.filter(pk=manager.user.pk).update(is_active=False)
    token, remarks = issue(str(manager.user.pk), "--entitlement", "users")
    assert "The service will refuse this token: the account of manager@example.org is disabled." in remarks
    refusal = Caller(token).get("/user/self").json()["message"]
    assert refusal == "This account is disabled. Ask the administrators of this service."


def test_a_message_is_one_line_whatever_the_name_of_the_user(manager: Caller) -> None:
    User.objects.filter(pk=manager.id).update(is_active=False, email="a\n\x1b[31mforged@example.org")
    _, remarks = issue(manager.id, "--entitlement", "users", "--name", "ci")
    assert "the account of a\\n\\x1b[31mforged@example.org is disabled." in remarks
    with pytest.raises(CommandError, match=r"a\\n\\x1b\[31mforged@example.org already has a token"):
        issue(manager.id, "--name", "ci")


def test_a_name_is_registered_only_once() -> None:
    issue("ada", "--entitlement", "users")
    _, remarks = issue("ada", "--entitlement", "users")
    assert remarks == ""
    assert User.objects.get().subject == "ada"


@pytest.mark.parametrize("name", ["id", "email"])
def test_a_user_of_an_issuer_is_named_by_id_or_email(reader: Caller, name: str) -> None:
    assert reader.user
    token, _ = issue(reader.id if name == "id" else reader.user.email, "--entitlement", "users")
    assert Caller(token).get("/user/self").json()["id"] == reader.id


def test_an_administrators_token_sees_everything() -> None:
    token, _ = issue("root", "--entitlement", "admins")
    assert Caller(token).post("/user/search", {}).status_code == 200


def test_a_token_without_a_user_entitlement_is_not_admitted_and_the_command_warns() -> None:
    token, remarks = issue("ada")
    assert "will refuse this token" in remarks
    response = Caller(token).get("/user/self")
    assert response.status_code == 403
    assert "None of your groups" in response.json()["message"]


def test_a_token_lasts_for_the_requested_time() -> None:
    token, _ = issue("ada", "--days", "2")
    claims = claims_of(token)
    assert claims["exp"] - claims["iat"] == 2 * 24 * 3600


@pytest.mark.parametrize("days", ["0", "-1", "nan", "100000", "x"])
def test_an_unreasonable_lifetime_is_refused(days: str) -> None:
    with pytest.raises(CommandError, match="--days"):
        issue("ada", "--days", days)


def test_an_unknown_id_is_refused() -> None:
    with pytest.raises(CommandError, match="No user has the id"):
        issue("00000000-0000-4000-8000-000000000000")


def test_an_email_that_several_users_have_is_refused_with_their_ids(reader: Caller) -> None:
    other = User.objects.create(issuer="https://elsewhere.example", subject="x", email="reader@example.org")
    with pytest.raises(CommandError) as error:
        issue("reader@example.org")
    assert reader.id in str(error.value)
    assert str(other.id) in str(error.value)


def test_a_token_has_a_record_with_its_maker_and_rights(drift: Drift, manager: Caller) -> None:
    other = Experiment.objects.create(name="another", permissions=[Permission(entity=manager.id, level=Level.MANAGE)])
    token, remarks = issue(
        *(manager.id, "--entitlement", "users", "--name", "nightly", "--level", "Edit"),
        *("--experiment", str(drift.experiment_id)),
    )
    assert remarks == ""
    record = ServiceToken.objects.get()
    assert (record.name, record.level, record.experiments) == ("nightly", "Edit", [str(drift.experiment_id)])
    assert record.issued_by_operator
    pipeline = Caller(token)
    assert pipeline.post(f"/experiment/{drift.experiment_id}/drift", RUN).status_code == 201
    assert pipeline.delete(f"/experiment/{drift.experiment_id}").status_code == 403
    assert pipeline.get(f"/experiment/{other.id}").status_code == 403
    (listed,) = manager.get("/token").json()
    assert listed["id"] == str(record.id)
    manager.delete(f"/token/{record.id}")
    assert pipeline.get("/user/self").status_code == 401


def test_a_token_without_a_name_is_named_after_the_time() -> None:
    issue("ada")
    issue("ada")
    assert all(token.name.startswith("Command line, 2") for token in ServiceToken.objects.all())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--name", "nightly"], "already has a token named 'nightly'"),
        (["--level", "Admin"], "--level"),
        (["--experiment", "wine"], "wine is not an experiment's id."),
    ],
)
def test_the_command_explains_why_a_token_cannot_be_made(arguments: list[str], problem: str) -> None:
    issue("ada", "--name", "nightly")
    with pytest.raises(CommandError, match=problem):
        issue("ada", *arguments)
