"""Service tokens: their life, narrowing, the maker's rights as their limit, and refreshing."""

import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
import requests
from django.contrib.auth.models import AbstractBaseUser
from django.urls import reverse
from jwt.utils import base64url_encode
from pymongo import MongoClient
from pytest_django import Settings

from accounts.models import ServiceToken, User
from accounts.models.service_token import TokenState
from accounts.tokens import access_token
from core import timestamps
from core.identity import Level
from core.mongodb.documents import mongodb
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller, Client
from tests.conftest import GROUP, RUN
from tests.live import ROOT, LiveServer
from tests.profiler import commands
from tests.provider import Provider, SigningKey, claims_of, compact
from tests.times import time_of

NOBODY = "00000000-0000-4000-8000-000000000000"


def made(maker: Caller, **body: Any) -> dict[str, Any]:
    """The response to the creation of a service token."""
    response = maker.post("/token", {"name": "nightly", **body})
    assert response.status_code == 201, response.content
    issued: dict[str, Any] = response.json()
    return issued


def pipeline(maker: Caller, **body: Any) -> Caller:
    """A caller with a new service token of the maker."""
    return Caller(made(maker, **body)["token"], maker.user)


def assert_refused(caller: Caller) -> None:
    """Require a 401, also at an endpoint that needs no user."""
    assert caller.get("/user/self").status_code == 401
    response = caller.post("/experiment/search", {})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


# The regular expression in docs/tokens.md and SECURITY.md, for secret scanners.
SECRET = re.compile(r"\bdw_eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}\b")


def test_secret_scanners_find_access_and_refresh_tokens(manager: Caller) -> None:
    issued = made(manager, refresh=True)
    again = refresh(issued["refresh"]).json()
    for token in (issued["token"], issued["refresh"], again["token"], again["refresh"]):
        assert SECRET.findall(f'TOKEN="{token}"\n') == [token]
    for document in ("docs/tokens.md", "SECURITY.md"):
        assert SECRET.pattern in (ROOT / document).read_text()


def test_a_refresh_token_of_an_earlier_release_is_exchanged_for_tokens_with_the_prefix(
    manager: Caller, settings: Settings
) -> None:
    issued = made(manager, refresh=True)
    older = jwt.encode(claims_of(issued["refresh"]), settings.SECRET_KEY, "HS256")
    pair = refresh(older).json()
    assert {token[:3] for token in pair.values()} == {"dw_"}
    assert Caller(pair["token"]).get("/user/self").status_code == 200


# The life of a token.


def test_a_token_acts_as_its_maker(drift: Drift, editor: Caller) -> None:
    holder = pipeline(editor)
    assert holder.get("/user/self").json()["id"] == editor.id
    assert holder.post(f"/experiment/{drift.experiment_id}/drift", RUN).status_code == 201
    assert holder.put(f"/experiment/{drift.experiment_id}", {"name": "mine"}).status_code == 403


def test_the_secret_is_shown_once(manager: Caller) -> None:
    response = manager.post("/token", {"name": "nightly", "refresh": True})
    issued = response.json()
    assert response.headers["Cache-Control"] == "no-store"
    assert issued.keys() == {
        *("id", "name", "state", "level", "experiments", "entitlements", "issued_by_operator"),
        *("created_at", "expires_at", "last_used_at", "revoked_at", "token", "refresh"),
    }
    for later in (manager.get("/token"), manager.get(f"/token/{issued['id']}")):
        assert issued["token"] not in later.content.decode()
        assert issued["refresh"] not in later.content.decode()
    shown = manager.get(f"/token/{issued['id']}").json()
    assert shown == {name: value for name, value in issued.items() if name not in ("token", "refresh")}
    assert manager.get("/token").json() == [shown]


def test_no_secret_is_stored(manager: Caller) -> None:
    issued = made(manager, refresh=True)
    stored = str(mongodb().database[ServiceToken._meta.db_table].find_one())
    for secret in (issued["token"], issued["refresh"]):
        assert secret.rpartition(".")[2] not in stored


