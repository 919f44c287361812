"""A stand-in for a mytoken server, for callers who already have an access token.

The published client is configured with a *mytoken*, and exchanges it for an access token at a
mytoken server (https://mytok.eu). This module is such a server on the loopback interface.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONFIGURATION_PATH = "/.well-known/mytoken-configuration"
EXCHANGE_PATH = "/api/v0/token/access"


@contextmanager
def mytoken_server(exchange: Callable[[str], str]) -> Iterator[str]:
    """Run the server within the block, and give the URL for `MYTOKEN_SERVER`.

    `exchange` is called with each received mytoken, and returns the access token for the response.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(exchange))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _handler(exchange: Callable[[str], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == CONFIGURATION_PATH:
                self.response({"access_token_endpoint": f"http://{self.headers['Host']}{EXCHANGE_PATH}"})
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == EXCHANGE_PATH and body["grant_type"] == "mytoken":
                # The client reads the expiry of the token, and so needs a plain JWT.
                self.response({"access_token": exchange(body["mytoken"]).removeprefix("dw_")})
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def response(self, document: dict[str, str]) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None:
            """Keep requests out of the terminal."""

    return Handler
