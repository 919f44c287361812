"""Hostile filters are refused within the time limit, while other requests are served."""

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from pymongo import MongoClient
from requests import Response

from tests.live import LiveServer

DATABASE = "hostile"
TIME_LIMIT = 0.5
# Far more than the time limit, and far less than these filters would take without it.
PATIENCE = 15.0
IDLE_SECONDS = 5.0
RUNS = 2_000
AS = "a" * 255


class Service:
    """A service with runs whose texts make some patterns slow, and a user who may read them."""

    def __init__(self, server: LiveServer) -> None:
        self.api = server.api
        self.headers = {"Authorization": f"Bearer {server.manage('token', 'mallory@example.org')}"}
        self.experiment = self.created("/experiment", {"name": "of many letters"})["id"]
        self.runs = f"/experiment/{self.experiment}/drift"
        plain = {"job_status": "Running", "model": AS, "parameters": {"text": AS * 3, "te.xt": AS * 3}}
        self.created(f"{self.runs}/bulk", [plain] * RUNS)
        self.run = self.created(self.runs, {**plain, "parameters": {"text": "a" * 1_900_000}})["id"]
        self.dotted = self.created(self.runs, {**plain, "parameters": {"te.xt": "a" * 1_900_000}})["id"]
        self.created(self.runs, {**plain, "parameters": {"list": [*range(200_000)]}})

    def post(self, path: str, body: Any) -> Response:
        data = body if isinstance(body, bytes) else json.dumps(body)
        headers = {**self.headers, "Content-Type": "application/json"}
        return requests.post(self.api + path, data=data, headers=headers, timeout=PATIENCE)

    def created(self, path: str, body: Any) -> Any:
        response = self.post(path, body)
        assert response.status_code == 201, response.text
        return response.json()

    def search(self, document: Any) -> Response:
        return self.post(f"{self.runs}/search", document)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    server = LiveServer(MONGODB_NAME=DATABASE, OIDC_USER_ENTITLEMENTS="[]", SEARCH_TIME_LIMIT=str(TIME_LIMIT))
    server.start()
    yield Service(server)
    server.stop()


@contextmanager
def bystander(service: Service) -> Iterator[list[int]]:
    """Read a run again and again within the block, and collect the statuses of the responses."""
    statuses: list[int] = []
    is_over = threading.Event()

    def read() -> None:
        with requests.Session() as session:
            while not is_over.is_set():
                path = f"{service.api}{service.runs}/{service.run}"
                statuses.append(session.get(path, headers=service.headers, timeout=PATIENCE).status_code)

    reader = threading.Thread(target=read)
    reader.start()
    yield statuses
    is_over.set()
    reader.join()


def operations() -> list[Any]:
    """The operations that MongoDB executes in the service's database."""
    with MongoClient[dict[str, Any]](os.environ["MONGODB_URI"]) as client:
        mine = {"ns": {"$regex": f"^{DATABASE}\\."}, "command.getMore": {"$exists": False}}
        return list(client.admin.aggregate([{"$currentOp": {}}, {"$match": mine}]))


def assert_idle() -> None:
    """Require that MongoDB stops soon: it checks the time a moment after the service, between two documents."""
    deadline = time.monotonic() + IDLE_SECONDS
    while doing := operations():
        assert time.monotonic() < deadline, doing
        time.sleep(0.05)


# Patterns that need milliseconds to fail on one text. Many runs have such a text.
SLOW = [
    "(a+)+[bc]",
    "(?:(?=.*[bc])a|a)*[bc]",
    "((((a+)+)+)+)+[bc]",
    "(?:(?!a*+[bc])(?!a*+[bc])a)*[bc]",
]


def test_catastrophic_patterns_end_at_the_time_limit_while_others_are_served(service: Service) -> None:
    filters: list[Any] = [{path: {"$regex": pattern}} for path in ("model", "parameters.text") for pattern in SLOW]
    filters.append({"$or": [{"model": {"$regex": pattern}} for pattern in SLOW]})
    with bystander(service) as statuses, ThreadPoolExecutor(4) as threads:
        responses = list(threads.map(service.search, filters))
    assert [response.status_code for response in responses] == [422] * len(filters), [
        response.text for response in responses
    ]
    assert all(f"longer than {TIME_LIMIT} s" in response.json()["message"] for response in responses)
    assert set(statuses) == {200}
    assert_idle()


@pytest.mark.parametrize("pattern", ["a++[bc]", r"(?=(a*))\1[bc]", "(?>a*)[bc]", "(?:(?!.*[bc])a)*+[bc]"])
def test_a_pattern_is_not_matched_against_a_text_that_would_block_mongodb_for_minutes(
    service: Service, pattern: str
) -> None:
    for run, path in ((service.run, "parameters.text"), (service.dotted, r"parameters.te\.xt")):
        response = service.search({"id": run, path: {"$regex": pattern}})
        assert (response.status_code, response.json()) == (200, [])
    assert_idle()


@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_that_mongodb_gives_up_on_a_name_with_a_dot_is_refused(service: Service, pattern: str) -> None:
    response = service.search({r"parameters.te\.xt": {"$regex": pattern}})
    assert response.status_code == 422, response.text
    assert_idle()


# Filters that are refused before MongoDB gets them.

