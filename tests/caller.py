"""The request helper."""

import json
from typing import Any

from django.test import Client

from accounts.models import User


class Caller:
    """A caller of the API: `manager.post("/experiment", {"name": "wine"}).json()`."""

    def __init__(self, token: str | None = None, user: User | None = None) -> None:
        self.token = token
        self.user = user
        self.client = Client(raise_request_exception=False)

    @property
    def id(self) -> str:
        assert self.user is not None
        return str(self.user.id)

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send `body` as JSON; send text and bytes unchanged, and no body if it is None."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        options.setdefault("content_type", "application/json")
        if body is not None:
            options["data"] = body if isinstance(body, str | bytes) else json.dumps(body)
        headers |= options.pop("headers", {})
        return self.client.generic(method, f"/api/v1{path}", headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("POST", path, body, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("PUT", path, body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("PATCH", path, body, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.request("DELETE", path, **options)
