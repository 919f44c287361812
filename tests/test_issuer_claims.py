"""Claims of OpenID providers as they are: userinfo that refuses or is signed, emails, and entitlements of all forms."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_django import Settings

from accounts import issuers
from accounts.authentication import recent_identities, trusted_issuers
from accounts.exceptions import InvalidToken
from tests.caller import Caller
from tests.provider import Provider, SigningKey

Claims = dict[str, Any]
NO_EMAIL: Claims = {"email": None, "email_verified": None}
INFO: Claims = {"sub": "someone", "email": "someone@example.com", "email_verified": True, "groups": ["ml"]}


@pytest.fixture(scope="module")
def issuer_server() -> Iterator[Provider]:
    provider = Provider(SigningKey("first", "ES256"))
    yield provider
    provider.stop()


@pytest.fixture
def issuer(issuer_server: Provider, settings: Settings) -> Provider:
    """A trusted provider of this module's tests. Every user with a verified email is admitted."""
    settings.OIDC_USER_ENTITLEMENTS = []
    issuer_server.userinfo = INFO
    issuer_server.requests.clear()
    trust(settings, issuer_server, entitlements="groups")
    return issuer_server


def trust(settings: Settings, provider: Provider, **members: Any) -> None:
    settings.OIDC_ISSUERS = [{"issuer": provider.issuer, "audience": ["drift"], **members}]
    trusted_issuers.cache_clear()


def token_of(issuer: Provider, **claims: Any) -> str:
    return issuer.token("someone", **{"aud": "drift", "realm_access": None, **claims})


def entitlements_of(token: str) -> list[str]:
    caller = Caller(token)
    assert caller.post("/user").status_code in (201, 409)
    items: list[str] = caller.get("/entitlement").json()["items"]
    return items


def refusal_of(token: str) -> str:
    response = Caller(token).post("/experiment/search", {})
    assert response.status_code == 401, response.content
    message: str = response.json()["message"]
    return message


# Userinfo that refuses


def test_a_token_with_too_narrow_a_scope_for_userinfo_is_good_and_has_no_entitlements(
    issuer: Provider, settings: Settings
) -> None:
    trust(settings, issuer, entitlements="resource_access/drift/roles")
    issuer.userinfo = 403
    token = issuer.token(
        "5f1c",
        aud="drift",
        email="mira@example.org",
        scope="email profile",
        resource_access={"billing": {"roles": ["payer"]}},
    )
    caller = Caller(token)
    assert caller.get("/user/self").status_code == 403
    assert caller.post("/user").status_code == 201
    assert caller.get("/entitlement").json() == {"items": []}
    for _ in range(10):
        assert caller.post("/experiment/search", {}).status_code == 200
        recent_identities.clear()
    assert issuer.requests["/userinfo"] == 1
    settings.OIDC_USER_ENTITLEMENTS = ["drift-users"]
    assert caller.get("/user/self").status_code == 403
    assert caller.post("/experiment/search", {}).status_code == 200


def test_a_token_that_userinfo_refuses_as_invalid_is_refused_and_that_is_remembered(issuer: Provider) -> None:
    issuer.userinfo = 401
    token = token_of(issuer)
    for _ in range(3):
        assert refusal_of(token) == "The issuer refuses the token. Get a new token and try again."
    assert issuer.requests["/userinfo"] == 1


def test_a_refusal_of_userinfo_is_remembered_for_a_short_time(issuer: Provider, settings: Settings) -> None:
    settings.OIDC_REFETCH_INTERVAL = 0
    issuer.userinfo = 401
    token = token_of(issuer)
    refusal_of(token)
    issuer.userinfo = INFO
    assert entitlements_of(token) == ["ml"]


@pytest.mark.parametrize("userinfo", [INFO, 403, 401], ids=["a response", "too narrow", "invalid"])
def test_concurrent_requests_ask_userinfo_once(
    userinfo: Claims | int, issuer: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_of(issuer)
    trusted = trusted_issuers()[issuer.issuer]
    claims = trusted.verify(token)
    assert trusted.discovery.endpoint("userinfo_endpoint")
    all_ask = threading.Barrier(10)
    response = issuer.response

    def slow(path: str, authorization: str) -> Any:
        time.sleep(0.1)
        return response(path, authorization)

    def ask(_: int) -> Any:
        all_ask.wait(5)
        try:
            return trusted.userinfo(token, claims)
        except InvalidToken as refusal:
            return str(refusal)

    issuer.userinfo = userinfo
    monkeypatch.setattr(issuer, "response", slow)
    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(ask, range(10)))) == 1
    assert issuer.requests["/userinfo"] == 1


