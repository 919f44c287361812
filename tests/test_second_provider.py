"""npm's oidc-provider, unmodified: browser login and bearer tokens at another implementation of OpenID Connect.

The provider runs in Node.js over real HTTP. A user logs in through the form on its pages. It knows a client whose
credentials must be form-encoded, gives ID tokens without an email, and signs its userinfo.
"""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import pytest
import requests
from jwt.utils import base64url_encode
from pytest_django import Settings

from accounts.authentication import trusted_issuers
from accounts.models import User
from accounts.provider import provider as configured_provider
from tests.caller import Caller, Client
from tests.node import FOLDER, NODE
from tests.ports import free_port

CLIENT_ID, CLIENT_SECRET = "drift watch:pages", "100 % secret: of client & provider"
CALLBACK = "http://testserver/login/callback"
API = "urn:example:drift-watch"
SCOPES = "openid email groups"
VERIFIER = "a-code-verifier-of-forty-three-characters-or-more"

pytestmark = pytest.mark.skipif(not NODE, reason="There is no Node.js here, or `npm ci` has not run in tests/node.")
MIN_NODE = 20


class NodeProvider:
    """The provider's process. It logs a user in by any name."""

    def __init__(self, node: str) -> None:
        port = free_port()
        self.issuer = f"http://127.0.0.1:{port}"
        command = [node, "provider.mjs", str(port), CLIENT_ID, CLIENT_SECRET, CALLBACK]
        self.process = subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", "The OpenID provider did not start."

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()

    def log_in(self, address: str, name: str) -> dict[str, str]:
        """Send the forms of the provider's pages, from the address that a client redirects to.

        Returns the query parameters of the redirect back to the client.
        """
        with requests.Session() as browser:
            response = browser.get(address, timeout=5, allow_redirects=False)
            while not response.headers.get("Location", "").startswith(CALLBACK):
                assert response.ok, response.text
                if response.is_redirect:
                    address = urljoin(address, response.headers["Location"])
                    response = browser.get(address, timeout=5, allow_redirects=False)
                else:
                    form = {"prompt": shown_prompt(response.text), "login": name, "password": "any"}
                    response = browser.post(address, form, timeout=5, allow_redirects=False)
        return dict(parse_qsl(urlsplit(response.headers["Location"]).query))

    def access_token(self, name: str) -> str:
        """A JWT for the API, as a pipeline gets it."""
        asked = {"client_id": CLIENT_ID, "response_type": "code", "redirect_uri": CALLBACK, "resource": API}
        challenge = base64url_encode(hashlib.sha256(VERIFIER.encode()).digest()).decode()
        pkce = {"code_challenge": challenge, "code_challenge_method": "S256"}
        sent = self.log_in(f"{self.issuer}/auth?{urlencode({**asked, **pkce, 'scope': 'report'})}", name)
        form = {"grant_type": "authorization_code", "code": sent["code"], "redirect_uri": CALLBACK}
        secret = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "code_verifier": VERIFIER}
        tokens = requests.post(f"{self.issuer}/token", {**form, **secret}, timeout=5).json()
        token: str = tokens["access_token"]
        return token


def shown_prompt(page: str) -> str:
    [prompt] = re.findall(r'name="prompt" value="(\w+)"', page)
    return str(prompt)


@pytest.fixture(scope="module")
def node_server() -> Iterator[NodeProvider]:
    assert NODE is not None
    version = subprocess.check_output([NODE, "--version"], text=True)
    if int(version.lstrip("v").partition(".")[0]) < MIN_NODE:
        pytest.skip(f"oidc-provider needs Node.js {MIN_NODE} or newer. This is {version}")
    server = NodeProvider(NODE)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def node(node_server: NodeProvider, settings: Settings) -> Iterator[NodeProvider]:
    """The only trusted provider, for the API and for browser logins."""
    settings.OIDC_ISSUERS = [{"issuer": node_server.issuer, "audience": [API], "entitlements": "groups"}]
    settings.OIDC_RP_ISSUER = node_server.issuer
    settings.OIDC_RP_CLIENT_ID, settings.OIDC_RP_CLIENT_SECRET = CLIENT_ID, CLIENT_SECRET
    settings.OIDC_RP_SCOPES = SCOPES
    trusted_issuers.cache_clear()
    configured_provider.cache_clear()
    yield node_server
    configured_provider.cache_clear()


@pytest.mark.parametrize("method", ["", "client_secret_basic", "client_secret_post"])
def test_a_user_logs_in_with_a_browser(method: str, node: NodeProvider, settings: Settings) -> None:
    settings.OIDC_RP_AUTH_METHOD = method
    client = Client()
    redirect = client.get("/login/provider", {"next": "/admin/"})
    response = client.get("/login/callback", node.log_in(redirect.headers["Location"], "ada"))
    assert (response.status_code, response.headers["Location"]) == (302, "/admin/")
    user = User.objects.get()
    assert (user.issuer, user.subject, user.email) == (node.issuer, "ada", "ada@example.org")
    assert client.get("/api/v1/user/self").json()["id"] == str(user.id)
    assert client.get("/api/v1/entitlements").json() == {"items": ["users"]}


def test_an_access_token_works_at_the_api(node: NodeProvider) -> None:
    caller = Caller(node.access_token("grace"))
    assert caller.post("/user").json()["email"] == "grace@example.org"
    assert caller.get("/entitlement").json() == {"items": ["users"]}
    experiment: dict[str, Any] = caller.post("/experiment", {"name": "wine"}).json()
    run = {"job_status": "Completed", "model": "forest", "drift_detected": True}
    assert caller.post(f"/experiment/{experiment['id']}/drift", run).status_code == 201


def test_a_token_that_was_changed_is_refused(node: NodeProvider) -> None:
    message, _, signature = node.access_token("eve").rpartition(".")
    assert Caller(f"{message}.{signature[::-1]}").get("/user/self").status_code == 401
