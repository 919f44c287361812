"""A process refuses requests when nearly all its threads are at work; health checks have threads of their own."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from pytest_django import Settings

from core.capacity import CapacityMiddleware
from driftwatch.operations import OperationsMiddleware


@pytest.fixture
def limited(settings: Settings) -> Iterator[CapacityMiddleware]:
    """A process with two threads besides the reserved ones, both at work on requests for /slow."""
    settings.THREADS = 6

    def respond(request: HttpRequest) -> HttpResponse:
        return HttpResponse() if request.path != "/slow" else StreamingHttpResponse(["slow"])  # type: ignore[return-value]

    middleware = CapacityMiddleware(respond)
    with ExitStack() as ending:
        for _ in range(2):
            ending.callback(middleware(request("/slow")).close)
        yield middleware


def request(path: str, **headers: str) -> HttpRequest:
    return RequestFactory().get(path, headers=headers)


def test_one_request_more_is_refused_at_once(limited: CapacityMiddleware) -> None:
    refused = limited(request("/api/v1/user/self"))
    assert (refused.status_code, refused["Retry-After"]) == (503, "1")
    assert b"The service is busy. Try again in a second." in refused.content
    assert refused["Content-Type"] == "application/json"
    page = limited(request("/experiments", Accept="text/html"))
    assert (page.status_code, page["Content-Type"]) == (503, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_checks_are_answered(limited: CapacityMiddleware, path: str) -> None:
    assert OperationsMiddleware(limited)(request(path)).status_code == 200


def test_a_closed_response_frees_its_thread(limited: CapacityMiddleware) -> None:
    assert limited(request("/")).status_code == 503
    limited.free.release()
    for _ in range(3):
        response = limited(request("/"))
        assert response.status_code == 200
        response.close()
    assert limited.free.acquire(blocking=False)
