"""API exceptions that Django REST framework lacks."""

from http import HTTPStatus

from rest_framework.exceptions import APIException, ValidationError

RETRY_SECONDS = "2"


class InvalidQuery(ValidationError):
    """A query parameter is not valid."""


class Conflict(APIException):
    """The request conflicts with a stored object, such as one of the same name."""

    status_code = HTTPStatus.CONFLICT


class PreconditionFailed(APIException):
    """The object's current ETag does not meet `If-Match` or `If-None-Match`."""

    status_code = HTTPStatus.PRECONDITION_FAILED


class ServiceUnavailable(APIException):
    """The database or an issuer does not respond. A retry may succeed."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = "The database is not reachable at the moment. Try again in a few seconds."


class BodyTooLarge(APIException):
    """The body, or the document that it leads to, exceeds a size limit."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
