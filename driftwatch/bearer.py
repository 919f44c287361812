"""How a request says whose it is."""

from django.http import HttpRequest
from rest_framework.request import Request


def bears_token(request: HttpRequest | Request) -> bool:
    """Whether a request is to be known by a bearer token, be it a good one or a bad one (RFC 6750, section 2.1)."""
    header: str = request.META.get("HTTP_AUTHORIZATION", "")
    return header[:6].lower() == "bearer"
