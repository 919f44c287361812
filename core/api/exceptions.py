"""Refusals that Django REST framework has no exception for."""

from http import HTTPStatus

from rest_framework.exceptions import APIException, ValidationError

RETRY_SECONDS = "2"


class InvalidQuery(ValidationError):
    """A query parameter is not valid."""


class Conflict(APIException):
    status_code = HTTPStatus.CONFLICT


class PreconditionFailed(APIException):
    """What the request names by its entity tag is not there any more, or is what it was not to be."""

    status_code = HTTPStatus.PRECONDITION_FAILED


class ServiceUnavailable(APIException):
    """Something that the service depends on does not answer; trying again in a moment may help."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = "The database is not reachable at the moment. Try again in a few seconds."


class BodyTooLarge(APIException):
    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
