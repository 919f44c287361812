"""A keep-alive HTTP connection with little overhead, so that the measured time is the service's."""

import json
import re
import socket
import ssl
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import orjson

PATIENCE_SECONDS = 60
RECEIVED_AT_ONCE = 1 << 18
LENGTH = re.compile(rb"\ncontent-length:\s*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\ntransfer-encoding:\s*chunked", re.IGNORECASE)
PAGINATION = re.compile(rb"\nx-pagination:\s*(.*)", re.IGNORECASE)


class Void(Exception):
    """A wrong response, which makes the measurement void."""


class Response(NamedTuple):
    status: int
    head: bytes
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def pagination(self) -> dict[str, Any]:
        found = PAGINATION.search(self.head)
        pagination: dict[str, Any] = orjson.loads(found.group(1)) if found else {}
        return pagination

    def checked(self, status: int) -> Self:
        if self.status != status:
            raise Void(f"The service responded with {self.status} instead of {status}: {self.body[:500]!r}")
        return self


class Connection:
    """A connection to the API at `url` (such as http://localhost:8000/api/v1), authenticated by a token."""

    def __init__(self, url: str, token: str) -> None:
        self.address = urlsplit(url)
        self.token = token
        default = 443 if self.address.scheme == "https" else 80
        host = str(self.address.hostname)
        self.socket = socket.create_connection((host, self.address.port or default), PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.address.scheme == "https":
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def get(self, path: str) -> Response:
        return self.send(self.message("GET", path))

    def post(self, path: str, body: Any) -> Response:
        return self.send(self.message("POST", path, json.dumps(body).encode()))

    def message(self, method: str, path: str, body: bytes = b"") -> bytes:
        """A complete request, which can be sent any number of times."""
        head = (
            f"{method} {self.address.path}{path} HTTP/1.1\r\nHost: {self.address.netloc}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def send(self, message: bytes) -> Response:
        self.socket.sendall(message)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head, rest = received[:end], received[end + 4 :]
        return Response(int(head[9:12]), head, self._body(head, rest))

    def _body(self, head: bytes, received: bytes) -> bytes:
        """Read the body up to its end, as RFC 9112, section 6, defines it."""
        if length := LENGTH.search(head):
            while len(received) < int(length.group(1)):
                received += self._more()
        elif CHUNKED.search(head):
            return self._unchunked(received)
        return received

    def _unchunked(self, received: bytes) -> bytes:
        body, size = b"", -1
        while size:
            while (end := received.find(b"\r\n")) < 0:
                received += self._more()
            size = int(received[:end].partition(b";")[0], 16)
            while len(received) < end + size + 4:
                received += self._more()
            body += received[end + 2 : end + 2 + size]
            received = received[end + size + 4 :]
        return body

    def _more(self) -> bytes:
        received = self.socket.recv(RECEIVED_AT_ONCE)
        if not received:
            raise Void("The service closed the connection before its response was complete.")
        return received
