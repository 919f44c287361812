"""An OpenID provider for the tests: real keys over real HTTP, and any claims that a test needs."""

import datetime
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from jwt.utils import base64url_encode

CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


class SigningKey:
    """A key pair. `members` adds to the published key; a member that is None is left out."""

    def __init__(self, key_id: str, algorithm: str = "RS256", private: Any = None, **members: Any) -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self.private = private or new_private_key(algorithm)
        self.members = members

    @property
    def public_jwk(self) -> dict[str, Any]:
        jwk = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        return present({**jwk, "kid": self.key_id, "use": "sig", "alg": self.algorithm, **self.members})

    def sign(self, message: bytes) -> bytes:
        return get_default_algorithms()[self.algorithm].sign(message, self.private)


class Provider:
    """A provider that serves discovery, keys and userinfo. `token()` signs any claims."""

    def __init__(self, key: SigningKey | None = None) -> None:
        self.keys = [key or SigningKey("first")]
        # A string is a signed response.
        self.userinfo: dict[str, Any] | str | int = {}
        self.requests: Counter[str] = Counter()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        # The server polls often for its shutdown, because tests that stop their provider wait for it.
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def rotate(self) -> None:
        """Replace the signing key, and publish the new one only."""
        self.keys = [SigningKey(uuid.uuid4().hex, self.keys[0].algorithm)]

    def token(self, subject: str, *entitlements: str, key: SigningKey | None = None, **claims: Any) -> str:
        """A token as a real provider signs it; a claim given as None is left out."""
        return self.sign(self.claims(subject, *entitlements, **claims), key)

    def claims(self, subject: str, *entitlements: str, **claims: Any) -> dict[str, Any]:
        now = int(time.time())
        payload = {
            "iss": self.issuer,
            "sub": subject,
            "aud": "driftwatch",
            "iat": now,
            "exp": now + 3600,
            "email": f"{subject}@example.org",
            "email_verified": True,
            "realm_access": {"roles": list(entitlements)},
        }
        return present(payload | claims)

    def sign(self, claims: dict[str, Any], key: SigningKey | None = None, **header: Any) -> str:
        """Sign any claims and any header; a header given as None is left out."""
        key = key or self.keys[0]
        return compact(present({"typ": "JWT", "alg": key.algorithm, "kid": key.key_id} | header), claims, key.sign)

    def response(self, path: str, authorization: str) -> dict[str, Any] | str | int:
        """The response to a GET request: a document, a JWT, or the status of a refusal."""
        match path:
            case "/.well-known/openid-configuration":
                return {
                    "issuer": self.issuer,
                    "jwks_uri": f"{self.issuer}/keys",
                    "userinfo_endpoint": f"{self.issuer}/userinfo",
                }
            case "/keys":
                return {"keys": [key.public_jwk for key in self.keys]}
            case "/userinfo":
                return self.userinfo if authorization.startswith("Bearer ") else 401
        return 404

    def respond_to_form(self, path: str, form: dict[str, str], authorization: str) -> dict[str, Any] | int:
        """The response to a form. This provider accepts none."""
        return 404

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(provider.response(self.path, self.headers.get("Authorization", "")))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                authorization = self.headers.get("Authorization", "")
                self.reply(provider.respond_to_form(self.path, dict(parse_qsl(body)), authorization))

            def reply(self, response: dict[str, Any] | str | int) -> None:
                provider.requests[self.path] += 1
                self.send_response(response if isinstance(response, int) else 200)
                self.send_header("Content-Type", f"application/{'jwt' if isinstance(response, str) else 'json'}")
                self.end_headers()
                self.wfile.write((response if isinstance(response, str) else json.dumps(response)).encode())

            def log_message(self, *args: Any) -> None:
                """Keep requests out of the tests' output."""

        return Handler


def new_private_key(algorithm: str) -> Any:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm])
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def compact(header: Any, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    """The compact serialization (RFC 7515, section 3.1) of any parts, also of those that libraries refuse to sign."""
    message = b".".join(base64url_encode(json.dumps(part, default=seconds).encode()) for part in (header, claims))
    return b".".join((message, base64url_encode(sign(message)))).decode()


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified, with or without the prefix of service tokens."""
    claims: dict[str, Any] = jwt.decode(token.removeprefix("dw_"), options={"verify_signature": False})
    return claims


def seconds(time: datetime.datetime) -> int:
    return int(time.timestamp())


def present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
