"""Instances made from documents equal those that Django's queries return; large documents are decoded in turn."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import bson
import pytest

from accounts.models import ServiceToken, User
from core.mongodb import documents
from core.mongodb.documents import collection_of, instances_of
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller


def values_of(instance: Any) -> dict[str, Any]:
    names = [field.attname for field in instance._meta.concrete_fields]
    values = {name: getattr(instance, name) for name in names}
    if "permissions" in values:
        values["permissions"] = [(entry.entity, entry.level) for entry in instance.permissions]
    return values


PARAMETERS: list[Any] = [
    {},
    {"a": {"b": [1, 2.5, None, True, {"c": "d"}]}},
    {"$ref": "drifts", "$id": "1"},
    {"nested": [{"$ref": "drifts", "$id": {"$ref": "x", "$id": 2}, "$db": "other", "more": 1}]},
    {"big": 2**63 - 1, "small": -(2**63)},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_a_document_becomes_the_same_instance_as_from_a_queryset(drift: Drift, reader: Caller, parameters: Any) -> None:
    Drift.objects.filter(pk=drift.pk).update(parameters=parameters)
    reader.post("/token", {"name": "pipeline"})
    for model in (Drift, Experiment, User, ServiceToken):
        straight = list(instances_of(model, collection_of(model).find().sort("_id")))
        through_django = list(model._default_manager.order_by("pk"))
        assert straight
        assert straight == through_django
        assert list(map(values_of, straight)) == list(map(values_of, through_django))
        assert not any(instance._state.adding for instance in straight)
    assert Drift.objects.by_id(drift.id).parameters == parameters  # type: ignore[union-attr]


READS: dict[str, Callable[[Drift], Any]] = {
    "a page": lambda run: documents.aggregate_within(Drift, [], 10_000_000),
    "a run": lambda run: Drift.objects.one_of(run.experiment, run.pk),
    "a run with its experiment": lambda run: Drift.objects.with_experiment(run.experiment.pk, run.pk),
    "a run by its id": lambda run: Drift.objects.by_id(run.pk),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_threads_take_turns_to_decode_large_documents(
    experiment: Experiment, read: Callable[[Drift], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"a": "x" * 1_100_000}
    run = Drift.objects.create(experiment=experiment, model="tree", job_status="Failed", parameters=parameters)
    alone = threading.Lock()
    sizes = []

    def decode(content: bytes) -> Any:
        assert alone.acquire(blocking=False), "another thread decodes"
        sizes.append(len(content))
        time.sleep(0.05)
        alone.release()
        return bson.decode_all(content)

    monkeypatch.setattr(documents, "bson", SimpleNamespace(decode_all=decode))
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(read, [run] * 3))
    assert len(sizes) == 3
    assert min(sizes) > 1_000_000