def test_a_token_lasts_a_month_and_is_not_narrowed_by_default(manager: Caller) -> None:
    issued = made(manager)
    assert (issued["level"], issued["experiments"], issued["entitlements"]) == ("Manage", [], ["users"])
    assert issued["refresh"] is None
    claims = claims_of(issued["token"])
    assert claims.keys() == {"iss", "sub", "jti", "iat", "exp", "token_type"}
    assert claims["jti"] == issued["id"]
    assert claims["exp"] - claims["iat"] == 30 * 24 * 3600


def test_the_last_use_is_recorded_to_the_minute(manager: Caller) -> None:
    issued = made(manager)
    holder = Caller(issued["token"])
    path = f"/token/{issued['id']}"
    assert manager.get(path).json()["last_used_at"] is None
    holder.get("/user/self")
    first = manager.get(path).json()["last_used_at"]
    assert first is not None
    holder.get("/user/self")
    assert manager.get(path).json()["last_used_at"] == first
    ServiceToken.objects.update(last_used_at=timestamps.now() - timedelta(minutes=2))
    holder.get("/user/self")
    assert time_of(manager.get(path).json()["last_used_at"]) > time_of(first)


def test_a_revoked_token_is_refused_at_once_and_listed_as_revoked(manager: Caller) -> None:
    issued = made(manager)
    holder = Caller(issued["token"])
    assert holder.get("/user/self").status_code == 200
    assert manager.delete(f"/token/{issued['id']}").status_code == 204
    assert_refused(holder)
    (shown,) = manager.get("/token").json()
    assert shown["state"] == "revoked"
    assert manager.delete(f"/token/{issued['id']}").status_code == 204
    assert manager.get("/token").json() == [shown]


def test_a_name_is_taken_until_the_token_is_revoked(manager: Caller, editor: Caller) -> None:
    first = made(manager)
    response = manager.post("/token", {"name": "nightly"})
    assert response.status_code == 409
    assert "revoke that token" in response.json()["message"]
    assert made(editor)["name"] == "nightly"
    manager.delete(f"/token/{first['id']}")
    made(manager)
    assert manager.post("/token", {"name": "nightly"}).status_code == 409
    assert [token["state"] for token in manager.get("/token").json()] == ["active", "revoked"]


def test_an_expired_token_is_refused(manager: Caller) -> None:
    holder = pipeline(manager)
    ServiceToken.objects.update(expires_at=timestamps.now() - timedelta(seconds=31))
    assert_refused(holder)
    assert manager.get("/token").json()[0]["state"] == "expired"


def test_a_signature_that_expired_is_refused(manager: Caller) -> None:
    assert manager.user
    record = ServiceToken.objects.issue(manager.user, "brief", timedelta(seconds=-31))
    ServiceToken.objects.update(expires_at=timestamps.now() + timedelta(days=1))
    assert_refused(Caller(access_token(record)))


def test_tokens_of_other_users_are_not_found(manager: Caller, editor: Caller, admin: Caller) -> None:
    issued = made(manager)
    for other in (editor, admin):
        assert other.get("/token").json() == []
        assert other.get(f"/token/{issued['id']}").status_code == 404
        assert other.delete(f"/token/{issued['id']}").status_code == 404
    for path in (NOBODY, "nonsense", "refresh"):
        assert manager.get(f"/token/{path}").status_code in (404, 405)
    assert Caller(issued["token"]).get("/user/self").status_code == 200


BAD_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({}, "name"),
    "an empty name": ({"name": " "}, "name"),
    "a long name": ({"name": "n" * 256}, "name"),
    "no days": ({"name": "n", "days": 0}, "days"),
    "too many days": ({"name": "n", "days": 366}, "days"),
    "a part of a day": ({"name": "n", "days": 1.5}, "days"),
    "days in words": ({"name": "n", "days": "30"}, "days"),
    "days that are a boolean": ({"name": "n", "days": True}, "days"),
    "an unknown level": ({"name": "n", "level": "Admin"}, "level"),
    "no list of experiments": ({"name": "n", "experiments": NOBODY}, "experiments"),
    "no id of an experiment": ({"name": "n", "experiments": ["wine"]}, "experiments"),
    "too many experiments": ({"name": "n", "experiments": [NOBODY] * 101}, "experiments"),
    "an entitlement of somebody else's": ({"name": "n", "entitlements": [GROUP]}, "entitlements"),
    "an entitlement that is a number": ({"name": "n", "entitlements": [1]}, "entitlements"),
    "a refresh that is no boolean": ({"name": "n", "refresh": "yes"}, "refresh"),
    "an unknown field": ({"name": "n", "issued_by_operator": True}, "issued_by_operator"),
}


