"""Tokens of owners who are away: refused after `TOKEN_OWNER_DAYS`, until the owner is seen."""

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import Settings

from accounts.authentication import recent_identities
from accounts.models import ServiceToken, User
from core import timestamps
from tests.caller import Caller, Client
from tests.profiler import commands
from tests.session import through_session
from tests.test_local_sessions import PASSWORD
from tests.test_service_tokens import made, refresh
from tests.test_token_command import issue


def last_seen(user: User | None, days: float | None) -> None:
    """Set the time of the latest visit; None is the value of an account that an earlier release has registered."""
    assert user
    time = None if days is None else timestamps.now() - timedelta(days=days)
    User.objects.filter(pk=user.pk).update(last_seen_at=time)
    user.refresh_from_db()


def status(token: str) -> int:
    return int(Caller(token).get("/user/self").status_code)


def test_a_token_rests_while_its_owner_is_away(editor: Caller) -> None:
    issued = made(editor, refresh=True)
    last_seen(editor.user, 89.9)
    assert status(issued["token"]) == 200
    last_seen(editor.user, 90.1)
    response = Caller(issued["token"]).get("/user/self")
    assert response.status_code == 401
    assert response.json()["message"] == (
        "The owner of this token, editor@example.org, has not been seen for 90 days. The token works again once they "
        "log in to the pages, or send a request with a token of their OpenID provider."
    )
    refused = refresh(issued["refresh"])
    assert (refused.status_code, refused.json()["message"]) == (401, response.json()["message"])
    last_seen(editor.user, 0)
    assert refresh(issued["refresh"]).status_code == 200


def by_a_provider_token(editor: Caller, settings: Settings) -> None:
    assert editor.get("/user/self").status_code == 200


def by_a_login(editor: Caller, settings: Settings) -> None:
    through_session(editor, settings)


@pytest.mark.parametrize("be_seen", [by_a_provider_token, by_a_login])
def test_the_owner_is_seen(be_seen: Any, editor: Caller, settings: Settings) -> None:
    token = made(editor)["token"]
    last_seen(editor.user, 91)
    recent_identities.clear()
    be_seen(editor, settings)
    assert status(token) == 200


def test_a_local_administrator_is_seen_at_the_login() -> None:
    root = User.objects.create_superuser("root", "root@example.org", PASSWORD)
    last_seen(root, 91)
    Client().post("/login", {"username": "root", "password": PASSWORD})
    root.refresh_from_db()
    assert not root.is_away


def test_the_use_of_the_token_is_no_visit(editor: Caller) -> None:
    token = made(editor)["token"]
    last_seen(editor.user, 80)
    assert status(token) == 200
    assert User.objects.get(pk=editor.id).seen_at < timestamps.now() - timedelta(days=79)


def test_an_operator_vouches_for_the_tokens_of_the_command_line() -> None:
    token, _ = issue("pipeline", "--entitlement", "users")
    last_seen(User.objects.get(subject="pipeline"), 400)
    assert status(token) == 200


@pytest.mark.parametrize(("days", "expected"), [(0, 200), (1, 401)])
def test_the_setting_changes_the_days_and_0_is_no_limit(
    days: int, expected: int, editor: Caller, settings: Settings
) -> None:
    settings.TOKEN_OWNER_DAYS = days
    token = made(editor)["token"]
    last_seen(editor.user, 2)
    assert status(token) == expected


def test_an_account_of_an_earlier_release_counts_from_its_registration(editor: Caller) -> None:
    token = made(editor)["token"]
    last_seen(editor.user, None)
    assert status(token) == 200
    User.objects.filter(pk=editor.id).update(created_at=timestamps.now() - timedelta(days=91))
    assert status(token) == 401


@pytest.mark.parametrize(("days", "writes"), [(0.9, 0), (1.1, 1)])
def test_a_visit_is_recorded_once_a_day(days: float, writes: int, editor: Caller) -> None:
    assert editor.get("/user/self").status_code == 200
    last_seen(editor.user, days)
    recent_identities.clear()
    with commands() as entries:
        assert editor.get("/user/self").status_code == 200
    assert len([entry for entry in entries if entry["op"] == "update"]) == writes


def test_a_token_is_checked_with_as_many_queries_as_before(editor: Caller) -> None:
    token = made(editor)["token"]
    status(token)
    with commands() as entries:
        Caller(token).get("/entitlement")
    assert [entry["ns"].partition(".")[2] for entry in entries] == [ServiceToken._meta.db_table]
