"""An OpenID provider for browser logins, with the service as its client."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from jwt.utils import base64url_encode

from tests.provider import Provider, SigningKey, present

CLIENT_ID = "driftwatch-pages"
CLIENT_SECRET = "a secret of the client & the provider: 100 %"


@dataclass
class Person:
    """The user of the provider's login page. `id_token` and `userinfo` override the user's claims.

    `tokens` overrides members of the token endpoint's response.
    """

    subject: str
    entitlements: tuple[str, ...] = ("users",)
    id_token: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] | str | int = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)


class LoginProvider(Provider):
    """The authorization-code flow with PKCE (RFC 6749, RFC 7636). `person` is logged in; no user is if it is None."""

    def __init__(self) -> None:
        self.person: Person | None = None
        self.signing_key: SigningKey | None = None
        self.codes: dict[str, dict[str, str]] = {}
        self.auth_methods: list[str] | None = ["client_secret_post"]
        # The ways in which the client has sent its secret.
        self.used_methods: list[str] = []
        super().__init__()

    def authorize(self, address: str) -> dict[str, str]:
        """The query parameters of the redirect back to the service, for the address that the service redirected to."""
        query = dict(parse_qsl(urlsplit(address).query))
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert len(query["code_challenge"]) == 43
        if self.person is None:
            assert query["prompt"] == "none", "A person would be asked to log in."
            return {"error": "login_required", "state": query["state"]}
        code = secrets.token_urlsafe()
        self.codes[code] = query
        return {"code": code, "state": query["state"]}

    def response(self, path: str, authorization: str) -> dict[str, Any] | str | int:
        document = super().response(path, authorization)
        if path == "/.well-known/openid-configuration" and isinstance(document, dict):
            document |= {f"{name}_endpoint": f"{self.issuer}/{name}" for name in ("authorization", "end_session")}
            document |= {"token_endpoint": f"{self.issuer}/token"}
            document |= present({"token_endpoint_auth_methods_supported": self.auth_methods})
        return document

    def respond_to_form(self, path: str, form: dict[str, str], authorization: str) -> dict[str, Any] | int:
        """The token endpoint: each code is good for one response, to the client and browser that it was made for."""
        query = self.codes.pop(form.get("code", ""), None)
        if path != "/token" or not self.is_authenticated(form, authorization):
            return 401
        if query is None or query["client_id"] != form["client_id"] or query["redirect_uri"] != form["redirect_uri"]:
            return 400
        challenge = base64url_encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
        if challenge != query["code_challenge"]:
            return 400
        assert self.person is not None
        person = self.person
        info = person.userinfo
        self.userinfo = {"sub": person.subject} | info if isinstance(info, dict) else info
        claims = {"aud": CLIENT_ID, "nonce": query["nonce"]} | person.id_token
        return {
            "access_token": secrets.token_urlsafe(),
            "token_type": "Bearer",
            "id_token": self.token(person.subject, *person.entitlements, key=self.signing_key, **claims),
            **person.tokens,
        }

    def is_authenticated(self, form: dict[str, str], authorization: str) -> bool:
        """Check the client's secret, as RFC 6749 describes both ways in section 2.3.1."""
        scheme, _, encoded = authorization.partition(" ")
        if scheme == "Basic":
            self.used_methods.append("client_secret_basic")
            sent = [unquote_plus(part) for part in base64.b64decode(encoded).decode().split(":")]
            return sent == [CLIENT_ID, CLIENT_SECRET] and "client_secret" not in form
        self.used_methods.append("client_secret_post")
        return [form.get("client_id"), form.get("client_secret")] == [CLIENT_ID, CLIENT_SECRET]
