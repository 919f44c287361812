"""The request helpers: of the API, and of forms."""

import json
from typing import Any
from urllib.parse import urlencode

from django import test

from accounts.models import User

FORM = "application/x-www-form-urlencoded"


class Client(test.Client):
    """Django's client, which sends forms as the browser does, and not as `multipart/form-data`."""

    def post(self, path: str, data: Any = None, content_type: str = FORM, **options: Any) -> Any:  # type: ignore[override]
        body = urlencode(data or {}, doseq=True) if content_type == FORM and not isinstance(data, str | bytes) else data
        return super().post(path, body, content_type, **options)


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
