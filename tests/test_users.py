"""Registration, and the data of users that they and others can read."""

from accounts.models import User
from tests.caller import Caller
from tests.provider import Provider


def test_a_newcomer_registers_only_once(newcomer: Caller, provider: Provider) -> None:
    response = newcomer.post("/user")
    assert response.status_code == 201
    registered = response.json()
    assert registered.keys() == {"id", "subject", "issuer", "email", "created_at"}
    assert (registered["issuer"], registered["subject"]) == (provider.issuer, "newcomer")
    assert registered["email"] == "newcomer@example.org"
    assert newcomer.get("/user/self").json() == registered

    again = newcomer.post("/user")
    assert again.status_code == 409
    assert "already registered" in again.json()["message"]
    assert User.objects.count() == 1


def test_the_same_subject_at_another_issuer_is_another_user(newcomer: Caller) -> None:
    User.objects.create(issuer="https://elsewhere.example", subject="newcomer", email="newcomer@example.org")
    assert newcomer.get("/user/self").status_code == 403
    assert newcomer.post("/user").status_code == 201


def test_a_registered_user_has_no_password(newcomer: Caller) -> None:
    newcomer.post("/user")
    assert not User.objects.get().has_usable_password()


def test_the_email_is_updated_from_the_token(stranger: Caller, provider: Provider) -> None:
    moved = Caller(provider.token("stranger", "users", email="new@example.org"))
    assert moved.get("/user/self").json()["email"] == "stranger@example.org"
    assert moved.put("/user/self").json()["email"] == "new@example.org"
    assert stranger.get("/user/self").json()["email"] == "new@example.org"


def test_the_entitlements_come_from_the_token(watcher: Caller, provider: Provider) -> None:
    other = Caller(provider.token("watcher", "users", "urn:b", "urn:a"))
    assert other.get("/entitlement").json() == {"items": ["urn:a", "urn:b", "users"]}
    assert watcher.get("/entitlement").json() == watcher.get("/entitlements").json()


def test_administrators_search_users(admin: Caller, stranger: Caller, reader: Caller) -> None:
    found = admin.post("/user/search?sort_by=subject&order_by=asc", {"subject": {"$regex": "^(str|rea)"}}).json()
    assert [user["subject"] for user in found] == ["reader", "stranger"]
    assert found[0]["id"] == reader.id
    (one,) = admin.post("/user/search", {"id": stranger.id}).json()
    assert one["email"] == "stranger@example.org"
