"""Texts that a response or the database cannot hold, or that are very long, in every name and value of a request.

The refusals quote them, and reach the client all the same.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.test import Client as AnyClient
from pytest_django import Settings

from core.api.errors import MAX_MESSAGE
from drifts.models import Drift
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.conftest import RUN
from tests.session import through_session, version_shown

TEXTS = {
    "a lone surrogate": "\ud800",
    "NUL": "\0",
    "5,000 characters": "x" * 5_000,
    "a long name with a lone surrogate": "\ud800" + "x" * 1_001,
}
HTML = {"Accept": "text/html"}
NDJSON = "application/x-ndjson"


def documents_with(text: str) -> Iterator[str]:
    """JSON objects with the text as a name, as a name that stands twice, and deeper."""
    name = json.dumps(text)
    yield f"{{{name}: 1}}"
    yield f"{{{name}: 1, {name}: 2}}"
    yield f'{{"config": {{"a": [{{{name}: 1, {name}: 2}}]}}, "parameters": {{"a": {{{name}: {{"b": NaN}}}}}}}}'
    yield f'{{"name": {{"${name[1:-1]}": 1}}}}'
    yield f'{{"name": {{{name}: {name}, {name}: {name}}}}}'


def assert_refused(response: Any, request: str) -> None:
    """Require a refusal in the shape of the API, in UTF-8 and of bounded length."""
    assert response.status_code in (400, 422), (request[:200], response.content[:300])
    json.dumps(response.json(), ensure_ascii=False).encode()
    assert len(response.json()["message"]) < 2 * MAX_MESSAGE


def assert_shown(response: Any, request: str) -> None:
    """Require a page or a file in UTF-8, and no failure."""
    assert response.status_code < 500, (request[:200], response.content[:300])
    response.getvalue().decode()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_api_refuses_a_hostile_name(
    text: str, experiment: Experiment, drift: Drift, manager: Caller, admin: Caller, anonymous: Caller
) -> None:
    path = f"/experiment/{experiment.pk}"
    for document in documents_with(text):
        assert_refused(anonymous.post("/experiment/search", document), document)
        assert_refused(admin.post("/user/search", document), document)
        for method, address in (
            ("POST", "/experiment"),
            ("PATCH", path),
            ("POST", f"{path}/drift"),
            ("PATCH", f"{path}/drift/{drift.pk}"),
            ("POST", f"{path}/drift/search"),
            ("POST", "/drift/search"),
            ("POST", f"{path}/drift/stats"),
            ("POST", "/token"),
            ("POST", "/token/refresh"),
        ):
            assert_refused(manager.request(method, address, document), f"{method} {address} {document}")
        bulk = f"{path}/drift/bulk"
        good = json.dumps(RUN)
        assert_refused(manager.post(bulk, f"[{good}, {document}]"), document)
        assert_refused(manager.post(bulk, f"{good}\n{document}", content_type=NDJSON), document)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_api_refuses_a_hostile_value(text: str, experiment: Experiment, drift: Drift, manager: Caller) -> None:
    path = f"/experiment/{experiment.pk}"
    for name in ("name", "tags", "public", "permissions", text):
        assert_refused(manager.post("/experiment", {"name": "beer", name: text}), name)
    for name in ("model", "tags", "job_status", "drift", text):
        assert_refused(manager.post(f"{path}/drift", RUN | {name: text}), name)
    for query in ("page", "sort_by", "order_by", "cursor", "page_size"):
        assert_refused(manager.post(f"/drift/search?{query}={quote(text, errors='surrogatepass')}", {}), query)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_pages_show_a_hostile_address(
    text: str, public: Experiment, drift: Drift, undefined_variables: list[str]
) -> None:
    browser, path, quoted = AnyClient(), f"/experiments/{public.pk}", json.dumps(text)
    filters = (
        {"where": f"{json.dumps('parameters.' + text)} exists"},
        {"where": f"{quoted} eq 1"},
        {"where": f"parameters.p eq {quoted}"},
        {"where": f"model contains {quoted}"},
        *({"filter": document} for document in documents_with(text)),
        *(
            {name: text}
            for name in ("where", "filter", "column", "selected", "model", "since", "status", "sort", "page", "x", "y")
        ),
        {"path": text, "op": "eq", "value": text},
        {"path": "parameters.p", "op": text, "value": text},
    )
    for query in filters:
        encoded = urlencode(query, errors="surrogatepass")
        for address in (path, f"{path}/chart", f"{path}/timeline"):
            assert_shown(browser.get(f"{address}?{encoded}", headers=HTML), encoded)
        assert_shown(browser.get(f"{path}?format=csv&{encoded}", headers=HTML), encoded)
    for name in ("name", "tag", "tags", "search", "q", "sort", "page"):
        encoded = urlencode({name: text}, errors="surrogatepass")
        assert_shown(browser.get(f"/experiments?{encoded}", headers=HTML), encoded)
    segment = quote(text, errors="surrogatepass")
    for address in (f"/experiments/{segment}", f"{path}/runs/{segment}", f"/api/v1/experiment/{segment}"):
        assert_shown(browser.get(address, headers=HTML), address)


@pytest.fixture
def portal(admin: Caller, settings: Settings) -> Client:
    return through_session(admin, settings).client


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_forms_refuse_hostile_json(text: str, experiment: Experiment, manager: Caller, portal: Client) -> None:
    path = f"/admin/experiments/experiment/{experiment.pk}/change/"
    form = {"name": "beer", "permissions-TOTAL_FORMS": "0", "permissions-INITIAL_FORMS": "0"}
    run = {"experiment": str(experiment.pk), "job_status": "Running", "model": "forest", "tags": ""}
    name = json.dumps(text)
    for document in (f'{{"a": {{{name}: 1, {name}: 2}}}}', f"{{{name}: 1}}"):
        version = version_shown(portal, path)
        for address, sent in (
            ("/experiments/new", {"name": "beer", "config": document}),
            (path, {**form, **version, "config": document}),
            ("/admin/drifts/drift/add/", {**run, "parameters": document}),
        ):
            response = portal.post(address, sent, headers=HTML)
            assert response.status_code in (200, 422)
            assert_shown(response, address)
    assert not Experiment.objects.filter(name="beer").exists()
    assert not Drift.objects.exists()


def test_a_refused_path_of_a_filter_says_why_and_is_written_back(public: Experiment) -> None:
    for text, sentence in ((r'"parameters.\ud800" exists', "a lone surrogate"), (r'"model\u0000" eq 1', "NUL")):
        response = AnyClient().get(f"/experiments/{public.pk}", {"where": text}, headers=HTML)
        [condition] = response.context["filter"].conditions
        assert condition.text == text
        assert sentence in condition.error
