"""API exceptions that Django REST framework lacks."""

import math
from http import HTTPStatus

from django.template.defaultfilters import pluralize
from rest_framework.exceptions import APIException, PermissionDenied, Throttled, ValidationError

from core.identity import Level

RETRY_SECONDS = "2"


class InvalidQuery(ValidationError):
    """A query parameter is not valid."""


class LevelRequired(PermissionDenied):
    """The caller needs the level `required` on the experiment, and holds `level`, or none."""

    def __init__(self, detail: str, required: Level, level: Level | None) -> None:
        super().__init__(detail)
        self.required, self.level = required, level


class SearchTooSlow(ValidationError):
    """A search exceeded its time limit."""


class FormExpired(PermissionDenied):
    """The CSRF token of a form is missing or wrong."""

    advice = "Nothing was saved. Go back, reload the page, and send the form again. Your browser must allow cookies."


class RetryLater(Throttled):
    """The caller is over a limit. `wait` is the number of seconds until a request may pass."""

    wait: int

    def __init__(self, wait: float, reason: str) -> None:
        super().__init__(detail=f"{reason} Try again in {duration(math.ceil(wait))}.")
        self.wait = math.ceil(wait)


def duration(seconds: int) -> str:
    """Return a duration for people: from two minutes on in minutes, rounded up."""
    number, unit = (seconds, "second") if seconds < 120 else (math.ceil(seconds / 60), "minute")
    return f"{number} {unit}{pluralize(number)}"


class Conflict(APIException):
    """The request conflicts with a stored object, such as one of the same name."""

    status_code = HTTPStatus.CONFLICT


class PreconditionFailed(APIException):
    """The object's current ETag does not meet `If-Match` or `If-None-Match`."""

    status_code = HTTPStatus.PRECONDITION_FAILED


class ServiceUnavailable(APIException):
    """The database or an issuer does not respond. A retry may succeed."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = "The database does not respond. Try again in a few seconds."


class BodyTooLarge(APIException):
    """The body, or the document that it leads to, exceeds a size limit."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
