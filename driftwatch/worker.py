"""gunicorn's threaded worker, for clients that send more than the service reads, or that close slowly."""

import contextlib
import socket
import time
from typing import Any

from gunicorn.http.body import Body, LengthReader  # type: ignore[import-untyped]
from gunicorn.http.parser import _DRAIN_MAX_BYTES  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

CLOSING_SECONDS = 2.0
DISCARDED_AT_ONCE = 1 << 18


class Worker(ThreadWorker):
    """A worker that closes a connection so that its client can read the response first.

    gunicorn keeps the connection after a response to a request whose body has not been read, although the rest of the
    body precedes the next request. When it closes, its main thread waits for the client up to 2 s, and accepts no
    other connection meanwhile; after 64 KB more of the body the client gets a reset instead of the response.
    """

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Handle a request; the response says `Connection: close` if much of the request's body is unread."""
        closes = req.should_close
        req.should_close = lambda: closes() or not is_nearly_read(req.body)
        return super().handle_request(req, conn)

    def handle(self, conn: Any) -> Any:
        """Handle the next request of a connection, and end the connection unless it is kept."""
        keeps = super().handle(conn)
        if keeps is False:
            end(conn.sock)
        return keeps


def is_nearly_read(body: Body) -> bool:
    """Return whether so little of a request's body is unread that gunicorn reads the rest and keeps the connection."""
    if isinstance(body.reader, LengthReader):
        return bool(body.reader.length + body.buf.tell() < _DRAIN_MAX_BYTES)
    # A chunked body, whose reader drops its parser at the end.
    return body.reader.parser is None


def end(connection: socket.socket) -> None:
    """End the response, and discard what the client still sends, for at most 2 s (RFC 9112, section 9.6).

    Afterwards gunicorn's main thread closes the socket without waiting.
    """
    deadline = time.monotonic() + CLOSING_SECONDS
    # The client may have closed the connection.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (seconds := deadline - time.monotonic()) > 0:
            connection.settimeout(seconds)
            if not connection.recv(DISCARDED_AT_ONCE):
                break
        connection.shutdown(socket.SHUT_RD)
