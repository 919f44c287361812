"""gunicorn's threaded worker, for clients that send more than the service reads, that close slowly, or that gunicorn
refuses.

It relies on gunicorn 27 beyond its documentation: `handle`, `handle_request`, `handle_error`, `set_accept_enabled`,
`accept`, `sockets`, `nr_conns` and `req.should_close`; `body.buf` and `body.reader` with its `length` or `parser`; 64
KiB of a body that it reads itself.
"""

import contextlib
import json
import math
import socket
import threading
import time
from http import HTTPStatus
from typing import Any

from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.http.body import Body, LengthReader  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from driftwatch.draining import is_draining

READ_BY_GUNICORN = 64 * 1024
CLOSING_SECONDS = 2.0
DISCARDED_AT_ONCE = 1 << 18
# The statuses of requests that gunicorn refuses. Others are malformed: 400.
REFUSALS = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}
# The application sent a header that HTTP does not have.
FAULTS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)
# The most threads that wait for clients to close, fewer than health checks have.
MAX_CLOSING = 2


class Worker(ThreadWorker):
    """A worker that closes a connection so that its client can read the response first.

    gunicorn keeps the connection after a response to a request whose body has not been read, although the rest of the
    body precedes the next request. When it closes, its main thread waits for the client up to 2 s, and accepts no
    other connection meanwhile; after 64 KB more of the body the client gets a reset instead of the response.
    """

    closing = threading.BoundedSemaphore(MAX_CLOSING)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or end to accept connections. At a stop, accept those that wait, and refuse others from now on.

        gunicorn keeps the socket open until its last request has ended. Connections wait there for up to 20 s, and are
        reset in the end.
        """
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            while self.accepts(listener):
                pass
            listener.close()

    def accepts(self, listener: Any) -> bool:
        """Accept a connection if one waits, and return whether one did."""
        before = self.nr_conns
        self.accept(listener)
        return bool(self.nr_conns > before)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Handle a request; the response says `Connection: close` if much of the request's body is unread.

        It does so too while the service drains. Clients then open their next connection to another instance, and few
        are left at the end whose request may cross the close of an idle connection.
        """
        # gunicorn asks again before the next request, which must be served if this response has promised that.
        closes, drains = req.should_close, is_draining()
        req.should_close = lambda: closes() or drains or unread(req.body) >= READ_BY_GUNICORN
        keeps = super().handle_request(req, conn)
        if not keeps and not unread(req.body):
            shut(conn.sock, socket.SHUT_RDWR)
        return keeps

    def handle(self, conn: Any) -> Any:
        """Handle the next request of a connection, and end the connection unless it is kept.

        Afterwards gunicorn's main thread closes the socket without waiting.
        """
        keeps = super().handle(conn)
        if keeps is False:
            shut(conn.sock, socket.SHUT_WR)
            # A client that gets no thread may get a reset instead of the response.
            if self.closing.acquire(blocking=False):
                discard(conn.sock)
                self.closing.release()
            shut(conn.sock, socket.SHUT_RD)
        return keeps

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Refuse a request that gunicorn cannot read, in the JSON of the API. Its path may be unknown."""
        # Django is not set up yet when gunicorn imports this module.
        from core.api.errors import MAX_NAME, problem, shortened  # noqa: PLC0415
        from core.client import REQUEST_ID, new_request_id  # noqa: PLC0415

        request_id = new_request_id()
        context = {"request_id": request_id}

        if isinstance(exc, errors.ParseException) and not isinstance(exc, FAULTS):
            status = REFUSALS.get(type(exc), HTTPStatus.BAD_REQUEST)
            reason = shortened(str(exc), MAX_NAME)
            self.log.warning("%d for a request from %s: %s", status, addr and addr[0], reason, extra=context)
            message = f"{reason}. Correct the request line or the header, then send the request again."
        else:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            self.log.exception("Error handling a request", extra=context)
            message = "This is a fault of the service. Try again later. Its log has the details."
        body = json.dumps(problem(status, message) | context)
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        head += f"{REQUEST_ID}: {request_id}\r\n"
        response = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        with contextlib.suppress(OSError):
            util.write_nonblock(client, response.encode())


def unread(body: Body) -> float:
    """Return the number of bytes of a request's body that are unread; infinity for chunks, whose number is unknown."""
    if isinstance(body.reader, LengthReader):
        return float(body.reader.length + body.buf.tell())
    # The reader of chunks drops its parser at the end.
    return 0 if body.reader.parser is None else math.inf


def shut(connection: socket.socket, direction: int) -> None:
    """End sending, receiving or both. The client may have closed the connection."""
    with contextlib.suppress(OSError):
        connection.shutdown(direction)


def discard(connection: socket.socket) -> None:
    """Discard the bytes that the client still sends, until it closes, for at most 2 s (RFC 9112, section 9.6)."""
    deadline = time.monotonic() + CLOSING_SECONDS
    with contextlib.suppress(OSError):
        while (seconds := deadline - time.monotonic()) > 0:
            connection.settimeout(seconds)
            if not connection.recv(DISCARDED_AT_ONCE):
                break
