"""An OpenID provider of the tests' own: real keys over real HTTP, and any claims that a test wants."""

import datetime
import json
import threading
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm


class SigningKey:
    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self.private: RSAPrivateKey = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public_jwk(self) -> dict[str, Any]:
        jwk: dict[str, Any] = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**jwk, "kid": self.key_id, "use": "sig", "alg": "RS256"}


class Provider:
    """Serves discovery, keys and userinfo; `token()` signs what it is told to."""

    def __init__(self) -> None:
        self.keys = [SigningKey("first")]
        self.userinfo: dict[str, Any] = {}
        self.requests: Counter[str] = Counter()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish no other."""
        self.keys = [SigningKey(uuid.uuid4().hex)]

    def token(self, subject: str, *entitlements: str, key: SigningKey | None = None, **claims: Any) -> str:
        """A token as a real provider signs it; a claim given as None is left out."""
        now = datetime.datetime.now(datetime.UTC)
        payload = {
            "iss": self.issuer,
            "sub": subject,
            "aud": "driftwatch",
            "iat": now,
            "exp": now + datetime.timedelta(hours=1),
            "email": f"{subject}@example.org",
            "email_verified": True,
            "realm_access": {"roles": list(entitlements)},
        } | claims
        key = key or self.keys[0]
        present = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(present, key.private, algorithm="RS256", headers={"kid": key.key_id})

    def document(self, path: str) -> dict[str, Any] | None:
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
                return self.userinfo
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.requests[self.path] += 1
                document = provider.document(self.path)
                self.send_response(404 if document is None else 200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *args: Any) -> None:
                """Keep the test output for the tests."""

        return Handler
