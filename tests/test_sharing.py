"""Sharing over the API: emails, reasons for access, previews, and handover."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from accounts.models import User
from core.identity import Identity, Level
from core.versions import VersionConflict
from experiments.models import Experiment, Permission
from tests.caller import Caller
from tests.conftest import GROUP, permissions_of
from tests.provider import Provider

EMAIL_LIKE = "member@example.org"


def levels(experiment: Any) -> dict[str, str]:
    entries = experiment.permissions if isinstance(experiment, Experiment) else experiment["permissions"]
    pairs = [(entry.entity, entry.level) if isinstance(entry, Permission) else entry.values() for entry in entries]
    return dict(pairs)


def share(caller: Caller, experiment: Experiment, *entries: tuple[str, str]) -> Any:
    permissions = [{"entity": entity, "level": level} for entity, level in entries]
    return caller.patch(f"/experiment/{experiment.id}", {"permissions": permissions})


# Emails.


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_an_email_names_the_registered_user_who_has_it(
    manager: Caller, stranger: Caller, experiment: Experiment, method: str
) -> None:
    path = "/experiment" if method == "POST" else f"/experiment/{experiment.id}"
    body = {"name": "shared", "permissions": [{"entity": "stranger@example.org", "level": "Edit"}]}
    assert levels(manager.request(method, path, body).json()) == {stranger.id: "Edit", manager.id: "Manage"}


def test_an_email_that_nobody_has_is_refused_at_its_place(manager: Caller, experiment: Experiment) -> None:
    response = share(manager, experiment, (GROUP, "Read"), ("nobody@example.org", "Read"))
    assert response.status_code == 422
    sentence = "No registered user has this email. People appear after their first login."
    assert response.json()["errors"]["json"]["permissions"] == [{}, {"entity": [sentence]}]
    assert response.json()["message"] == f"permissions.1.entity: {sentence}"


def test_an_email_of_several_users_is_refused(manager: Caller, stranger: Caller, experiment: Experiment) -> None:
    User.objects.create(issuer="https://elsewhere.example", subject="x", email="stranger@example.org")
    response = share(manager, experiment, ("stranger@example.org", "Read"))
    assert response.status_code == 422
    assert "user id" in response.json()["message"]
    assert stranger.id not in response.content.decode()


def test_the_email_of_an_inactive_user_is_unknown(manager: Caller, stranger: Caller, experiment: Experiment) -> None:
    gone = User.objects.create(subject="x", email="stranger@example.org", is_active=False)
    assert stranger.id in levels(share(manager, experiment, ("stranger@example.org", "Read")).json())
    User.objects.filter(pk=stranger.id).update(is_active=False)
    assert share(manager, experiment, ("stranger@example.org", "Read")).status_code == 422
    assert manager.post("/user/lookup", {"id": str(gone.id)}).status_code == 404


def test_an_entitlement_that_looks_like_an_email_stays_an_entitlement(
    experiment: Experiment, manager: Caller, provider: Provider
) -> None:
    User.objects.create(subject="member", email=EMAIL_LIKE)
    holder = Caller(provider.token("manager", "users", EMAIL_LIKE), manager.user)
    assert EMAIL_LIKE in levels(share(holder, experiment, (EMAIL_LIKE, "Read")).json())
    # Another manager sends the list back as it was read.
    assert EMAIL_LIKE in levels(share(manager, experiment, (EMAIL_LIKE, "Edit")).json())


def test_a_user_whom_a_list_names_by_id_and_email_holds_the_higher_level(manager: Caller, reader: Caller) -> None:
    twice = [
        {"entity": reader.id, "level": "Read"},
        {"entity": "reader@example.org", "level": "Edit"},
        {"entity": reader.id.upper(), "level": "Read"},
    ]
    response = manager.post("/experiment", {"name": "wine", "permissions": twice})
    assert response.status_code == 201
    assert {"entity": reader.id, "level": "Edit"} in response.json()["permissions"]
    assert len(response.json()["permissions"]) == 2


@pytest.mark.parametrize("by", ["id", "email"])
def test_a_user_lookup_takes_exactly_one_parameter(stranger: Caller, reader: Caller, by: str) -> None:
    whole = {"id": reader.id, "email": "reader@example.org"}
    response = stranger.post("/user/lookup", {by: whole[by]})
    assert (response.status_code, response.json()) == (200, whole)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": "reader@example"}, 404),
        ({"email": "READER@example.org"}, 404),
        ({"email": {"$regex": "reader"}}, 422),
        ({"id": str(uuid.UUID(int=0))}, 404),
        ({"id": "reader"}, 422),
        ({"id": None}, 422),
        ({"subject": "reader"}, 422),
        ({"email": "reader@example.org", "id": str(uuid.UUID(int=0))}, 422),
        ({}, 422),
        ([], 422),
    ],
)
def test_a_lookup_finds_only_an_exact_match(stranger: Caller, reader: Caller, body: Any, status: int) -> None:
    assert stranger.post("/user/lookup", body).status_code == status


# The last manager.


@pytest.mark.parametrize("entries", [(), ((GROUP, "Edit"),)])
def test_an_administrator_cannot_remove_the_last_manager(
    admin: Caller, experiment: Experiment, entries: tuple[tuple[str, str], ...]
) -> None:
    before = levels(experiment)
    response = share(admin, experiment, *entries)
    assert response.status_code == 422
    assert "The experiment needs a manager" in response.json()["errors"]["json"]["permissions"][0]
    experiment.refresh_from_db()
    assert levels(experiment) == before


def test_an_administrator_who_replaces_without_permissions_becomes_the_manager(
    admin: Caller, experiment: Experiment
) -> None:
    response = admin.put(f"/experiment/{experiment.id}", {"name": "renamed"})
    assert levels(response.json()) == {admin.id: "Manage"}


def test_the_description_of_an_experiment_without_a_manager_can_be_changed(admin: Caller) -> None:
    unmanaged = Experiment.objects.create(name="nobody's")
    assert admin.patch(f"/experiment/{unmanaged.id}", {"description": "kept"}).status_code == 200


def test_the_portal_cannot_remove_the_last_manager(experiment: Experiment) -> None:
    experiment.permissions = [Permission(entity=GROUP, level=Level.EDIT)]
    with pytest.raises(Exception, match="The experiment needs a manager"):
        experiment.full_clean()


# Levels and their reasons.

GROUPED, PUBLIC, ADMIN = ("group", GROUP, "Read"), ("public", None, "Read"), ("admin", None, "Manage")


def reasons(response: Any) -> list[tuple[str, str | None, str]]:
    return [(reason["via"], reason["entity"], reason["level"]) for reason in response.json()["reasons"]]


@pytest.mark.parametrize("public", [False, True], ids=["private", "public"])
@pytest.mark.parametrize(
    ("role", "level", "reason"),
    [
        ("reader", "Read", None),
        ("watcher", "Read", GROUPED),
        ("editor", "Edit", None),
        ("manager", "Manage", None),
        ("admin", "Manage", ADMIN),
    ],
)
def test_callers_read_their_own_level_and_its_reasons(
    request: pytest.FixtureRequest, experiment: Experiment, role: str, level: str, reason: Any, public: bool
) -> None:
    Experiment.objects.update(public=public)
    caller: Caller = request.getfixturevalue(role)
    response = caller.get(f"/experiment/{experiment.id}/access")
    assert response.json()["level"] == level
    assert response.json()["entity"] == caller.id
    assert response.json()["complete"] is True
    assert reasons(response) == [reason or ("direct", caller.id, level), *([PUBLIC] if public else [])]


@pytest.mark.parametrize("role", ["anonymous", "newcomer", "outsider", "stranger"])
def test_callers_without_a_permission_read_public_experiments(
    request: pytest.FixtureRequest, experiment: Experiment, role: str
) -> None:
    Experiment.objects.update(public=True)
    response = request.getfixturevalue(role).get(f"/experiment/{experiment.id}/access")
    assert response.json()["level"] == "Read"
    assert reasons(response) == [PUBLIC]


@pytest.mark.parametrize(
    ("entity", "level", "via"),
    [
        ("editor@example.org", "Edit", ["direct"]),
        ("stranger@example.org", None, []),
        (GROUP, "Read", ["group"]),
        ("urn:example:group:unknown", None, []),
        (str(uuid.UUID(int=0)), None, []),
    ],
)
def test_a_manager_reads_the_level_of_others(
    experiment: Experiment, manager: Caller, stranger: Caller, entity: str, level: str | None, via: list[str]
) -> None:
    response = manager.get(f"/experiment/{experiment.id}/access", query_params={"entity": entity})
    assert response.status_code == 200
    assert response.json()["level"] == level
    assert [reason["via"] for reason in response.json()["reasons"]] == via
    assert response.json()["complete"] is False
    assert "Only direct, named-group and public access" in response.json()["note"]


@pytest.mark.parametrize("entity", ["", "nobody@example.org", "a\0b"])
def test_an_invalid_entity_is_refused(experiment: Experiment, manager: Caller, entity: str) -> None:
    response = manager.get(f"/experiment/{experiment.id}/access", query_params={"entity": entity})
    assert response.status_code == 422
    assert "entity" in response.json()["errors"]["query"]


def test_an_inactive_user_has_no_access(experiment: Experiment, manager: Caller, editor: Caller) -> None:
    User.objects.filter(pk=editor.id).update(is_active=False)
    response = manager.get(f"/experiment/{experiment.id}/access", query_params={"entity": editor.id})
    assert response.json()["level"] is None


@pytest.mark.parametrize("public", [False, True], ids=["private", "public"])
@pytest.mark.parametrize("role", ["anonymous", "newcomer", "outsider", "stranger", "reader", "watcher", "editor"])
def test_only_managers_read_the_level_of_others(
    request: pytest.FixtureRequest, experiment: Experiment, role: str, public: bool
) -> None:
    Experiment.objects.update(public=public)
    for entity in ("nobody@example.org", "editor@example.org", GROUP):
        path = f"/experiment/{experiment.id}/access"
        response = request.getfixturevalue(role).get(path, query_params={"entity": entity})
        assert response.status_code == 403
        assert "wine" not in response.content.decode()


# Previews.


def test_a_preview_lists_changed_levels_and_saves_nothing(
    experiment: Experiment, manager: Caller, editor: Caller, reader: Caller, stranger: Caller
) -> None:
    before = manager.get(f"/experiment/{experiment.id}").json()
    wanted = [("stranger@example.org", "Read"), (reader.id, "Edit"), (editor.id, "Read")]
    body = {"public": True, "permissions": [{"entity": entity, "level": level} for entity, level in wanted]}
    response = manager.post(f"/experiment/{experiment.id}/access/preview", body)
    assert response.status_code == 200
    foreseen = response.json()
    assert {item["entity"]: (item["before"], item["after"]) for item in foreseen["gains"]} == {
        stranger.id: (None, "Read"),
        reader.id: ("Read", "Edit"),
    }
    assert {item["entity"]: (item["before"], item["after"]) for item in foreseen["losses"]} == {
        editor.id: ("Edit", "Read"),
        GROUP: ("Read", None),
    }
    assert foreseen["public"] == {"before": False, "after": True}
    assert manager.get(f"/experiment/{experiment.id}").json() == before


@pytest.mark.parametrize("body", [{}, {"public": False}])
def test_a_preview_of_no_change_is_empty(experiment: Experiment, manager: Caller, body: dict[str, Any]) -> None:
    response = manager.post(f"/experiment/{experiment.id}/access/preview", body)
    assert response.json() == {"gains": [], "losses": [], "public": {"before": False, "after": False}}


@pytest.mark.parametrize(
    ("role", "body"),
    [
        ("admin", {"permissions": []}),
        ("manager", {"permissions": [{"entity": "nobody@example.org", "level": "Read"}]}),
        ("manager", {"permissions": [{"entity": GROUP}]}),
        ("manager", {"public": "yes"}),
        ("manager", {"name": "renamed"}),
        ("manager", []),
    ],
)
def test_a_preview_is_refused_like_the_update(
    request: pytest.FixtureRequest, experiment: Experiment, role: str, body: Any
) -> None:
    caller: Caller = request.getfixturevalue(role)
    response = caller.post(f"/experiment/{experiment.id}/access/preview", body)
    assert response.status_code == 422
    if "name" not in body:
        same_id = {"X-Request-ID": response["X-Request-ID"]}
        assert response.json() == caller.patch(f"/experiment/{experiment.id}", body, headers=same_id).json()


# Handover.


@pytest.mark.parametrize(
    ("keep", "kept"),
    [({}, "Read"), ({"keep": "Read"}, "Read"), ({"keep": "Edit"}, "Edit"), ({"keep": "Manage"}, "Manage")],
)
@pytest.mark.parametrize("to", ["stranger", "editor"])
def test_a_handover_makes_a_manager_and_keeps_a_level(
    request: pytest.FixtureRequest, experiment: Experiment, manager: Caller, to: str, keep: dict[str, str], kept: str
) -> None:
    heir: Caller = request.getfixturevalue(to)
    others = {entity: level for entity, level in levels(experiment).items() if entity not in (manager.id, heir.id)}
    body = {"entity": f"{to}@example.org", **keep}
    response = manager.post(f"/experiment/{experiment.id}/access/handover", body)
    assert response.status_code == 200
    assert levels(response.json()) == {**others, heir.id: "Manage", manager.id: kept}


def test_a_handover_may_give_up_every_level(experiment: Experiment, manager: Caller, stranger: Caller) -> None:
    body = {"entity": stranger.id.upper(), "keep": None}
    assert manager.post(f"/experiment/{experiment.id}/access/handover", body).status_code == 200
    assert manager.get(f"/experiment/{experiment.id}").status_code == 403
    assert stranger.delete(f"/experiment/{experiment.id}").status_code == 204


def test_an_administrator_hands_over_without_getting_a_permission(
    experiment: Experiment, admin: Caller, stranger: Caller
) -> None:
    response = admin.post(f"/experiment/{experiment.id}/access/handover", {"entity": stranger.id})
    assert levels(response.json()) == {**levels(experiment), stranger.id: "Manage"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"entity": GROUP},
        {"entity": "nobody@example.org"},
        {"entity": str(uuid.UUID(int=0))},
        {"entity": "manager@example.org"},
        {"entity": "stranger@example.org", "keep": "Everything"},
        {"entity": "stranger@example.org", "to": "me"},
        {"entity": ["stranger@example.org"]},
        [],
    ],
)
def test_a_handover_without_a_clear_recipient_is_refused(
    experiment: Experiment, manager: Caller, stranger: Caller, body: Any
) -> None:
    assert manager.post(f"/experiment/{experiment.id}/access/handover", body).status_code == 422
    experiment.refresh_from_db()
    assert levels(experiment)[manager.id] == "Manage"


def test_a_handover_of_an_older_version_changes_nothing(
    experiment: Experiment, manager: Caller, stranger: Caller, reader: Caller
) -> None:
    assert manager.user
    assert stranger.user
    stale = Experiment.objects.get()
    share(manager, experiment, (reader.id, "Edit"))
    identity = Identity(
        manager.user.issuer, manager.user.subject, manager.user.email, frozenset(["users"]), manager.user
    )
    with pytest.raises(VersionConflict):
        stale.hand_over(identity, stranger.user, None)
    assert levels(Experiment.objects.get()) == {reader.id: "Edit", manager.id: "Manage"}


def test_no_concurrent_handover_is_lost(
    experiment: Experiment, manager: Caller, editor: Caller, reader: Caller, provider: Provider
) -> None:
    Experiment.objects.update(permissions=permissions_of(manager, editor, reader))
    heirs = [User.objects.create(subject=f"heir{n}", email=f"heir{n}@example.org") for n in range(6)]
    token = manager.token

    def hand_over(heir: User) -> Any:
        body = {"entity": str(heir.id), "keep": "Manage"}
        return Caller(token).post(f"/experiment/{experiment.id}/access/handover", body)

    with ThreadPoolExecutor(len(heirs)) as pool:
        responses = list(pool.map(hand_over, heirs))
    assert {response.status_code for response in responses} <= {200, 409}
    done = {str(heir.id) for heir, response in zip(heirs, responses, strict=True) if response.status_code == 200}
    assert done
    managers = {entity for entity, level in levels(Experiment.objects.get()).items() if level == "Manage"}
    assert managers == {manager.id, *done}
    assert all("Someone else" in response.json()["message"] for response in responses if response.status_code == 409)
