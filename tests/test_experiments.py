"""Experiments over the API."""

import json
from dataclasses import replace
from typing import Any

import pytest

from drifts.models import Drift
from experiments.models import Experiment
from experiments.run_rules import Recomputation
from tests.caller import Caller
from tests.conftest import GROUP, RUN, purge_in_background
from tests.times import time_of

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


def test_the_response_to_a_creation_equals_a_later_read(manager: Caller) -> None:
    response = manager.post("/experiment", WHOLE)
    assert response.status_code == 201
    created = response.json()
    assert {name: created[name] for name in WHOLE.keys() - {"permissions"}} == {
        name: value for name, value in WHOLE.items() if name != "permissions"
    }
    assert created == manager.get(f"/experiment/{created['id']}").json()
    assert created["created_at"].endswith("Z")


def test_omitted_fields_take_their_defaults(manager: Caller) -> None:
    created = manager.post("/experiment", {"name": "wine"}).json()
    assert created["description"] == ""
    assert created["public"] is False
    assert created["tags"] == []
    assert created["config"] == {}


def test_the_creator_manages_beside_the_named_entities(manager: Caller) -> None:
    assert levels(manager.post("/experiment", WHOLE).json()) == {GROUP: "Read", manager.id: "Manage"}


def test_the_creators_own_entry_is_raised_to_manage(manager: Caller) -> None:
    own = {"entity": manager.id.upper(), "level": "Read"}
    created = manager.post("/experiment", {"name": "wine", "permissions": [own]}).json()
    assert levels(created) == {manager.id: "Manage"}


def test_a_creator_who_manages_through_a_group_gets_no_second_permission(watcher: Caller) -> None:
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


def test_put_replaces_what_the_first_clients_know_and_keeps_the_rest(manager: Caller) -> None:
    created = manager.post("/experiment", WHOLE).json()
    path = f"/experiment/{created['id']}"
    replaced = manager.put(path, {"name": "beer"}).json()
    assert replaced == created | {
        "name": "beer",
        "public": False,
        "permissions": [{"entity": manager.id, "level": "Manage"}],
        "updated_at": replaced["updated_at"],
    }
    assert time_of(replaced["updated_at"]) > time_of(created["updated_at"])
    cleared: dict[str, Any] = {"description": "", "tags": [], "config": {}}
    assert manager.put(path, {"name": "beer"} | cleared).json().items() >= cleared.items()


@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_null_clears_what_has_an_empty_value(manager: Caller, method: str) -> None:
    path = "/experiment"
    if method != "post":
        path = f"/experiment/{manager.post('/experiment', WHOLE).json()['id']}"
    null = dict.fromkeys(("description", "tags", "config"))
    stored = getattr(manager, method)(path, {"name": "beer", **null}).json()
    assert stored.items() >= {"description": "", "tags": [], "config": {}}.items()


@pytest.mark.parametrize("field", sorted(WHOLE.keys() - {"permissions"}))
def test_patch_changes_only_the_fields_that_it_names(manager: Caller, field: str) -> None:
    before = manager.post("/experiment", {"name": "before"}).json()
    after = manager.patch(f"/experiment/{before['id']}", {field: WHOLE[field]}).json()
    assert after == {**before, field: WHOLE[field], "updated_at": after["updated_at"]}


def test_an_object_can_be_sent_back_unchanged(manager: Caller) -> None:
    created = manager.post("/experiment", WHOLE).json()
    replaced = manager.put(f"/experiment/{created['id']}", created).json()
    assert replaced == {**created, "updated_at": replaced["updated_at"]}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_two_experiments_cannot_share_a_name(manager: Caller, experiment: Experiment, method: str) -> None:
    other = manager.post("/experiment", {"name": "other"}).json()
    path = "/experiment" if method == "POST" else f"/experiment/{other['id']}"
    response = manager.request(method, path, {"name": experiment.name})
    assert response.status_code == 409
    assert response.json() == {
        "code": 409,
        "status": "Conflict",
        "message": "An experiment with this name already exists. Choose another name.",
        "request_id": response["X-Request-ID"],
    }
    assert sorted(Experiment.objects.values_list("name", flat=True)) == ["other", "wine quality"]