@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_is_not_valid_is_refused_by_field(body: dict[str, Any], field: str, manager: Caller) -> None:
    response = manager.post("/token", body)
    assert response.status_code == 422, response.content
    assert field in response.json()["errors"]["json"]
    assert not ServiceToken.objects.exists()


def test_tokens_are_deleted_with_their_user(manager: Caller) -> None:
    assert manager.user
    holder = pipeline(manager)
    manager.user.delete()
    assert_refused(holder)
    assert not ServiceToken.objects.exists()


def test_a_token_and_its_user_are_read_in_one_query(manager: Caller, editor: Caller) -> None:
    holder = pipeline(manager)
    ServiceToken.objects.bulk_create(
        ServiceToken(user=editor.user, name=str(number), expires_at=timestamps.now()) for number in range(100)
    )
    holder.get("/entitlement")
    with commands() as entries:
        assert holder.get("/entitlement").status_code == 200
    (read,) = entries
    assert read["docsExamined"] <= 2


# Narrowing: an action, its required level, and for each maximum level whether the token may perform it.

ACTIONS: dict[str, tuple[str, str, Any, Level]] = {
    "read": ("GET", "/experiment/{id}", None, Level.READ),
    "search runs": ("POST", "/experiment/{id}/drift/search", {}, Level.READ),
    "read a run": ("GET", "/experiment/{id}/drift/{drift}", None, Level.READ),
    "report a run": ("POST", "/experiment/{id}/drift", RUN, Level.EDIT),
    "change a run": ("PATCH", "/experiment/{id}/drift/{drift}", {"tags": ["changed"]}, Level.EDIT),
    "delete a run": ("DELETE", "/experiment/{id}/drift/{drift}", None, Level.EDIT),
    "change": ("PATCH", "/experiment/{id}", {"description": "changed"}, Level.MANAGE),
    "share": ("PATCH", "/experiment/{id}", {"permissions": []}, Level.MANAGE),
    "delete": ("DELETE", "/experiment/{id}", None, Level.MANAGE),
}


def act(caller: Caller, action: str, drift: Drift) -> int:
    method, path, body, _ = ACTIONS[action]
    path = path.format(id=drift.experiment_id, drift=drift.id)
    return int(caller.request(method, path, body).status_code)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("cap", Level)
@pytest.mark.parametrize("maker", ["manager", "editor", "reader", "stranger"])
def test_the_level_is_the_lower_of_the_makers_and_the_tokens(
    request: pytest.FixtureRequest, drift: Drift, maker: str, cap: Level, action: str
) -> None:
    own = {"manager": Level.MANAGE, "editor": Level.EDIT, "reader": Level.READ}.get(maker)
    required = ACTIONS[action][3]
    allowed = own is not None and own.includes(required) and cap.includes(required)
    holder = pipeline(request.getfixturevalue(maker), level=cap)
    assert (act(holder, action, drift) < 300) is allowed


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("visibility", ["private", "public"])
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_a_token_reads_only_public_experiments_outside_its_own(
    drift: Drift, manager: Caller, place: str, visibility: str, action: str
) -> None:
    Experiment.objects.update(public=visibility == "public")
    holder = pipeline(manager, experiments=[str(drift.experiment_id) if place == "inside" else NOBODY])
    reads = ACTIONS[action][3] is Level.READ
    assert (act(holder, action, drift) < 300) is (place == "inside" or (visibility == "public" and reads))


def test_the_reasons_for_access_respect_the_narrowing(experiment: Experiment, editor: Caller) -> None:
    other = Experiment.objects.create(name="other", public=True, permissions=experiment.permissions)
    holder = pipeline(editor, level="Read", experiments=[str(experiment.pk)])
    inside, outside = (holder.get(f"/experiment/{it.pk}/access").json() for it in (experiment, other))
    assert inside["level"] == "Read"
    assert inside["reasons"] == [{"via": "direct", "entity": editor.id, "level": "Read"}]
    assert outside["level"] == "Read"
    assert outside["reasons"] == [{"via": "public", "entity": None, "level": "Read"}]