def test_the_cache_of_userinfo_is_bounded(issuer: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers, "MAX_PROFILES", 2)
    tokens = [token_of(issuer, jti=str(number)) for number in range(3)]
    for token in (*tokens, tokens[0]):
        assert Caller(token).post("/experiment/search", {}).status_code == 200
    assert issuer.requests["/userinfo"] == 4


@pytest.mark.parametrize(
    "claims", [{"groups": []}, {"groups": ""}, {"groups": ["ml"]}], ids=["an empty list", "an empty string", "a list"]
)
def test_userinfo_is_not_requested_for_a_claim_that_is_present(claims: Claims, issuer: Provider) -> None:
    assert entitlements_of(token_of(issuer, **claims)) == list(claims["groups"])
    assert "/userinfo" not in issuer.requests


def test_userinfo_is_not_requested_for_an_email_that_the_token_states_as_unverified(issuer: Provider) -> None:
    refusal_of(token_of(issuer, groups=[], email_verified=False))
    assert "/userinfo" not in issuer.requests


def test_userinfo_that_is_at_no_address_makes_the_issuer_unavailable(
    issuer: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"issuer": issuer.issuer, "jwks_uri": f"{issuer.issuer}/keys", "userinfo_endpoint": "http://["}
    keys = {"keys": [key.public_jwk for key in issuer.keys]}
    monkeypatch.setattr(issuer, "response", lambda path, authorization: keys if path == "/keys" else found)
    assert Caller(token_of(issuer)).post("/experiment/search", {}).status_code == 503


# Signed userinfo


def signed(issuer: Provider, key: SigningKey | None = None, **changes: Any) -> str:
    claims = INFO | {"iss": issuer.issuer, "aud": "drift"} | changes
    return issuer.sign({name: value for name, value in claims.items() if value is not None}, key)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["drift", "more"]},
        {"aud": "a-client"},
        {"aud": None, "iss": None},
        {"exp": int(time.time()) + 24 * 3600, "iat": int(time.time())},
    ],
    ids=["of this audience", "of several", "of the client", "of none", "with times"],
)
def test_signed_userinfo_is_verified_and_used(changes: Claims, issuer: Provider) -> None:
    issuer.userinfo = signed(issuer, **changes)
    token = token_of(issuer, azp="a-client", **NO_EMAIL)
    assert entitlements_of(token) == ["ml"]
    assert Caller(token).get("/user/self").json()["email"] == "someone@example.com"
    assert issuer.requests["/userinfo"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda issuer: signed(issuer, SigningKey("first", "ES256")), "is not valid: Signature verification failed"),
        (lambda issuer: signed(issuer)[:-8] + "AAAAAAAA", "is not valid: Signature verification failed"),
        (lambda issuer: signed(issuer, SigningKey("unknown", "ES256")), "no ES256 key with the id 'unknown'"),
        (lambda issuer: issuer.sign(INFO, alg="none"), "Only asymmetric algorithms are accepted."),
        (lambda issuer: signed(issuer, iss="https://evil.example"), "is of another issuer"),
        (lambda issuer: signed(issuer, iss=["x"]), "is of another issuer"),
        (lambda issuer: signed(issuer, aud="another-client"), "has another audience"),
        (lambda issuer: signed(issuer, aud=[1]), "has another audience"),
        (lambda issuer: signed(issuer, exp=1), "is not valid: Signature has expired"),
        (lambda issuer: signed(issuer, exp="9999999999"), "exp is not a number"),
        (lambda issuer: signed(issuer, sub="eve"), "responded for another subject"),
        (lambda issuer: "a.b.c.d.e", "is not valid: "),
    ],
    ids=[
        "by another key",
        "changed",
        "by an unknown key",
        "not at all",
        "another issuer",
        "issuers",
        "another audience",
        "no text",
        "expired",
        "digits",
        "another subject",
        "encrypted",
    ],
)
def test_signed_userinfo_that_is_not_valid_refuses_the_token_and_says_so(
    change: Any, reason: str, issuer: Provider
) -> None:
    issuer.userinfo = change(issuer)
    message = refusal_of(token_of(issuer))
    assert reason in message
    assert "Get a new token" not in message


# Emails


