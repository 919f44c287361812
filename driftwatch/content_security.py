"""The header that tells a browser where what it loads may come from."""

from typing import Any

from csp.constants import HEADER
from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.http import HttpRequest, HttpResponseBase


class ContentSecurityPolicy(CSPMiddleware):
    """The policy of the settings, put together once: it is the same for every answer, whatever its view."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.policy = build_policy()

    def process_request(self, request: HttpRequest) -> None:
        """Nothing: the policy knows no nonces, since nothing is inline."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault(HEADER, self.policy)
        return response