def test_a_search_finds_the_tokens_experiments_and_the_public_ones(experiment: Experiment, manager: Caller) -> None:
    own = [Permission(entity=manager.id, level=Level.MANAGE)]
    Experiment.objects.create(name="another of mine", permissions=own)
    Experiment.objects.create(name="public of mine", public=True, permissions=own)
    holder = pipeline(manager, experiments=[str(experiment.id), NOBODY])
    found = {each["name"]: each for each in holder.post("/experiment/search", {}).json()}
    assert found.keys() == {experiment.name, "public of mine"}
    assert found[experiment.name]["permissions"]
    assert found["public of mine"]["permissions"] == []
    by_permission = {"permissions": {"$elemMatch": {"entity": manager.id}}}
    names = [each["name"] for each in holder.post("/experiment/search", by_permission).json()]
    assert names == [experiment.name]


def test_a_token_gives_no_access_to_an_experiment_closed_to_its_maker(experiment: Experiment, stranger: Caller) -> None:
    holder = pipeline(stranger, experiments=[str(experiment.id)])
    assert holder.get(f"/experiment/{experiment.id}").status_code == 403
    assert holder.post("/experiment/search", {}).json() == []


@pytest.mark.parametrize(
    ("narrowing", "status"),
    [({}, 201), ({"level": "Edit"}, 403), ({"level": "Read"}, 403), ({"experiments": [NOBODY]}, 403)],
)
def test_a_narrowed_token_creates_no_experiments(narrowing: dict[str, Any], status: int, manager: Caller) -> None:
    response = pipeline(manager, **narrowing).post("/experiment", {"name": "of its own"})
    assert response.status_code == status
    assert status == 201 or "without limits" in response.json()["message"]


@pytest.mark.parametrize(("level", "status"), [("Manage", 403), ("Read", 403), (None, 200)])
def test_a_narrowed_token_looks_up_no_users(
    level: str | None, status: int, experiment: Experiment, manager: Caller, stranger: Caller
) -> None:
    """A token with Manage on one experiment names people by their ids."""
    narrowing = {"level": level, "experiments": [str(experiment.pk)]} if level else {}
    holder, path, email = pipeline(manager, **narrowing), f"/experiment/{experiment.pk}", "stranger@example.org"
    entries = [{"entity": email, "level": "Read"}]
    responses = [
        holder.post("/user/lookup", {"email": email}),
        holder.get(f"{path}/access?entity={email}"),
        holder.post(f"{path}/access/preview", {"permissions": entries}),
        holder.patch(path, {"permissions": entries}),
        holder.post(f"{path}/access/handover", {"entity": email}),
    ]
    assert [response.status_code for response in responses] == [status] * 5
    if level == "Manage":
        assert all("cannot look up users" in response.json()["message"] for response in responses)
        entries = [{"entity": stranger.id, "level": "Read"}]
        assert holder.patch(path, {"permissions": entries}).status_code == 200


@pytest.mark.parametrize("holder", ["service token", "token of an operator"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/token", {"name": "another"}),
        ("GET", "/token", None),
        ("GET", "/token/{id}", None),
        ("DELETE", "/token/{id}", None),
    ],
)
def test_a_service_token_cannot_manage_service_tokens(
    manager: Caller, holder: str, method: str, path: str, body: Any
) -> None:
    first = made(manager)
    caller = (
        Caller(first["token"])
        if holder == "service token"
        else Caller(token_of_an_operator(manager.user, "users", "admins"))
    )
    response = caller.request(method, path.format(id=first["id"]), body)
    assert response.status_code == 403
    assert "Access tokens cannot do this" in response.json()["message"]
    assert Caller(first["token"]).get("/user/self").status_code == 200


def token_of_an_operator(user: AbstractBaseUser | None, *entitlements: str, **rights: Any) -> str:
    assert isinstance(user, User)
    record = ServiceToken.objects.issue(
        user, "command line", timedelta(days=1), entitlements=[*entitlements], issued_by_operator=True, **rights
    )
    return access_token(record)


# The maker's rights as the limit of a token.


def test_a_token_loses_the_permissions_that_its_maker_loses(experiment: Experiment, editor: Caller) -> None:
    holder = pipeline(editor)
    path = f"/experiment/{experiment.id}/drift"
    assert holder.post(path, RUN).status_code == 201
    experiment.permissions = []
    experiment.save()
    assert holder.post(path, RUN).status_code == 403


