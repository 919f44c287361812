"""A keep-alive connection that costs next to nothing: the load must not be what is measured."""

import json
import socket
import ssl
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

PATIENCE_SECONDS = 60


class Void(Exception):
    """An answer that is not the one that was to be measured."""


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    """By name in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def pagination(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.headers.get(b"x-pagination", b"{}"))
        return found

    def checked(self, status: int) -> Self:
        if self.status != status:
            raise Void(f"The service answered {self.status} where {status} was due: {self.body[:500]!r}")
        return self


class Connection:
    """One connection to the API at `url` (such as http://localhost:8000/api/v1), as the owner of a token."""

    def __init__(self, url: str, token: str) -> None:
        self.address = urlsplit(url)
        self.token = token
        default = 443 if self.address.scheme == "https" else 80
        host = str(self.address.hostname)
        self.socket = socket.create_connection((host, self.address.port or default), PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.address.scheme == "https":
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=host)
        self.answers = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.answers.close()
        self.socket.close()

    def get(self, path: str) -> Answer:
        return self.send(self.message("GET", path))

    def post(self, path: str, body: Any) -> Answer:
        return self.send(self.message("POST", path, json.dumps(body).encode()))

    def message(self, method: str, path: str, body: bytes = b"") -> bytes:
        """A whole request, to be sent any number of times."""
        head = (
            f"{method} {self.address.path}{path} HTTP/1.1\r\nHost: {self.address.netloc}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def send(self, message: bytes) -> Answer:
        self.socket.sendall(message)
        _, status, *_ = self.answers.readline().split(maxsplit=2) or [b"", b"0"]
        headers = {}
        while line := self.answers.readline().rstrip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return Answer(int(status), headers, self._body(headers))

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        """As RFC 9112, section 6, delimits it."""
        if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
            return self.answers.read(int(headers.get(b"content-length", b"0")))
        chunks = []
        while size := int(self.answers.readline().split(b";")[0], 16):
            chunks.append(self.answers.read(size))
            self.answers.readline()
        self.answers.readline()
        return b"".join(chunks)
