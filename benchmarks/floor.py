"""The floor: plain PyMongo queries with the same results.

They use the service's own collections and indexes.
"""

import datetime
from collections.abc import Callable
from itertools import cycle
from random import Random
from typing import Any, TypeAlias
from uuid import UUID

from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks import documents
from benchmarks.connection import Void
from benchmarks.subject import PAGE, Subject

# The name of the database that the benchmark starts.
DATABASE = "benchmark"
BULK = 500
# Documents are made in advance, so that making them is not measured.
PREPARED = 100
PREPARED_BULKS = 4
NEWEST_FIRST = [("created_at", -1), ("_id", -1)]

Documents: TypeAlias = Database[dict[str, Any]]
Call: TypeAlias = Callable[[], object]
Floor: TypeAlias = Callable[[Documents, Subject, Random], Call]


def find_one(database: Documents, subject: Subject, chance: Random) -> Call:
    runs = drift_runs(database)
    return lambda: runs.find_one({"_id": stored(chance.choice(subject.runs))})


def insert_one(database: Documents, subject: Subject, chance: Random) -> Call:
    runs, prepared = drift_runs(database), cycle(new_documents(PREPARED, chance))
    return lambda: runs.insert_one(dict(next(prepared)))


def insert_many(database: Documents, subject: Subject, chance: Random) -> Call:
    runs = drift_runs(database)
    prepared = cycle([new_documents(BULK, chance) for _ in range(PREPARED_BULKS)])
    return lambda: runs.insert_many([dict(document) for document in next(prepared)])


def find_ten(database: Documents, subject: Subject, chance: Random) -> Call:
    return lambda: ten(drift_runs(database), within(subject))


def find_ten_far_down(database: Documents, subject: Subject, chance: Random) -> Call:
    return lambda: ten(drift_runs(database), within(subject), skip=(subject.deep_page - 1) * PAGE)


def find_ten_of_a_model(database: Documents, subject: Subject, chance: Random) -> Call:
    models = cycle(documents.MODELS)
    return lambda: ten(drift_runs(database), {**within(subject), "model": next(models), "drift_detected": True})


def find_ten_of_a_parameter(database: Documents, subject: Subject, chance: Random) -> Call:
    return lambda: ten(drift_runs(database), {**within(subject), "parameters.p3": {"$gt": 0.9}})


def find_ten_experiments(database: Documents, subject: Subject, chance: Random) -> Call:
    visible = {"$or": [{"public": True}, {"permissions.entity": subject.user}]}
    return lambda: ten(database["experiments_experiment"], visible)


def count_by_model_and_day(database: Documents, subject: Subject, chance: Random) -> Call:
    day = {"$dateTrunc": {"date": "$created_at", "unit": "day"}}
    is_known = {"$eq": ["$job_status", "Completed"]}
    found = {"$cond": [{"$and": [is_known, "$drift_detected"]}, 1, 0]}
    known = {"$cond": [is_known, 1, 0]}
    counts = {"count": {"$sum": 1}, "drift": {"$sum": found}, "known": {"$sum": known}}
    pipeline = [
        {"$match": {**within(subject), "created_at": {"$gte": a_month_ago()}}},
        {"$group": {"_id": {"day": day, "model": "$model"}, **counts}},
        {"$sort": {"_id.day": 1, "count": -1}},
    ]
    return lambda: list(drift_runs(database).aggregate(pipeline))


def a_month_ago() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)


def ten(collection: Collection[dict[str, Any]], document: dict[str, Any], skip: int = 0) -> None:
    found = len(list(collection.find(document).sort(NEWEST_FIRST).skip(skip).limit(PAGE)))
    if found != PAGE:
        raise Void(f"The floor found {found} documents instead of {PAGE}.")


def within(subject: Subject) -> dict[str, Any]:
    return {"experiment_id": stored(subject.experiment)}


def new_documents(count: int, chance: Random) -> list[dict[str, Any]]:
    """Runs as the service stores them, in an experiment that no operation reads. The driver adds their ids."""
    now = datetime.datetime.now(datetime.UTC)
    more = {
        "experiment_id": stored(str(UUID(int=0))),
        "schema_version": "1.1.0",
        "created_at": now,
        "updated_at": now,
        "observed_at": now,
        "derived": ["observed_at"],
    }
    series = ("detector", "environment", "model")
    runs = (documents.run(chance) for _ in range(count))
    return [{**run, **more, "series": {name: run[name] for name in series}} for run in runs]


def drift_runs(database: Documents) -> Collection[dict[str, Any]]:
    return database["drifts_drift"]


def stored(identifier: str) -> str:
    """An id in its stored form."""
    return UUID(identifier).hex
