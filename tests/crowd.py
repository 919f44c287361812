"""Concurrent requests to the real server."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from requests import Response

Call = Callable[[], Response]
Headers = dict[str, str]
PATIENCE = 120


class RemoteUser:
    """A user with a token, who opens as many connections as needed."""

    def __init__(self, api: str, token: str) -> None:
        self.api = api
        self.authorization = {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Response:
        headers = self.authorization | (headers or {})
        return requests.request(method, self.api + path, json=body, headers=headers, timeout=30)

    def calls(self, method: str, path: str, *bodies: Any, headers: Headers | None = None) -> list[Call]:
        return [lambda body=body: self.call(method, path, body, headers) for body in bodies]  # type: ignore[misc]

    def post_until_answered(self, path: str, body: Any, key: str) -> Response:
        """Repeat a POST with its `Idempotency-Key` until the service responds, and return the response."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                response = self.call("POST", path, body, {"Idempotency-Key": key})
            except requests.RequestException:
                continue
            if response.status_code != 503:
                return response
        raise TimeoutError(f"no response within {PATIENCE} s")

    def calls_until_answered(self, path: str, key: str, *bodies: Any) -> list[Call]:
        return [lambda body=body: self.post_until_answered(path, body, key) for body in bodies]  # type: ignore[misc]

    def new_experiment(self) -> str:
        """Create an experiment and return its path."""
        return f"/experiment/{self.call('POST', '/experiment', {'name': unique('wine')}).json()['id']}"


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex}"


def at_once(calls: list[Call]) -> list[Response]:
    """Make all calls at the same time and return their responses."""
    together = threading.Barrier(len(calls), timeout=30)

    def go(call: Call) -> Response:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(go, calls))


def statuses(responses: list[Response]) -> dict[int, int]:
    return Counter(response.status_code for response in responses)
