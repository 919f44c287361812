"""The API view that stores many drift runs in one request."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from core.api.bulk import JSONArrayParser, JSONLinesParser, NDJSONParser, validated
from core.api.idempotency import idempotent
from core.api.openapi import responds
from core.api.responses import JSONResponse
from core.identity import Level
from drifts.models import Drift
from drifts.serializers import DriftSerializer
from drifts.views import DriftResource

LINES = {"type": "string", "description": "The objects of the array, one on each line."}


class StoredSerializer(serializers.Serializer[Any]):
    """The stored runs."""

    ids = serializers.ListField(child=serializers.UUIDField(), help_text="The runs' ids, in the order sent.")
    count = serializers.IntegerField(help_text="The number of runs.")


class DriftBulkView(DriftResource):
    """Store many runs of an experiment, all or none."""

    resource = "drift"
    is_bulk = True
    required_levels = {"bulk": Level.EDIT}
    parser_classes = [JSONArrayParser, NDJSONParser, JSONLinesParser]
    serializer_class = DriftSerializer

    @extend_schema(
        request={
            JSONArrayParser.media_type: DriftSerializer(many=True),
            NDJSONParser.media_type: LINES,
            JSONLinesParser.media_type: LINES,
        }
    )
    @responds(201, serializer=StoredSerializer)
    @idempotent
    def bulk(self, request: Request, experiment_id: str) -> JSONResponse:
        """Report up to 10,000 runs at once. Either all of them are stored or none.

        Send a JSON array, or NDJSON with one run per line. If runs are not valid, their errors are listed by
        position, counted from 0. The runs after 100 invalid ones are not checked.
        """
        body = self.body
        ids = Drift.objects.create_all_in(self.get_reference(), validated(body, DriftSerializer))
        return JSONResponse({"ids": ids, "count": len(ids)}, 201)
