"""Instances made from documents equal those that Django's queries return."""

from typing import Any

import pytest

from accounts.models import ServiceToken, User
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
