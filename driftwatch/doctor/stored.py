"""The contents of the database: migrations, collections with their indexes, and the state of the background tasks."""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.db.migrations.executor import MigrationExecutor
from django_mongodb_backend.models import EmbeddedModel
from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from core.models import BackgroundTask
from core.mongodb.documents import Document, collection_of, mongodb
from core.mongodb.schema import declared_indexes
from driftwatch.doctor.finding import Finding, State, size
from driftwatch.tasks import TASKS
from files import contents
from transfer.collections import BY_NAME

# MongoDB's error code for a collection that does not exist.
NAMESPACE_NOT_FOUND = 26


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(mongodb())
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan[:3])
        text = f"{len(plan)} are not applied: {names}{', …' if len(plan) > 3 else ''}"
        yield Finding("migrations", State.PROBLEM, text, "Run manage.py migrate.")
    later = sorted(set(executor.loader.applied_migrations) - set(executor.loader.disk_migrations))
    if later:
        names = ", ".join(f"{app}.{name}" for app, name in later)
        advice = "The database was used by a later release. Run that, or see docs/schema.md."
        yield Finding("migrations", State.WARNING, f"this release does not have {names}", advice)
    if not plan and not later:
        yield Finding("migrations", State.OK, f"all {len(executor.loader.applied_migrations)} are applied")


def collections() -> Iterator[Finding]:
    """Return each collection with its number of documents, and the indexes that are missing or not of this release."""
    for model in sorted(apps.get_models(include_auto_created=True), key=lambda model: model._meta.db_table):
        if model._meta.managed and not model._meta.proxy and not issubclass(model, EmbeddedModel):
            yield collection(collection_of(model), declared_indexes(mongodb(), model))
    for name, indexes in contents.INDEXES.items():
        yield collection(mongodb().database[name], indexes)


def collection(examined: Collection[Document], indexes: Sequence[IndexModel]) -> Finding:
    """Return the finding for a collection that should have these indexes, besides that of `_id`."""
    name = examined.name
    try:
        stored = examined.index_information()
    except OperationFailure as error:
        if error.code != NAMESPACE_NOT_FOUND:
            raise
        stored = {}
    if not stored:
        return Finding(name, State.PROBLEM, "the collection is missing", "Run manage.py migrate.")
    declared = [index.document for index in indexes]
    missing = [index for index in declared if not any(serves(found, index) for found in stored.values())]
    foreign = [
        found
        for found, options in stored.items()
        if found != "_id_" and not any(serves(options, index) for index in declared)
    ]
    text = f"{sizes(examined)}, indexes: {len(stored)}"
    if missing:
        text = f"{text}; missing: {', '.join(index['name'] for index in missing)}"
        advice = " ".join(creation(name, index) for index in missing)
        return Finding(name, State.PROBLEM, text, f"Create them in mongosh: {advice}")
    if foreign:
        advice = "Drop them unless somebody needs them: each write updates them."
        return Finding(name, State.WARNING, f"{text}; not of this release: {', '.join(foreign)}", advice)
    return Finding(name, State.OK, text)


def serves(stored: Mapping[str, Any], declared: Mapping[str, Any]) -> bool:
    """Return whether a stored index does what a declared one should. Their names may differ.

    The stored one may delete documents at their time: a migration adds that to Django's own index of sessions.
    """
    return (
        [*dict(stored["key"]).items()] == [*declared["key"].items()]
        and all(bool(stored.get(name)) == bool(declared.get(name)) for name in ("unique", "sparse"))
        and stored.get("partialFilterExpression") == declared.get("partialFilterExpression")
        and declared.get("expireAfterSeconds") in {None, stored.get("expireAfterSeconds")}
    )


def all_collections() -> Iterator[Finding]:
    """Return the findings of `collections`, and then those of collections that have no model."""
    declared = set()
    for finding in collections():
        declared.add(finding.name)
        yield finding
    # MongoDB keeps those of `system` itself.
    stored = {name for name in mongodb().database.list_collection_names() if not name.startswith("system.")}
    for name in sorted(stored - declared):
        text = sizes(mongodb().database[name])
        if name in BY_NAME:
            yield Finding(name, State.OK, text)
        else:
            advice = "Neither an export nor an erasure knows it. Drop it unless somebody needs it."
            yield Finding(name, State.WARNING, f"{text}; not of this release", advice)


def creation(collection: str, index: Mapping[str, Any]) -> str:
    """Return the command of MongoDB's shell that creates an index."""
    options = {name: value for name, value in index.items() if name != "key"}
    return f"db.{collection}.createIndex({json.dumps(index['key'])}, {json.dumps(options)});"


def sizes(examined: Collection[Document]) -> str:
    shards = [each["storageStats"] for each in examined.aggregate([{"$collStats": {"storageStats": {}}}])]
    number, room = (sum(shard[name] for shard in shards) for name in ("count", "size"))
    return f"{number:,} document{'' if number == 1 else 's'}, {size(room)}"


def background_tasks(hello: Document) -> Iterator[Finding]:
    """Return the state of each task by the database's clock."""
    now = hello["localTime"].replace(tzinfo=datetime.UTC)
    stored = {task.name: task for task in BackgroundTask.objects.all()}
    for task in TASKS:
        yield background_task(stored.get(task.name) or BackgroundTask(name=task.name), now)


def background_task(task: BackgroundTask, now: datetime.datetime) -> Finding:
    success = f"last success {ago(now - task.succeeded_at)}" if task.succeeded_at else "no success yet"
    duration = "" if task.duration is None else f", took {task.duration:,.2f} s"
    text = f"{success}{duration}, {task.failures} failures"
    if task.is_overdue(now):
        return Finding(task.name, State.PROBLEM, f"overdue; {text}", "Start manage.py work.")
    if task.failures_in_a_row:
        return Finding(
            task.name, State.PROBLEM, f"failing; {text}; last error: {task.error}", "See the log of manage.py work."
        )
    return Finding(task.name, State.OK, f"running; {text}" if task.is_running(now) else text)


def ago(time: datetime.timedelta) -> str:
    return f"{max(time, datetime.timedelta()) // datetime.timedelta(seconds=1):,} s ago"
