"""Versions of the record of a run: a made-up version 1.2.0 comes, its runs are upgraded, and it goes again.

docs/schema.md has the steps to add a version. The fields of this one are in no model: step 1 is left out.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from core.mongodb.documents import collection_of
from drifts import exports, schema
from drifts.documents import defaults
from drifts.models import Drift
from drifts.recomputation import recompute_runs
from drifts.schema import SchemaVersion
from drifts.upgrades import Place, upgrade_runs
from experiments.models import Experiment
from tests.caller import Caller
from tests.test_observed_at import as_older_record
from tests.test_upgrades import never, stored

RUN = {"job_status": "Completed", "model": "forest", "drift_detected": False, "parameters": {"rows": 7}}
# Older runs have the value "somebody".
VERSION = SchemaVersion("1.2.0", fields=("reviewer", "comment"), values={"reviewer": lambda run: "somebody"})
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


@pytest.fixture
def path(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}/drift"


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The release of version 1.2.0, until `roll_back`."""
    with monkeypatch.context() as release:
        release.setattr(schema, "VERSIONS", [*schema.VERSIONS, VERSION])
        defaults.cache_clear()
        yield release
    defaults.cache_clear()


def roll_back(release: pytest.MonkeyPatch) -> None:
    release.undo()
    defaults.cache_clear()
    assert schema.current() == "1.1.0"


@pytest.fixture
def ids(editor: Caller, path: str, newer: pytest.MonkeyPatch) -> dict[str, str]:
    """The ids of three runs, by the version that has stored them."""
    made = {version: editor.post(path, RUN | {"model": version}).json()["id"] for version in VERSIONS}
    as_older_record(made["1.0.0"])
    change(made["1.1.0"], {"schema_version": "1.1.0"})
    change(made["1.2.0"], {"reviewer": "ada", "comment": "seen"})
    return made


def change(pk: str, fields: dict[str, Any]) -> None:
    collection_of(Drift).update_one({"_id": uuid.UUID(pk).hex}, {"$set": fields})


def found(caller: Caller, path: str, body: dict[str, Any], query: str = "") -> list[str]:
    return [run["model"] for run in caller.post(f"{path}/search?order_by=asc{query}", body).json()]


def test_runs_of_all_versions_are_read_side_by_side(ids: dict[str, str], editor: Caller, path: str) -> None:
    for version, pk in ids.items():
        run = editor.get(f"{path}/{pk}").json()
        assert run["schema_version"] == version
        assert run["observed_at"] == run["created_at"]
        assert found(editor, path, {"schema_version": version}) == [version]
    assert found(editor, path, {"schema_version": {"$lt": "1.2.0"}}) == ["1.0.0", "1.1.0"]
    for key in ("created_at", "observed_at", "schema_version"):
        assert found(editor, path, {}, f"&sort_by={key}") == list(VERSIONS)


def test_older_runs_are_upgraded_step_by_step(ids: dict[str, str]) -> None:
    upgrade_runs(never)
    assert [stored(pk)["schema_version"] for pk in ids.values()] == ["1.2.0"] * 3
    assert [stored(pk)["reviewer"] for pk in ids.values()] == ["somebody", "somebody", "ada"]
    assert ["comment" in stored(pk) for pk in ids.values()] == [False, False, True], "null is not stored"
    assert stored(ids["1.0.0"])["observed_at"] == stored(ids["1.0.0"])["created_at"]
    assert Place.stored().changed == 2


def test_a_release_upgrades_once_although_an_older_one_has_upgraded(
    ids: dict[str, str], newer: pytest.MonkeyPatch
) -> None:
    roll_back(newer)
    upgrade_runs(never)
    assert [stored(pk)["schema_version"] for pk in ids.values()] == ["1.1.0", "1.1.0", "1.2.0"]
    newer.setattr(schema, "VERSIONS", [*schema.VERSIONS, VERSION])
    upgrade_runs(never)
    assert [stored(pk)["schema_version"] for pk in ids.values()] == ["1.2.0"] * 3
    upgrade_runs(never)
    assert Place.stored().changed == 0