OPERATORS = ["$where", "$expr", "$function", "$jsonSchema"]
SPELLINGS = [
    *(
        "{0}",
        " {0}",
        "{0} ",
        "\t{0}",
        "\u200b{0}",
        "\ufeff{0}",
        "{0}\u200d",
        "{0}.a",
        "${0}",
        "\\{0}",
        "\0{0}",
        "{0}\0",
    ),
    *("$and.{0}", "model\0{0}", "model.{0}", "parameters.{0}", "parameters.a.{0}", "parameters.a\0.{0}", "_id.{0}"),
]
LOOK_ALIKES = [
    *(
        "$Where",
        "$WHERE",
        "$ where",
        "$wh\u0435re",
        "\uff04where",
        "\ufe69where",
        "$where\u0301",
        "%24where",
        "&#36;where",
    ),
    *("\u202e$where", "$\0where", "where", "$$where", "$where[]", "parameters[$where]", "__proto__", "$_internalExpr"),
]
PLACES = [
    '{{{0}: "sleep(1000) || true"}}',
    '{{"model": "forest", {0}: {{"body": "while (true) {{}}", "args": [], "lang": "js"}}}}',
    '{{"$and": [{{"$or": [{{"$nor": [{{{0}: "sleep(1000)"}}]}}]}}]}}',
    '{{"model": {{{0}: "sleep(1000)"}}}}',
    '{{"model": {{"$not": {{{0}: "sleep(1000)"}}}}}}',
    '{{"tags": {{"$elemMatch": {{{0}: "sleep(1000)"}}}}}}',
]


def test_code_is_refused_in_every_spelling_and_at_every_place(service: Service) -> None:
    names = [*(spelling.format(operator) for operator in OPERATORS for spelling in SPELLINGS), *LOOK_ALIKES]
    documents = [place.format(json.dumps(name)) for name in names for place in PLACES]
    with bystander(service) as statuses:
        responses = {document: service.search(document.encode()).status_code for document in documents}
    assert {document: code for document, code in responses.items() if code != 422} == {}
    assert set(statuses) == {200}


def nested(levels: int) -> bytes:
    return b'{"$or": [' * levels + b'{"model": "forest"}' + b"]}" * levels


TOO_MUCH = {
    "10,000 values": b'{"model": {"$in": %s}}' % json.dumps(["forest"] * 10_000).encode(),
    "10,000 values that none is to be": b'{"parameters.text": {"$nin": %s}}' % json.dumps([*range(10_000)]).encode(),
    "1,000 searches through one list": b'{"parameters.list": {"$all": %s}}' % json.dumps([*range(1_000)]).encode(),
    "10,000 clauses": b'{"$or": %s}' % json.dumps([{"model": "forest"}] * 10_000).encode(),
    "1,000 patterns": b'{"$or": %s}' % json.dumps([{"model": {"$regex": "(a+)+[bc]"}}] * 1_000).encode(),
    "a deep $or": nested(100),
    "a deeper $or": nested(100_000),
    "a deep $not": b'{"parameters.a": %s{"$gt": 1}%s}' % (b'{"$not": ' * 50_000, b"}" * 50_000),
    "a deep value": b'{"parameters.a": %s%s}' % (b"[" * 100_000, b"]" * 100_000),
    "a long pattern": b'{"model": {"$regex": "%s"}}' % (b"(a+)+" * 10_000),
    "a pattern that MongoDB would not compile": b'{"model": {"$regex": "(a{1,65535}){1,65535}"}}',
    "more than a body holds": b'{"model": {"$in": %s}}' % json.dumps(["forest" * 100] * 10_000).encode(),
}


@pytest.mark.parametrize("document", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_an_oversized_filter_is_refused(service: Service, document: bytes) -> None:
    with bystander(service) as statuses:
        response = service.search(document)
    assert response.status_code in (400, 413, 422), response.text
    assert response.json()["code"] == response.status_code
    assert set(statuses) <= {200}


CURSORS = [b'{"$gt": ""}', b'["$where", {"$gt": ""}]', b'[{"$gt": 0}, {"$ne": 0}]', b"$where"]


@pytest.mark.parametrize("path", ["/experiment/search", "/drift/search", "{runs}/search"])
def test_operators_in_the_query_are_refused(service: Service, path: str) -> None:
    queries = [
        "sort_by=$where",
        "sort_by=parameters.$where",
        'order_by={"$gt":1}',
        'page={"$gt":1}',
        "page_size=$where",
    ]
    queries += [f"cursor={cursor.decode()}" for cursor in CURSORS]
    queries += [f"cursor={base64.urlsafe_b64encode(cursor).decode()}" for cursor in CURSORS]
    responses = {query: service.post(f"{path.format(runs=service.runs)}?{query}", {}).status_code for query in queries}
    assert responses == dict.fromkeys(queries, 422)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/experiment/search", "{0}"),
        ("/drift/search", "{0}"),
        ("/drift/stats", '{{"filter": {0}}}'),
        ("/drift/stats", '{{"group_by": {0}}}'),
        ("{runs}/stats", '{{"filter": {0}}}'),
        ("{runs}/stats", '{{"measures": [{0}]}}'),
        ("{runs}/stats", '{{"time_zone": {0}}}'),
    ],
)
def test_every_other_endpoint_with_a_filter_refuses_code(service: Service, path: str, template: str) -> None:
    for code in (
        '{"$where": "sleep(1000)"}',
        '{"$expr": {"$function": {"body": "sleep(1000)", "args": [], "lang": "js"}}}',
    ):
        response = service.post(path.format(runs=service.runs), template.format(code).encode())
        assert response.status_code == 422, response.text
