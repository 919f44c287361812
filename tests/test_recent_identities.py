"""The cache of token owners: one lookup in a few seconds, and changes that take effect immediately."""

import time

import pytest
from django.conf import settings

from accounts.authentication import RECENT_SECONDS, RecentIdentities, identify, recent_identities
from accounts.exceptions import InvalidToken
from accounts.models import User
from core.identity import Identity
from tests.caller import Caller
from tests.conftest import registered
from tests.provider import Provider


def is_known(caller: Caller) -> bool:
    return caller.get("/user/self").status_code == 200


def test_an_identity_is_cached_for_seconds(reader: Caller) -> None:
    assert reader.token
    assert identify(reader.token) is identify(reader.token)
    assert RECENT_SECONDS <= 5


def test_a_change_of_a_user_in_this_process_holds_at_once(reader: Caller) -> None:
    assert is_known(reader)
    user = User.objects.get(pk=reader.id)
    user.is_active = False
    user.save()
    assert not is_known(reader)
    user.is_active = True
    user.save()
    assert is_known(reader)
    user.delete()
    assert not is_known(reader)


def test_a_change_of_a_user_in_another_process_holds_once_the_cache_expires(
    reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("accounts.authentication.RECENT_SECONDS", 0.2)
    assert is_known(reader)
    User.objects.filter(pk=reader.id).update(is_active=False)
    while time.time() < now + 0.5:
        time.sleep(0.05)
    assert not is_known(reader)


def test_a_new_user_is_known_at_once(newcomer: Caller) -> None:
    assert not is_known(newcomer)
    assert newcomer.post("/user").status_code == 201
    assert is_known(newcomer)


def test_the_claims_of_each_token_are_its_own(provider: Provider) -> None:
    first = registered(provider, "ada", "users", "one")
    second = Caller(provider.token("ada", "users", "two"), first.user)
    entitlements = [caller.get("/entitlement").json()["items"] for caller in (first, second, first)]
    assert entitlements == [["one", "users"], ["two", "users"], ["one", "users"]]


def test_an_expired_token_is_not_served_from_the_cache(provider: Provider) -> None:
    over = time.time() - settings.TOKEN_LEEWAY_SECONDS
    kept = RecentIdentities()
    kept.add("token", Identity("issuer", "subject"), over - 1)
    assert kept.get("token") is None
    kept.add("token", Identity("issuer", "subject"), over + 1)
    assert kept.get("token")


def test_a_service_token_is_read_at_each_use(reader: Caller) -> None:
    response = reader.post("/token", {"name": "pipeline"}).json()
    assert identify(response["token"]).through_service_token
    assert recent_identities.get(response["token"]) is None
    assert reader.delete(f"/token/{response['id']}").status_code == 204
    with pytest.raises(InvalidToken, match="revoked"):
        identify(response["token"])


def test_the_account_is_read_again(reader: Caller) -> None:
    assert is_known(reader)
    User.objects.filter(pk=reader.id).update(email="new@example.org")
    assert reader.get("/user/self").json()["email"] == "new@example.org"