@pytest.mark.parametrize("method", ["patch", "put"])
def test_a_change_upgrades_the_run(ids: dict[str, str], editor: Caller, path: str, method: str) -> None:
    for pk in ids.values():
        assert getattr(editor, method)(f"{path}/{pk}", RUN).json()["schema_version"] == "1.2.0"
    assert [stored(pk)["reviewer"] for pk in ids.values()] == ["somebody", "somebody", "ada"]


# The release of version 1.1.0, after runs of 1.2.0 were stored.


@pytest.fixture
def newer_run(ids: dict[str, str], newer: pytest.MonkeyPatch) -> str:
    """The id of a run of version 1.2.0, which the release does not know any more."""
    upgrade_runs(never)
    roll_back(newer)
    return ids["1.2.0"]


def test_a_rolled_back_release_reads_and_finds_newer_runs(newer_run: str, editor: Caller, path: str) -> None:
    run = editor.get(f"{path}/{newer_run}").json()
    assert (run["schema_version"], run["model"], run["series"]) == ("1.2.0", "1.2.0", {"model": "1.2.0"})
    assert "reviewer" not in run
    assert found(editor, path, {"schema_version": "1.2.0"}) == list(VERSIONS)
    assert found(editor, path, {"observed_at": {"$gte": "2020-01-01"}}, "&sort_by=observed_at") == list(VERSIONS)
    assert editor.post(f"{path}/stats", {}).json()[0]["count"] == 3


@pytest.mark.parametrize("method", ["patch", "put"])
def test_a_rolled_back_release_keeps_fields_that_it_does_not_know(
    newer_run: str, editor: Caller, path: str, method: str
) -> None:
    changed = getattr(editor, method)(f"{path}/{newer_run}", RUN | {"model": "pine", "note": "kept"})
    assert changed.status_code == 200, changed.content
    document = stored(newer_run)
    assert (document["reviewer"], document["comment"], document["schema_version"]) == ("ada", "seen", "1.2.0")
    assert (document["note"], document["series"]) == ("kept", {"model": "pine"})


def test_a_rolled_back_release_upgrades_no_newer_run(newer_run: str, editor: Caller, path: str) -> None:
    before = stored(newer_run)
    assert editor.post(path, RUN).json()["schema_version"] == "1.1.0"
    upgrade_runs(never)
    assert stored(newer_run) == before
    assert Place.stored().changed == 0


def test_a_rolled_back_release_applies_changed_rules_to_newer_runs(newer_run: str, manager: Caller, path: str) -> None:
    manager.patch(path.removesuffix("/drift"), {"field_map": {"sample_size": "parameters.rows"}})
    recompute_runs(never)
    assert stored(newer_run)["sample_size"] == 7
    assert stored(newer_run)["reviewer"] == "ada"


@pytest.mark.parametrize("method", ["patch", "put"])
def test_a_rolled_back_release_keeps_mapped_values_of_fields_that_it_does_not_know(
    newer_run: str, experiment: Experiment, editor: Caller, path: str, method: str
) -> None:
    field_map = {"reviewer": "parameters.name", "sample_size": "parameters.rows"}
    Experiment.objects.filter(pk=experiment.pk).update(field_map=field_map, rules_version=1)
    change(newer_run, {"derived": ["reviewer", "observed_at"]})
    sent = RUN | {"parameters": {"rows": 9, "name": "bob"}}
    assert getattr(editor, method)(f"{path}/{newer_run}", sent).json()["sample_size"] == 9
    assert stored(newer_run)["reviewer"] == "ada"
    assert set(stored(newer_run)["derived"]) == {"reviewer", "observed_at", "sample_size"}
    assert editor.post(path, sent).json()["sample_size"] == 9


def test_a_rolled_back_release_deletes_newer_runs(newer_run: str, editor: Caller, path: str) -> None:
    assert editor.delete(f"{path}/{newer_run}").status_code == 204
    assert found(editor, path, {}) == ["1.0.0", "1.1.0"]


@pytest.mark.parametrize("format_", ["json", "csv"])
def test_a_rolled_back_release_exports_newer_runs(newer_run: str, experiment: Experiment, format_: str) -> None:
    as_file = {"json": exports.as_json, "csv": exports.as_csv}[format_]
    content = b"".join(as_file(Drift.objects.of(experiment)).streaming_content).decode()  # type: ignore[arg-type]
    assert content.count("1.2.0") >= 3
