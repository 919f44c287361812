"""A service with a document in every collection that an export takes along, and its documents as they are stored."""

import datetime
from typing import Any

from bson import Binary, Decimal128, Int64
from uuid_utils.compat import uuid7

from accounts.models import ServiceToken, User
from core.mongodb.documents import RAW, collection_of, mongodb
from drifts.models import Drift
from experiments.models import Experiment
from tests.conftest import RUN
from transfer.collections import EXPORTED

Document = dict[str, Any]
Stored = dict[str, dict[Any, bytes]]
PASSWORD = "correct horse battery"
YESTERDAY = datetime.datetime(2026, 11, 28, 7, 30)
CHUNK = 1_000
# Values that JSON has no word for, objects that Extended JSON takes for values, and names that paths cannot have.
ODD: Document = {
    "infinite": [float("nan"), float("inf"), -0.0, 1e-320],
    "integers": [1, Int64(1), 2**53 + 1, -(2**63)],
    "types": [Decimal128("1.10"), datetime.datetime(1, 1, 1), Binary(b"\x00\xff", 4), None, True, b"bytes"],
    "like values": [{"$date": "today"}, {"$numberInt": "1"}, {"$oid": 5}, {"$ref": "a", "$id": 1}],
    "reference": {"$id": 1, "$ref": "runs", "other": {"$binary": {"base64": "AA==", "subType": "00"}}},
    "a.b": {"$amount": {"..": 1, "": 2}},
    "text": 'Zürich\u2028 \U0001f600 \x01 \\ " $',
}


def fill(experiment: Experiment) -> None:
    """Add a document to every other collection, to a service with this experiment and one run."""
    manager = User.objects.get(subject="manager")
    User.objects.create_superuser("root", "root@example.org", PASSWORD)
    ServiceToken.objects.issue(manager, "nightly", datetime.timedelta(days=1), experiments=[str(experiment.pk)])
    insert_file(experiment, Drift.objects.of(experiment)[0], b"a picture " * 250, created_by=manager.pk.hex)
    deleted = Experiment.objects.create(name="barley", permissions=experiment.permissions)
    # Values that no client can send. No model can read them.
    insert_run(deleted, parameters=ODD)
    deleted.delete_by(None)


def insert_run(experiment: Experiment, **values: Any) -> str:
    """Store a run as it is, also one that no client can send. Return its id."""
    document = Drift(experiment=experiment, **RUN).new_document() | values
    collection_of(Drift).insert_one(document)
    return str(document["_id"])


def insert_file(experiment: Experiment, run: Drift, content: bytes, **values: Any) -> str:
    """Store a file on a run, with its content in GridFS. Return its id."""
    # The id of an upload begins with its time.
    pk, database = f"{round(YESTERDAY.timestamp() * 1000):012x}{uuid7().hex[12:]}", mongodb().database
    known = {"_id": pk, "experiment_id": experiment.pk.hex, "drift_id": run.pk.hex, "name": f"{pk}.png"}
    facts = {"content_type": "image/png", "size": Int64(len(content)), "sha256": pk * 2, "created_at": YESTERDAY}
    database["files_runfile"].insert_one({**known, **facts, "created_by": None, **values})
    file = {"_id": pk, "length": Int64(len(content)), "chunkSize": CHUNK, "uploadDate": YESTERDAY}
    database["run_files.files"].insert_one(file)
    chunks = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
    database["run_files.chunks"].insert_many([{"files_id": pk, "n": n, "data": data} for n, data in enumerate(chunks)])
    return pk


def stored() -> Stored:
    """The bytes of all documents that an export takes along, by collection and id."""
    return {name: {document["_id"]: document.raw for document in raw(name).find()} for name in EXPORTED}


def raw(name: str) -> Any:
    return mongodb().database.get_collection(name, RAW)


def wipe() -> None:
    for name in EXPORTED:
        mongodb().database[name].delete_many({})
