"""Error responses: their common shape, and the mapping from exceptions to them."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError
from rest_framework import views
from rest_framework.exceptions import AuthenticationFailed, MethodNotAllowed, NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from core.api.exceptions import (
    RETRY_SECONDS,
    BodyTooLarge,
    Conflict,
    InvalidQuery,
    ServiceUnavailable,
)
from core.api.responses import JSONResponse
from core.client import current_request, request_id, seconds_since_start
from core.metrics import FAILED_AUTHENTICATIONS
from core.mongodb.errors import is_database_unavailable, is_document_too_large
from core.printable import encodable

log = logging.getLogger(__name__)

MAX_LOGGED = 500
# The most characters of a name or a message from a request, and about the most bytes of all errors of a response.
MAX_NAME = 200
MAX_MESSAGE = 1_000
MAX_ERRORS = 50_000
NOT_LISTED = "More errors are not listed. Correct these first."
GONE = "This object no longer exists. It has been deleted."


def problem(code: int, message: str, errors: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the body of an error response: `code`, `status`, `message`, `request_id`, and `errors` for a 422."""
    body: dict[str, Any] = {"code": code, "status": HTTPStatus(code).phrase, "message": encodable(message)}
    return body | ({"errors": errors} if errors else {}) | {"request_id": request_id()}


def exception_handler(exc: Exception, context: dict[str, Any]) -> JSONResponse | None:
    """Handle exceptions for Django REST framework. None, for a bug of the service, leads to a 500."""
    if isinstance(exc, ValidationError):
        return invalid(exc)
    if isinstance(exc, AuthenticationFailed):
        FAILED_AUTHENTICATIONS.labels("token").inc()
    if is_database_unavailable(exc):
        log_unavailable(exc)
        exc = ServiceUnavailable()
    elif isinstance(exc, ServiceUnavailable):
        log_unavailable(exc)
    elif isinstance(exc, IntegrityError):
        exc = Conflict(context["view"].conflict)
    elif is_document_too_large(exc):
        exc = BodyTooLarge("The object is larger than 16 MB, the limit of MongoDB. Send less.")
    elif isinstance(exc, ObjectDoesNotExist):
        exc = NotFound(GONE)
    response = views.exception_handler(exc, context)
    return None if response is None else error_response(response, exc, context["view"])


def log_unavailable(exc: BaseException) -> None:
    """Log the cause of a 503, with the request and its duration. The query of the URL may be private."""
    request, cause = current_request.get(), exc.__cause__ or exc
    target = f"{request.method} {request.path}" if request else "no request"
    message = f"{type(cause).__name__}: {cause}"[:MAX_LOGGED]
    log.warning("503 after %.1f s for %s: %s", seconds_since_start(), target, message)


def error_response(response: Response, exc: Exception, view: APIView) -> JSONResponse:
    """Convert Django REST framework's error response to the common shape, with the relevant headers."""
    headers = {name: response[name] for name in ("WWW-Authenticate", "Retry-After") if name in response}
    if isinstance(exc, ServiceUnavailable):
        headers["Retry-After"] = RETRY_SECONDS
    message = shortened(str(response.data["detail"]), MAX_MESSAGE)
    if isinstance(exc, MethodNotAllowed):
        headers["Allow"] = allowed = ", ".join(view.allowed_methods)
        message = f"{view.request.method} is not allowed here. Use {' or '.join(allowed.rsplit(', ', 1))}."
    return JSONResponse(problem(response.status_code, message), response.status_code, headers)


def invalid(exc: ValidationError) -> JSONResponse:
    """Return a 422 whose message is the first error, and whose `errors` hold the errors by field."""
    place = "query" if isinstance(exc, InvalidQuery) else "json"
    detail = Excerpt().of_errors(exc.detail if isinstance(exc.detail, dict) else {"non_field_errors": exc.detail})
    field, sentence = next(sentences(detail))
    subject = field or ("query" if place == "query" else "body")
    return JSONResponse(problem(422, f"{subject}: {sentence}", {place: detail}), 422)


@dataclass
class Excerpt:
    """A copy of errors whose size is bounded, whatever the request was: its names are repeated in them.

    `room` is the number of bytes that are left.
    """

    room: int = MAX_ERRORS

    def of_errors(self, detail: dict[str, Any]) -> dict[str, Any]:
        """Copy the errors of all fields. Add a sentence if some are left out."""
        kept = self._copy(detail)
        if self.room <= 0:
            kept["non_field_errors"] = [*kept.get("non_field_errors", []), NOT_LISTED]
        return kept

    def _copy(self, detail: Any) -> Any:
        match detail:
            case dict():
                return {
                    self._text(str(key), MAX_NAME): self._copy(value) for key, value in detail.items() if self.room > 0
                }
            case list():
                return [self._copy(value) for value in detail if self.room > 0]
        return self._text(str(detail), MAX_MESSAGE)

    def _text(self, text: str, longest: int) -> str:
        short = encodable(shortened(text, longest))
        self.room -= len(json.dumps(short))
        return short


def shortened(text: str, longest: int) -> str:
    """Cut out the middle of a long text. A message names its reason first, and says what to do at the end."""
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 :]}"


def sentences(detail: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield pairs of a dotted path and a message from the nested detail of a validation error."""
    match detail:
        case dict():
            for key, value in detail.items():
                name = "" if key == "non_field_errors" else str(key)
                yield from sentences(value, ".".join(filter(None, (path, name))))
        case list():
            for index, value in enumerate(detail):
                nested = f"{path}.{index}".lstrip(".") if isinstance(value, dict | list) else path
                yield from sentences(value, nested)
        case _:
            yield encodable(path), encodable(shortened(str(detail), MAX_MESSAGE))