def later(provider: Provider, subject: str, *entitlements: str) -> Caller:
    """The same user with a token issued a moment later."""
    return Caller(provider.token(subject, *entitlements, iat=int(time.time()) + 5))


def test_a_token_loses_the_entitlements_that_its_maker_loses(
    experiment: Experiment, watcher: Caller, provider: Provider
) -> None:
    holder = pipeline(watcher)
    path = f"/experiment/{experiment.id}"
    assert holder.get(path).status_code == 200
    assert later(provider, "watcher", "users").get("/user/self").status_code == 200
    assert holder.get(path).status_code == 403
    assert holder.get("/entitlement").json() == {"items": ["users"]}


def test_an_older_token_does_not_restore_a_lost_entitlement(
    experiment: Experiment, watcher: Caller, provider: Provider
) -> None:
    holder = pipeline(watcher)
    later(provider, "watcher", "users").get("/user/self")
    assert watcher.get(f"/experiment/{experiment.id}").status_code == 200
    assert holder.get(f"/experiment/{experiment.id}").status_code == 403


def test_a_token_does_not_gain_the_entitlements_that_its_maker_gains(
    experiment: Experiment, stranger: Caller, provider: Provider
) -> None:
    holder = pipeline(stranger)
    later(provider, "stranger", "users", GROUP).get("/user/self")
    assert holder.get(f"/experiment/{experiment.id}").status_code == 403


def test_a_token_is_refused_once_its_maker_is_no_longer_admitted(manager: Caller, provider: Provider) -> None:
    holder = pipeline(manager)
    later(provider, "manager", "guests").get("/user/self")
    response = holder.get("/user/self")
    assert response.status_code == 403
    assert "None of your groups" in response.json()["message"]


def test_a_token_without_entitlements_has_only_the_direct_permissions(
    experiment: Experiment, watcher: Caller, reader: Caller
) -> None:
    path = f"/experiment/{experiment.id}"
    assert pipeline(watcher, entitlements=["users"]).get(path).status_code == 403
    assert pipeline(reader, entitlements=[]).get(path).status_code == 200


def test_the_tokens_of_a_deactivated_user_are_refused(manager: Caller) -> None:
    holder = pipeline(manager)
    operator = Caller(token_of_an_operator(manager.user, "users"))
    User.objects.update(is_active=False)
    assert_refused(holder)
    assert_refused(operator)


def test_a_token_is_never_an_administrators(experiment: Experiment, provider: Provider, admin: Caller) -> None:
    chief = Caller(provider.token("admin", "admins", "users", GROUP))
    issued = made(chief)
    assert issued["entitlements"] == [GROUP, "users"]
    holder = Caller(issued["token"])
    assert holder.get(f"/experiment/{experiment.id}").status_code == 200
    assert holder.delete(f"/experiment/{experiment.id}").status_code == 403
    assert holder.post("/user/search", {}).status_code == 403
    refused = chief.post("/token", {"name": "more", "entitlements": ["admins"]})
    assert refused.status_code == 422
    assert "it gives the rights of an administrator" in refused.json()["message"]


def test_a_token_loses_an_entitlement_that_becomes_an_administrators(
    experiment: Experiment, watcher: Caller, settings: Settings
) -> None:
    holder = pipeline(watcher)
    settings.OIDC_ADMIN_ENTITLEMENTS = ["admins", GROUP]
    assert watcher.post("/user/search", {}).status_code == 200
    assert holder.post("/user/search", {}).status_code == 403


def test_an_operators_token_carries_the_chosen_entitlements(experiment: Experiment, stranger: Caller) -> None:
    token = Caller(token_of_an_operator(stranger.user, "admins"))
    assert token.delete(f"/experiment/{experiment.id}").status_code == 204
    assert token.post("/user/search", {}).status_code == 200


def test_an_operators_token_is_narrowed_too(drift: Drift, stranger: Caller) -> None:
    other = Experiment.objects.create(name="another")
    rights = {"level": Level.READ, "experiments": [str(drift.experiment_id)]}
    token = Caller(token_of_an_operator(stranger.user, "admins", **rights))
    assert act(token, "read", drift) == 200
    assert act(token, "report a run", drift) == 403
    assert token.get(f"/experiment/{other.id}").status_code == 403
    assert token.post("/user/search", {}).status_code == 403
    assert [found["name"] for found in token.post("/experiment/search", {}).json()] == ["wine quality"]


