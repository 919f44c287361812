"""The documents of all collections of the test's database: which have any, and as they were before a request."""

from collections.abc import Iterator
from typing import Any

from accounts.authentication import recent_identities
from core.mongodb.documents import mongodb
from core.totals import clear_totals


def filled_of(collections: list[str]) -> list[str]:
    """Return the names of the collections that have documents: one query is faster than a deletion from each."""
    named: dict[str, list[dict[str, Any]]] = {
        name: [{"$limit": 1}, {"$project": {"_id": {"$literal": name}}}] for name in collections
    }
    return [found["_id"] for found in of_all(named)]


def of_all(pipelines: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Return what the pipelines of some collections give, in one query."""
    first, *others = pipelines
    unions = [{"$unionWith": {"coll": name, "pipeline": pipelines[name]}} for name in others]
    return mongodb().database[first].aggregate([*pipelines[first], *unions])


class Documents:
    """All documents of the test's database, as they were when this was made."""

    def __init__(self, collections: list[str]) -> None:
        self.collections = collections
        self.before = self.read()

    def read(self) -> dict[str, list[dict[str, Any]]]:
        pipelines = {
            name: [{"$replaceWith": {"collection": {"$literal": name}, "document": "$$ROOT"}}]
            for name in self.collections
        }
        documents: dict[str, list[dict[str, Any]]] = {name: [] for name in self.collections}
        for found in of_all(pipelines):
            documents[found["collection"]].append(found["document"])
        return documents

    def put_back(self) -> None:
        """Undo what a request changed, also in the caches of this process."""
        for name, documents in self.read().items():
            if documents != self.before[name]:
                mongodb().database[name].delete_many({})
                if self.before[name]:
                    mongodb().database[name].insert_many(self.before[name])
        recent_identities.clear()
        clear_totals()
