"""Experiments over the API."""

import json
from typing import Any

import pytest

from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import GROUP, RUN

WHOLE: dict[str, Any] = {
    "name": "wine",
    "description": "Chemistry of wine.\nTwo lines.",
    "public": True,
    "permissions": [{"entity": GROUP, "level": "Read"}],
    "tags": ["wine", "nightly"],
    "config": {"threshold": 0.05, "layers": {"mlp.0": 3, "$ref": "x"}},
}


def levels(experiment: dict[str, Any]) -> dict[str, str]:
    return {entry["entity"]: entry["level"] for entry in experiment["permissions"]}


def test_a_new_experiment_is_answered_as_it_is_read_later(manager: Caller) -> None:
    response = manager.post("/experiment", WHOLE)
    assert response.status_code == 201
    created = response.json()
    assert {name: created[name] for name in WHOLE.keys() - {"permissions"}} == {
        name: value for name, value in WHOLE.items() if name != "permissions"
    }
    assert created == manager.get(f"/experiment/{created['id']}").json()
    assert created["created_at"].endswith("Z")


def test_what_is_left_out_takes_its_default(manager: Caller) -> None:
    created = manager.post("/experiment", {"name": "wine"}).json()
    assert created["description"] == ""
    assert created["public"] is False
    assert created["tags"] == []
    assert created["config"] == {}


def test_the_creator_manages_beside_those_named(manager: Caller) -> None:
    assert levels(manager.post("/experiment", WHOLE).json()) == {GROUP: "Read", manager.id: "Manage"}


def test_the_creators_own_entry_is_raised_to_manage(manager: Caller) -> None:
    own = {"entity": manager.id.upper(), "level": "Read"}
    created = manager.post("/experiment", {"name": "wine", "permissions": [own]}).json()
    assert levels(created) == {manager.id: "Manage"}


def test_a_creator_who_manages_through_a_group_is_not_added(watcher: Caller) -> None:
    through_group = [{"entity": GROUP, "level": "Manage"}]
    created = watcher.post("/experiment", {"name": "wine", "permissions": through_group}).json()
    assert created["permissions"] == through_group


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_manager_cannot_lose_the_experiment_by_an_update(
    manager: Caller, experiment: Experiment, method: str
) -> None:
    response = manager.request(method, f"/experiment/{experiment.id}", {"name": "wine", "permissions": []})
    assert levels(response.json()) == {manager.id: "Manage"}


def test_an_administrator_may_update_without_becoming_a_manager(admin: Caller, experiment: Experiment) -> None:
    response = admin.patch(f"/experiment/{experiment.id}", {"permissions": [{"entity": GROUP, "level": "Manage"}]})
    assert levels(response.json()) == {GROUP: "Manage"}


def test_put_replaces_everything_and_keeps_the_identity(manager: Caller) -> None:
    created = manager.post("/experiment", WHOLE).json()
    replaced = manager.put(f"/experiment/{created['id']}", {"name": "beer"}).json()
    assert replaced == {
        "id": created["id"],
        "name": "beer",
        "description": "",
        "public": False,
        "permissions": [{"entity": manager.id, "level": "Manage"}],
        "tags": [],
        "config": {},
        "created_at": created["created_at"],
        "updated_at": replaced["updated_at"],
    }
    assert replaced["updated_at"] > created["updated_at"]


@pytest.mark.parametrize("field", sorted(WHOLE.keys() - {"permissions"}))
def test_patch_changes_what_it_names_and_nothing_else(manager: Caller, field: str) -> None:
    before = manager.post("/experiment", {"name": "before"}).json()
    after = manager.patch(f"/experiment/{before['id']}", {field: WHOLE[field]}).json()
    assert after == {**before, field: WHOLE[field], "updated_at": after["updated_at"]}


def test_an_object_can_be_sent_back_as_it_was_read(manager: Caller) -> None:
    created = manager.post("/experiment", WHOLE).json()
    replaced = manager.put(f"/experiment/{created['id']}", created).json()
    assert replaced == {**created, "updated_at": replaced["updated_at"]}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_name_is_taken_once(manager: Caller, experiment: Experiment, method: str) -> None:
    other = manager.post("/experiment", {"name": "other"}).json()
    path = "/experiment" if method == "POST" else f"/experiment/{other['id']}"
    response = manager.request(method, path, {"name": experiment.name})
    assert response.status_code == 409
    assert response.json() == {
        "code": 409,
        "status": "Conflict",
        "message": "An experiment of this name exists already. Choose another name.",
    }
    assert sorted(Experiment.objects.values_list("name", flat=True)) == ["other", "wine quality"]


@pytest.mark.parametrize("entry", [{"entity": GROUP}, {"level": "Read"}, {}])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_permission_is_whole_in_every_update(
    manager: Caller, experiment: Experiment, method: str, entry: dict[str, str]
) -> None:
    response = manager.request(method, f"/experiment/{experiment.id}", {"name": "wine", "permissions": [entry]})
    assert response.status_code == 422
    assert "required" in response.json()["message"]


def test_entities_are_named_once(manager: Caller) -> None:
    twice = [{"entity": GROUP, "level": "Read"}, {"entity": GROUP, "level": "Edit"}]
    response = manager.post("/experiment", {"name": "wine", "permissions": twice})
    assert response.status_code == 422
    assert response.json()["errors"]["json"]["permissions"] == ["Name each entity once."]


def test_deleting_an_experiment_deletes_its_runs_and_no_others(manager: Caller, drift: Drift) -> None:
    other = manager.post("/experiment", {"name": "other"}).json()
    kept = manager.post(f"/experiment/{other['id']}/drift", RUN).json()
    response = manager.delete(f"/experiment/{drift.experiment_id}")
    assert response.status_code == 204
    assert response.content == b""
    assert [str(pk) for pk in Drift.objects.values_list("pk", flat=True)] == [kept["id"]]
    assert manager.get(f"/experiment/{drift.experiment_id}").status_code == 404


def test_the_latest_version_answers_at_an_alias(manager: Caller) -> None:
    response = manager.client.post(
        "/api/latest/experiment/search",
        json.dumps({}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {manager.token}"},
    )
    assert response.json() == []