# Refreshing.


def refresh(token: str) -> Any:
    return Caller().post("/token/refresh", {"refresh": token})


def test_a_refresh_token_gives_the_next_pair(manager: Caller) -> None:
    issued = made(manager, refresh=True, days=7)
    claims = claims_of(issued["token"])
    assert claims["exp"] - claims["iat"] == 600
    response = refresh(issued["refresh"])
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json().keys() == {"token", "refresh"}
    assert Caller(response.json()["token"]).get("/user/self").json()["id"] == manager.id
    assert Caller(issued["token"]).get("/user/self").status_code == 200
    assert refresh(response.json()["refresh"]).status_code == 200


def test_refreshing_does_not_extend_the_family(manager: Caller) -> None:
    issued = made(manager, refresh=True, days=1)
    first = claims_of(issued["refresh"])
    second = claims_of(refresh(issued["refresh"]).json()["refresh"])
    assert abs(second["exp"] - first["exp"]) <= 1
    ServiceToken.objects.update(expires_at=timestamps.now() + timedelta(minutes=5))
    assert ServiceToken.objects.get().state is TokenState.ACTIVE


def test_a_reused_refresh_token_revokes_its_family(manager: Caller) -> None:
    issued = made(manager, refresh=True)
    following = refresh(issued["refresh"]).json()
    again = refresh(issued["refresh"])
    assert again.status_code == 401
    assert again.headers["WWW-Authenticate"].startswith("Bearer")
    assert "used before" in again.json()["message"]
    assert refresh(following["refresh"]).status_code == 401
    for token in (issued["token"], following["token"]):
        assert_refused(Caller(token))
    assert manager.get("/token").json()[0]["state"] == "revoked"


def test_a_family_ends_with_a_revocation_an_expiry_or_its_maker(manager: Caller) -> None:
    changes: list[Callable[[], Any]] = [
        lambda: ServiceToken.objects.all().revoke(),
        lambda: ServiceToken.objects.update(expires_at=timestamps.now() - timedelta(seconds=31)),
        lambda: User.objects.update(is_active=False),
        lambda: ServiceToken.objects.all().delete(),
    ]
    for number, change in enumerate(changes):
        issued = made(manager, name=str(number), refresh=True)
        change()
        assert refresh(issued["refresh"]).status_code == 401
        assert_refused(Caller(issued["token"]))
        User.objects.update(is_active=True)


def test_refresh_and_access_tokens_are_not_interchangeable(manager: Caller) -> None:
    issued = made(manager, refresh=True)
    assert_refused(Caller(issued["refresh"]))
    assert refresh(issued["token"]).status_code == 401
    assert manager.get("/token").json()[0]["state"] == "active"


def test_an_invalid_bearer_token_does_not_prevent_refreshing(manager: Caller) -> None:
    issued = made(manager, refresh=True)
    assert Caller("expired").post("/token/refresh", {"refresh": issued["refresh"]}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"refresh": ""}, 422),
        ({"refresh": None}, 422),
        ({"refresh": 1}, 422),
        ({"refresh": "r" * 12_001}, 422),
        ({"refresh": "nonsense"}, 401),
        ({"refresh": "a.b.c"}, 401),
        ({"refresh": "\N{SNOWMAN}"}, 401),
        ({"refresh": f"{base64url_encode(b'[' * 8_000).decode()}.e30.e30"}, 401),
        ({"refresh": f"e30.{base64url_encode(b'[' * 8_000).decode()}.e30"}, 401),
        ("[]", 422),
        ("", 415),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_invalid_refresh_token_is_refused(body: Any, status: int) -> None:
    response = Caller().post("/token/refresh", body)
    assert response.status_code == status, response.content


