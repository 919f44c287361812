"""The OpenAPI document, for clients."""

import threading
from functools import cache

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.request import Request

from core.api.conditional import tagged
from core.api.responses import json_of

LOCK = threading.Lock()


class DocumentView(SpectacularJSONAPIView):
    """Serves the document, which is the same for all, with an `ETag`."""

    # The document does not list itself.
    schema = None

    @tagged
    def get(self, request: Request) -> HttpResponse:
        # A client's own cache stores it, and asks for changes each time.
        headers = {
            "Content-Disposition": 'inline; filename="Drift Watch.json"',
            "Cache-Control": "private, no-cache",
        }
        return HttpResponse(document(), "application/vnd.oai.openapi+json", headers=headers)


def document() -> bytes:
    """Return the document, made once in each process: it takes 0.3 s, and drf-spectacular is not thread-safe."""
    with LOCK:
        return made_document()


@cache
def made_document() -> bytes:
    return json_of(SchemaGenerator().get_schema(public=True))  # type: ignore[no-untyped-call]