@pytest.mark.parametrize("entry", [{"entity": GROUP}, {"level": "Read"}, {}])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_every_update_needs_complete_permissions(
    manager: Caller, experiment: Experiment, method: str, entry: dict[str, str]
) -> None:
    response = manager.request(method, f"/experiment/{experiment.id}", {"name": "wine", "permissions": [entry]})
    assert response.status_code == 422
    assert "required" in response.json()["message"]


@pytest.mark.parametrize("sent", [("Read", "Manage"), ("Manage", "Edit"), ("Manage", "Manage", "Read")])
def test_an_entity_that_a_permission_list_names_twice_holds_the_higher_level(
    manager: Caller, experiment: Experiment, sent: tuple[str, ...]
) -> None:
    twice = [{"entity": GROUP, "level": level} for level in sent]
    path = f"/experiment/{experiment.id}"
    for response in (
        manager.post("/experiment", {"name": "wine", "permissions": twice}),
        manager.put(path, {"name": "beer", "permissions": twice}),
        manager.patch(path, {"permissions": twice}),
    ):
        assert response.status_code in (200, 201)
        assert response.json()["permissions"] == [
            {"entity": GROUP, "level": "Manage"},
            {"entity": manager.id, "level": "Manage"},
        ]
    assert manager.post(f"{path}/access/preview", {"permissions": twice}).status_code == 200


@pytest.mark.parametrize("text", [" wine ", "\twine", "wine\u00a0"])
def test_names_and_tags_are_stored_as_sent(manager: Caller, text: str) -> None:
    created = manager.post("/experiment", {"name": text, "tags": [text]}).json()
    path = f"/experiment/{created['id']}"
    assert (created["name"], created["tags"]) == (text, [text])
    assert manager.post("/experiment", {"name": text.strip()}).status_code == 201
    assert manager.patch(path, {"name": f"{text} 2"}).json()["name"] == f"{text} 2"
    run = manager.post(f"{path}/drift", RUN | {"tags": [text], "model": text, "detector": text}).json()
    assert (run["tags"], run["model"], run["detector"]) == ([text], text, text)
    assert manager.post("/token", {"name": text}).json()["name"] == text


def test_a_changed_rule_shows_the_progress_of_its_recomputation(manager: Caller, drift: Drift) -> None:
    path = f"/experiment/{drift.experiment_id}"
    assert manager.get(path).json()["recomputation"] is None
    progress = manager.patch(path, {"field_map": {"p_value": "parameters.p_value"}}).json()["recomputation"]
    assert progress == {"field": "field_map", "done": 0, "total": 1, "started_at": progress["started_at"]}
    assert manager.patch(path, {"name": "wine"}).json()["recomputation"] == progress
    assert manager.post("/experiment/search", {}).json()[0]["recomputation"] == progress
    stored: Any = Experiment.objects.get().recomputation
    visited = replace(Recomputation.of(stored), done=1, after=(drift.created_at, drift.pk.hex))
    assert Recomputation.of(json.loads(json.dumps(visited.stored()))) == visited


def test_a_deletion_of_an_experiment_deletes_only_its_runs(manager: Caller, drift: Drift) -> None:
    other = manager.post("/experiment", {"name": "other"}).json()
    kept = manager.post(f"/experiment/{other['id']}/drift", RUN).json()
    response = manager.delete(f"/experiment/{drift.experiment_id}")
    assert response.status_code == 204
    assert response.content == b""
    purge_in_background()
    assert [str(pk) for pk in Drift.objects.values_list("pk", flat=True)] == [kept["id"]]
    assert manager.get(f"/experiment/{drift.experiment_id}").status_code == 404


def test_the_alias_latest_is_the_newest_api_version(manager: Caller) -> None:
    response = manager.client.post(
        "/api/latest/experiment/search",
        json.dumps({}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {manager.token}"},
    )
    assert response.json() == []