def test_an_issuer_without_email_verified_can_be_trusted(issuer: Provider, settings: Settings) -> None:
    claims: Claims = {
        "sub": "Kx2",
        "tid": "7c1e",
        "ver": "2.0",
        "email": "lena@example.com",
        "email_verified": None,
        "preferred_username": "lena.k@example.com",
        "groups": ["5a0c"],
    }
    issuer.userinfo = {"sub": "Kx2"}
    token = token_of(issuer, **claims)
    assert '("trust_email" in OIDC_ISSUERS)' in refusal_of(token)
    trust(settings, issuer, entitlements="groups", trust_email=True)
    caller = Caller(token)
    assert caller.post("/user").json()["email"] == "lena@example.com"
    assert caller.get("/entitlement").json() == {"items": ["5a0c"]}
    trust(settings, issuer, email="preferred_username", trust_email=True)
    recent_identities.clear()
    assert Caller(token).put("/user/self").json()["email"] == "lena.k@example.com"


@pytest.mark.parametrize("verified", [True, "true", "True", "TRUE"])
def test_an_email_is_verified_by_true_in_any_spelling(verified: Any, issuer: Provider) -> None:
    assert entitlements_of(token_of(issuer, email_verified=verified, groups=["ml"])) == ["ml"]


def test_the_email_of_a_token_is_not_verified_by_a_claim_of_userinfo_about_another_one(issuer: Provider) -> None:
    token = token_of(issuer, email="mine@example.org", email_verified=None)
    assert Caller(token).post("/user").json()["email"] == "someone@example.com"


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        (NO_EMAIL, "the claim email is missing. Request the scope that adds it."),
        ({"email": "someone"}, "The claim email has no email address."),
        ({"email": "some\none@example.org"}, "The claim email has no email address."),
        ({"email_verified": None}, "the claim email_verified is missing. The operators of this service can"),
        ({"email_verified": False}, "The provider has not verified your email (claim email_verified)."),
    ],
)
def test_a_token_without_an_email_says_which_claim_is_missing_and_what_helps(
    claims: Claims, sentence: str, issuer: Provider
) -> None:
    for info in ({"sub": "someone"}, 403):
        issuer.userinfo = info
        message = refusal_of(token_of(issuer, jti=str(info), **claims))
        assert sentence in message
        assert "Get a new token" not in message


# Entitlements

ROLES = "urn:example:project:roles"
OBJECT = {ROLES: {"ml": {"4711": "acme.example"}, "ops": {"4711": "acme.example"}}}


def test_the_names_in_an_object_are_entitlements_if_configured(issuer: Provider, settings: Settings) -> None:
    trust(settings, issuer, entitlements=ROLES, object_keys=True)
    assert entitlements_of(token_of(issuer, **OBJECT)) == ["ml", "ops"]


def test_an_object_is_warned_of_once_for_each_issuer_without_its_values(
    issuer: Provider, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    trust(settings, issuer, entitlements=ROLES)
    for number in range(3):
        assert entitlements_of(token_of(issuer, jti=str(number), **OBJECT)) == []
    [warning] = [record.getMessage() for record in caplog.records if record.name == "accounts.issuers"]
    assert f"The claim {ROLES!r} of {issuer.issuer!r} is an object" in warning
    assert '"object_keys": true' in warning
    assert "4711" not in warning
    assert "ops" not in warning


@pytest.mark.parametrize(
    ("path", "claims", "expected"),
    [
        (
            "resource_access/https://drift.example.org/api/roles",
            {"resource_access": {"https://drift.example.org/api": {"roles": ["ml", "ops"]}}},
            ["ml", "ops"],
        ),
        ("https://a.example/roles/drift", {"https://a.example/roles": {"drift": "ml"}}, ["ml"]),
        ("a/b/c", {"a/b": {"c": "longest"}, "a": {"b": {"c": "shortest"}}}, ["longest"]),
        ("a/b/c", {"a/b": {"x": "y"}, "a": {"b": {"c": "shortest"}}}, ["shortest"]),
        ("a/b/c", {"a/b": {"x": "y"}, "a": "b"}, []),
    ],
)
def test_names_in_the_path_of_the_entitlements_may_hold_slashes(
    path: str, claims: Claims, expected: list[str], issuer: Provider, settings: Settings
) -> None:
    trust(settings, issuer, entitlements=path)
    assert entitlements_of(token_of(issuer, **claims)) == expected
