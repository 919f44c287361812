"""Visits without a login, which leave nothing in the database."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from pytest_django import Settings

from accounts.provider import provider as configured_provider
from core.models import RequestCount
from core.mongodb.documents import mongodb
from drifts.models import Drift
from experiments.models import Experiment
from tests.relying_party import CLIENT_ID, CLIENT_SECRET, LoginProvider


def addresses(patterns: Iterable[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    """The paths of all views, with their parameters."""
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield path
        else:
            yield from addresses(pattern.url_patterns, path)


def stored_documents() -> Counter[str]:
    database = mongodb().database
    counted = RequestCount._meta.db_table
    return Counter(
        {name: database[name].count_documents({}) for name in database.list_collection_names() if name != counted}
    )


@pytest.fixture
def openid(settings: Settings) -> Iterator[LoginProvider]:
    """The provider of the browser login, to which `/login/provider` leads."""
    server = LoginProvider()
    settings.OIDC_RP_ISSUER, settings.OIDC_RP_CLIENT_ID = server.issuer, CLIENT_ID
    settings.OIDC_RP_CLIENT_SECRET = CLIENT_SECRET
    configured_provider.cache_clear()
    yield server
    configured_provider.cache_clear()
    server.stop()


@pytest.mark.usefixtures("openid")
def test_a_visit_of_any_address_stores_no_document(drift: Drift) -> None:
    Experiment.objects.update(public=True)
    before = stored_documents()
    visitor = Client(raise_request_exception=False)
    statuses = Counter[int]()
    for address in addresses(get_resolver().url_patterns):
        path = address.replace("<str:experiment_id>", str(drift.experiment_id)).replace("<str:drift_id>", str(drift.pk))
        for headers in ({"Accept": "text/html"}, {"Accept": "text/html", "Cookie": "sessionid=forged"}):
            response = visitor.get(path, headers=headers)
            assert "sessionid" not in {name for name, cookie in response.cookies.items() if cookie.value}, path
            statuses[response.status_code] += 1
    assert stored_documents() == before
    assert statuses[200] >= 20
    assert statuses[500] == 0