def test_a_forged_refresh_token_revokes_nothing(manager: Caller, provider: Provider) -> None:
    issued = made(manager, refresh=True)
    header, claims, signature = issued["refresh"].split(".")
    replayed = claims_of(issued["refresh"]) | {"jti": NOBODY}
    forgeries = [
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{claims}.",
        compact({"alg": "none"}, replayed, lambda _: b""),
        jwt.encode(replayed, "a secret of somebody else's, long enough for HS256", "HS256"),
        compact({"alg": "RS256"}, replayed, SigningKey("any", private=provider.keys[0].private).sign),
    ]
    for forgery in forgeries:
        assert refresh(forgery).status_code == 401
    assert refresh(issued["refresh"]).status_code == 200


# On the real server, with its two workers.


@pytest.fixture
def stored(live: LiveServer) -> Iterator[Any]:
    """The live server's own database."""
    with MongoClient[dict[str, Any]](os.environ["MONGODB_URI"]) as client:
        yield client[live.environment["MONGODB_NAME"]]


def status_of(live: LiveServer, token: str) -> int:
    # A new connection for each request, so that any worker may accept it.
    return requests.get(f"{live.api}/user/self", headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code


def test_every_worker_refuses_a_revoked_token(live: LiveServer, stored: Any) -> None:
    token = live.manage("token", "pipeline@example.org", "--name", "to be revoked")
    record = claims_of(token)["jti"].replace("-", "")
    assert {status_of(live, token) for _ in range(12)} == {200}
    stored[ServiceToken._meta.db_table].update_one({"_id": record}, {"$set": {"revoked_at": timestamps.now()}})
    assert {status_of(live, token) for _ in range(24)} == {401}


def test_one_of_twenty_concurrent_refreshes_succeeds_and_the_family_is_revoked(live: LiveServer, stored: Any) -> None:
    """The first request gets a new pair, which the second request revokes."""
    made_there = live.manage(
        "shell", "-v", "0", "-c",
        "from datetime import timedelta; from accounts.models import *; from accounts.tokens import *;"
        "user = User.objects.get_or_create(subject='refresher', email='refresher@example.org')[0];"
        "print(refresh_token(ServiceToken.objects.issue(user, 'raced', timedelta(days=1), refreshable=True)))",
    )  # fmt: skip
    body = {"refresh": made_there}
    with ThreadPoolExecutor(20) as pool:
        responses = list(
            pool.map(lambda _: requests.post(f"{live.api}/token/refresh", json=body, timeout=30), range(20))
        )
    assert sorted(response.status_code for response in responses) == [200] + [401] * 19
    (won,) = (response.json() for response in responses if response.ok)
    assert status_of(live, won["token"]) == 401
    assert requests.post(f"{live.api}/token/refresh", json={"refresh": won["refresh"]}, timeout=10).status_code == 401
    (record,) = stored[ServiceToken._meta.db_table].find({"name": "raced"})
    assert record["revoked_at"] is not None
    assert won["token"] not in live.log.read_text()


# In the admin portal.


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.org"))
    return client


def test_staff_find_tokens_and_revoke_them(staff: Client, manager: Caller, editor: Caller) -> None:
    first, second = pipeline(manager), pipeline(editor, name="hourly")
    path = reverse("admin:accounts_servicetoken_changelist")
    listed = staff.get(path).content.decode()
    assert "nightly" in listed
    assert "hourly" in listed
    assert staff.get(path, {"q": "manager@"}).context["cl"].result_count == 1
    record = ServiceToken.objects.get(name="nightly")
    for query in ("", "?q=manager@"):
        staff.post(path + query, {"action": "revoke", "_selected_action": [str(record.pk)]})
    assert_refused(first)
    assert second.get("/user/self").status_code == 200
    for state, count in (("active", 1), ("revoked", 1), ("expired", 0), ("nonsense", 2)):
        assert staff.get(path, {"state": state}).context["cl"].result_count == count


def test_staff_see_no_secrets_and_cannot_make_or_change_tokens(staff: Client, manager: Caller) -> None:
    issued = made(manager, refresh=True)
    path = reverse("admin:accounts_servicetoken_change", args=[issued["id"]])
    page = staff.get(path).content.decode()
    assert "nightly" in page
    record = ServiceToken.objects.get()
    assert str(record.refresh_id) not in page
    assert issued["token"].rpartition(".")[2] not in page
    assert staff.post(path, {"name": "renamed"}).status_code == 403
    assert staff.get(reverse("admin:accounts_servicetoken_add")).status_code == 403
