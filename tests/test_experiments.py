from tests.caller import Caller


def test_a_new_experiment_is_answered_whole(manager: Caller) -> None:
    response = manager.post("/experiment", {"name": "wine"})
    assert response.status_code == 201, response.content
    created = response.json()
    assert created == manager.get(f"/experiment/{created['id']}").json()
    assert created["permissions"] == [{"entity": manager.id, "level": "Manage"}]
