"""Bearer tokens: every kind of invalid token is a 401, and every kind of valid token is accepted."""

import contextlib
import hmac
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.management import CommandError, call_command
from django.utils.crypto import salted_hmac
from jwt.utils import base64url_decode, base64url_encode
from pytest_django import Settings

from accounts import issuers
from accounts.authentication import identify, trusted_issuers
from accounts.exceptions import IssuerUnavailable
from accounts.fetching import MAX_WAITING
from accounts.issuers import TrustedIssuer
from accounts.models import ServiceToken
from accounts.tokens import access_token
from core import timestamps
from tests.caller import Caller
from tests.profiler import commands
from tests.provider import Provider, SigningKey, compact, present

NOW = int(time.time())
HOUR = 3600
YEAR = 365 * 24 * HOUR
SURROGATE = "\ud800"
Claims = dict[str, Any]
Sign = Callable[[bytes], bytes]


@pytest.fixture(scope="session")
def rsa_key() -> SigningKey:
    """A key like those of the trusted provider, but not one of them. RSA keys take long to make."""
    return SigningKey("first")


@pytest.fixture
def attacker(rsa_key: SigningKey) -> Iterator[Provider]:
    """A provider that the service does not trust."""
    with running(rsa_key) as provider:
        yield provider


@pytest.fixture
def second(settings: Settings) -> Iterator[Provider]:
    """A second trusted provider, for any audience."""
    with running(SigningKey("first", "ES256")) as provider:
        trust(settings, provider.issuer)
        yield provider


@pytest.fixture
def claims(provider: Provider) -> Claims:
    """The claims of a valid token."""
    return provider.claims("someone", "users")


@contextlib.contextmanager
def running(key: SigningKey) -> Iterator[Provider]:
    provider = Provider(key)
    try:
        yield provider
    finally:
        provider.stop()


def trust(settings: Settings, issuer: str, entitlements: str = "realm_access/roles") -> None:
    others = [known for known in settings.OIDC_ISSUERS if known["issuer"] != issuer]
    settings.OIDC_ISSUERS = [*others, {"issuer": issuer, "entitlements": entitlements}]
    trusted_issuers.cache_clear()


def assert_refused(authorization: str) -> None:
    """Require a 401 in the one error shape, at an endpoint that needs a user and at one that does not."""
    for method, path, body in (("GET", "/user/self", None), ("POST", "/experiment/search", {})):
        response = Caller().request(method, path, body, headers={"Authorization": authorization})
        assert response.status_code == 401, (path, response.content)
        assert response["WWW-Authenticate"].startswith("Bearer"), path
        refused = response.json()
        assert refused.keys() == {"code", "status", "message", "request_id"}
        assert (refused["code"], refused["status"]) == (401, "Unauthorized")
        assert len(refused["message"]) > 20


def assert_token_refused(token: str) -> None:
    assert_refused(f"Bearer {token}")


def assert_accepted(token: str) -> None:
    """Require that the token is authenticated; its owner is advised to register."""
    response = Caller(token).get("/user/self")
    assert response.status_code == 403, response.content
    assert "not registered" in response.json()["message"]


# The header field, with the format of its value for a valid token.

MALFORMED: dict[str, Callable[[str], str]] = {
    "no token": lambda token: "Bearer",
    "no token after a space": lambda token: "Bearer ",
    "a password": lambda token: "Bearer password",
    "three parts that are no JWT": lambda token: "Bearer a.b.c",
    "three empty parts": lambda token: "Bearer ..",
    "two tokens": lambda token: f"Bearer {token} {token}",
    "two tokens with a comma": lambda token: f"Bearer {token},{token}",
    "two fields in one": lambda token: f"Bearer {token}, Bearer {token}",
    "no space": lambda token: f"Bearer{token}",
    "a tab for the space": lambda token: f"Bearer\t{token}",
    "quotes": lambda token: f'Bearer "{token}"',
    "a parameter": lambda token: f'Bearer token="{token}"',
    "a letter of Latin-1": lambda token: f"Bearer {token}\N{LATIN SMALL LETTER E WITH ACUTE}",
    "a letter beyond Latin-1": lambda token: f"Bearer \N{CYRILLIC SMALL LETTER A}{token}",
    "a NUL": lambda token: f"Bearer {token}\0",
    "a line break": lambda token: f"Bearer {token}\n",
    "four parts": lambda token: f"Bearer {token}.{token.rpartition('.')[2]}",
    "one character less": lambda token: f"Bearer {token[:-1]}",
    "half a token": lambda token: f"Bearer {token[: len(token) // 2]}",
    "an empty signature": lambda token: f"Bearer {token.rpartition('.')[0]}.",
    "no signature": lambda token: f"Bearer {token.rpartition('.')[0]}",
    "a header nested without end": lambda token: f"Bearer {nested(4_000)}.{token.partition('.')[2]}",
    "claims nested without end": lambda token: f"Bearer e30.{nested(4_000)}.e30",
}


def nested(depth: int) -> str:
    return base64url_encode(b'{"a":' + b"[" * depth + b"]" * depth + b"}").decode()


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_header_is_refused(header: Callable[[str], str], provider: Provider) -> None:
    assert_refused(header(provider.token("someone", "users")))


@pytest.mark.parametrize("place", [0, 100, -1], ids=["first", "middle", "last"])
def test_a_signature_with_a_byte_changed_is_refused(place: int, provider: Provider) -> None:
    message, _, signature = provider.token("someone", "users").rpartition(".")
    changed = bytearray(base64url_decode(signature))
    changed[place] ^= 1
    assert_token_refused(f"{message}.{base64url_encode(bytes(changed)).decode()}")


def test_claims_replaced_under_a_signature_are_refused(provider: Provider) -> None:
    header, _, signature = provider.token("someone", "users").split(".")
    _, better_claims, _ = provider.token("someone", "admins").split(".")
    assert_token_refused(f"{header}.{better_claims}.{signature}")


def test_a_valid_token_of_more_than_12000_characters_is_refused(provider: Provider) -> None:
    assert_accepted(provider.token("someone", "users", groups="g" * 8_000))
    assert_token_refused(provider.token("someone", "users", groups="g" * 9_000))


# The token's header: its statements about the signature decide nothing.

LYING_HEADERS: dict[str, dict[str, Any]] = {
    "alg none over a signature": {"alg": "none"},
    "alg empty": {"alg": ""},
    "alg missing": {"alg": None},
    "alg in lower case": {"alg": "rs256"},
    "alg unknown": {"alg": "RS1"},
    "alg of another length": {"alg": "RS512"},
    "alg of another padding": {"alg": "PS256"},
    "alg of another kind of key": {"alg": "ES256"},
    "alg a number": {"alg": 256},
    "alg a list": {"alg": ["RS256"]},
    "alg an object": {"alg": {"RS256": True}},
    "an extension that must be understood": {"crit": ["urn:example:extension"], "urn:example:extension": True},
    "an extension that is a lone surrogate": {"crit": [SURROGATE]},
    "an extension with a NUL": {"crit": ["\0"]},
    "an extension of 5,000 characters": {"crit": ["x" * 5_000]},
    "a payload that is not encoded": {"crit": ["b64"], "b64": False},
    "kid unknown": {"kid": "no-such-key"},
    "kid empty": {"kid": ""},
    "kid in another case": {"kid": "FIRST"},
    "kid a path": {"kid": "../../../../../../dev/null"},
    "kid a URL of a file": {"kid": "file:///dev/null"},
    "kid SQL": {"kid": "first' OR '1'='1"},
    "kid more SQL": {"kid": "x' UNION SELECT 'secret' -- "},
    "kid an operator": {"kid": {"$ne": ""}},
    "kid a list": {"kid": ["first"]},
    "kid a number": {"kid": 1},
    "kid with a NUL": {"kid": "first\0"},
    "kid with a lone surrogate": {"kid": SURROGATE},
    "kid very long": {"kid": "k" * 5_000},
}


@pytest.mark.parametrize("header", LYING_HEADERS.values(), ids=LYING_HEADERS)
def test_a_header_that_does_not_fit_the_published_key_is_refused(
    header: dict[str, Any], provider: Provider, claims: Claims
) -> None:
    assert_token_refused(provider.sign(claims, **header))


@pytest.mark.parametrize("header", [["RS256"], "RS256", None], ids=["list", "text", "null"])
def test_a_header_that_is_not_an_object_is_refused(header: Any, provider: Provider, claims: Claims) -> None:
    assert_token_refused(compact(header, claims, provider.keys[0].sign))


@pytest.mark.parametrize("payload", [["someone"], "someone", None], ids=["list", "text", "null"])
def test_claims_that_are_not_an_object_are_refused(payload: Any, provider: Provider) -> None:
    assert_token_refused(provider.sign(payload))


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "NONE"])
def test_a_token_without_a_signature_is_refused(algorithm: str, claims: Claims) -> None:
    assert_token_refused(compact({"alg": algorithm}, claims, lambda _: b""))


def pem_of(key: SigningKey) -> bytes:
    pem: bytes = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


# Secrets that everybody knows.
PUBLIC_SECRETS: dict[str, Callable[[SigningKey], bytes]] = {
    "PEM": pem_of,
    "PEM without its last line break": lambda key: pem_of(key).strip(),
    "JWK": lambda key: json.dumps(key.public_jwk).encode(),
    "modulus": lambda key: base64url_decode(key.public_jwk["n"]),
    "nothing": lambda key: b"",
}


@pytest.mark.parametrize("secret", PUBLIC_SECRETS.values(), ids=PUBLIC_SECRETS)
def test_a_public_key_is_not_accepted_as_a_secret(
    secret: Callable[[SigningKey], bytes], provider: Provider, claims: Claims
) -> None:
    key = provider.keys[0]
    assert_token_refused(compact({"alg": "HS256", "kid": key.key_id}, claims, hmac_with(secret(key))))


def hmac_with(secret: bytes, digest: str = "sha256") -> Sign:
    return lambda message: hmac.digest(secret, message, digest)


@pytest.mark.parametrize("key_id", ["first", None], ids=["the known key id", "no key id"])
def test_another_key_is_refused(key_id: str | None, provider: Provider, attacker: Provider, claims: Claims) -> None:
    assert_token_refused(provider.sign(claims, attacker.keys[0], kid=key_id and provider.keys[0].key_id))


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS384", "PS512"])
def test_a_key_signs_with_no_algorithm_but_the_published_one(
    algorithm: str, provider: Provider, claims: Claims
) -> None:
    published = provider.keys[0]
    assert_token_refused(provider.sign(claims, SigningKey(published.key_id, algorithm, published.private)))


@pytest.mark.parametrize("member", ["jku", "x5u", "x5c", "jwk"])
@pytest.mark.parametrize("names_known_key", [True, False], ids=["the known key id", "a key id of its own"])
def test_a_key_named_in_the_token_is_neither_used_nor_fetched(
    member: str, names_known_key: bool, provider: Provider, attacker: Provider, claims: Claims
) -> None:
    key = SigningKey(provider.keys[0].key_id if names_known_key else "own", private=attacker.keys[0].private)
    attacker.keys = [key]
    where = key.public_jwk if member == "jwk" else f"{attacker.issuer}/keys"
    assert_token_refused(provider.sign(claims, key, **{member: [where] if member == "x5c" else where}))
    assert not attacker.requests


# Issuers that are not trusted: functions of the trusted issuer's name and the attacker's.

UNTRUSTED: dict[str, Callable[[str, str], Any]] = {
    "a trailing slash": lambda trusted, _: f"{trusted}/",
    "upper case": lambda trusted, _: trusted.upper(),
    "one path more": lambda trusted, _: f"{trusted}/realms/other",
    "a path that leads back": lambda trusted, _: f"{trusted}/realms/../",
    "an empty query": lambda trusted, _: f"{trusted}?",
    "an empty fragment": lambda trusted, _: f"{trusted}#",
    "a space": lambda trusted, _: f"{trusted} ",
    "a NUL": lambda trusted, _: f"{trusted}\0",
    "a lone surrogate": lambda trusted, _: f"{trusted}{SURROGATE}",
    "a full-width digit": lambda trusted, _: trusted.replace("1", "\N{FULLWIDTH DIGIT ONE}", 1),
    "an ideographic full stop": lambda trusted, _: trusted.replace(".", "\N{IDEOGRAPHIC FULL STOP}", 1),
    "another scheme": lambda trusted, _: trusted.replace("http:", "https:"),
    "another name of the host": lambda trusted, _: trusted.replace("127.0.0.1", "localhost"),
    "no port": lambda trusted, _: trusted.rpartition(":")[0],
    "the name cut short": lambda trusted, _: trusted[:-1],
    "a user before the host": lambda trusted, _: trusted.replace("//", "//someone@"),
    "the trusted host as a user": lambda trusted, evil: evil.replace("//", f"//{trusted.partition('//')[2]}@"),
    "the attacker": lambda _, evil: evil,
    "the service itself": lambda *_: "driftwatch",
    "nothing": lambda *_: "",
    "a list": lambda trusted, _: [trusted],
    "an object": lambda trusted, _: {trusted: True},
    "a number": lambda *_: 1,
}


@pytest.mark.parametrize("name", UNTRUSTED.values(), ids=UNTRUSTED)
def test_an_untrusted_issuer_is_refused_and_never_contacted(
    name: Callable[[str, str], Any], provider: Provider, attacker: Provider
) -> None:
    issuer = name(provider.issuer, attacker.issuer)
    for signer in (provider, attacker):
        assert_token_refused(signer.token("someone", "users", iss=issuer))
    assert not provider.requests
    assert not attacker.requests


def test_one_trusted_issuer_cannot_sign_for_another(
    provider: Provider, second: Provider, rsa_key: SigningKey, claims: Claims
) -> None:
    second.keys = [rsa_key]
    for key_id in ("first", None):
        assert_token_refused(second.sign(claims, kid=key_id))
    assert_accepted(second.sign(claims | {"iss": second.issuer}))


def test_the_same_subject_at_another_issuer_is_another_user(second: Provider, manager: Caller) -> None:
    assert manager.get("/user/self").status_code == 200
    assert_accepted(second.token("manager", "users"))


# Claims under a valid signature.

WRONG_CLAIMS: dict[str, Claims] = {
    "another audience": {"aud": "billing"},
    "other audiences": {"aud": ["billing", "shop"]},
    "a longer audience": {"aud": "driftwatch-staging"},
    "a shorter audience": {"aud": "drift"},
    "an upper-case audience": {"aud": "DRIFTWATCH"},
    "an ID token of another client": {"aud": "shop", "azp": "shop", "nonce": "n-0S6_WzA2Mj"},
    "no audience": {"aud": None},
    "an empty audience": {"aud": ""},
    "an empty list of audiences": {"aud": []},
    "an audience that is an object": {"aud": {"driftwatch": True}},
    "an audience that is a number": {"aud": 1},
    "audiences that are not all text": {"aud": ["driftwatch", 1]},
    "expired": {"exp": NOW - HOUR},
    "expired in 1970": {"exp": 0},
    "no expiry": {"exp": None},
    "an expiry in words": {"exp": "never"},
    "an expiry that is a list": {"exp": [NOW + HOUR]},
    "an infinite expiry": {"exp": float("inf")},
    "an expiry that is not a number": {"exp": float("nan")},
    "an expiry in digits": {"exp": str(NOW + HOUR)},
    "an expiry that is a boolean": {"exp": True},
    "an expiry beyond all numbers": {"exp": 10**400},
    "a start in digits": {"nbf": str(NOW)},
    "a start that is an object": {"nbf": {}},
    "a time of issue in digits": {"iat": str(NOW)},
    "a time of issue that is a list": {"iat": [NOW]},
    "a time of issue below all numbers": {"iat": -(10**400)},
    "not valid yet": {"nbf": NOW + HOUR},
    "a start in words": {"nbf": "tomorrow"},
    "issued in the far future": {"iat": NOW + YEAR, "exp": NOW + 2 * YEAR},
    "no issuer": {"iss": None},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject that is a list": {"sub": ["someone"]},
    "a subject that is an operator": {"sub": {"$gt": ""}},
    "a subject with a lone surrogate": {"sub": SURROGATE},
    "an unverified email": {"email_verified": False},
    "an unverified email, in words": {"email_verified": "false"},
    "an email verified by a number": {"email_verified": 1},
    "an email nobody speaks for": {"email_verified": None},
    "no email": {"email": None},
    "an empty email": {"email": ""},
    "an email without @": {"email": "someone"},
    "an email with a line break": {"email": "someone\n@example.org"},
    "an email with a line separator": {"email": "someone@example.org\u2028"},
    "an email with a space": {"email": "some one@example.org"},
    "an email that ends in a line break": {"email": "someone@example.org\n"},
    "an email that is a list": {"email": ["someone@example.org"]},
    "an email with a lone surrogate": {"email": f"{SURROGATE}@example.org"},
}


@pytest.mark.parametrize("wrong", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
def test_a_token_with_wrong_claims_is_refused(wrong: Claims, provider: Provider) -> None:
    provider.userinfo = {"sub": "someone"}
    assert_token_refused(provider.token("someone", "users", **wrong))


RIGHT_CLAIMS: dict[str, Claims] = {
    "one audience": {"aud": "driftwatch"},
    "one of several audiences": {"aud": ["billing", "driftwatch"]},
    "a clock a little ahead": {"iat": NOW + 10, "nbf": NOW + 10},
    "no time of issue": {"iat": None},
    "a fraction of a second": {"exp": NOW + HOUR + 0.5},
    "an email verified in words": {"email_verified": "true"},
    "claims that mean nothing here": {"$where": "1", "a.b": {"": ["\0"]}, SURROGATE: SURROGATE},
}


@pytest.mark.parametrize("right", RIGHT_CLAIMS.values(), ids=RIGHT_CLAIMS)
def test_a_token_with_right_claims_is_accepted(right: Claims, provider: Provider) -> None:
    assert_accepted(provider.token("someone", "users", **right))


@pytest.mark.parametrize("audience", [None, "billing", ["billing", "shop"]], ids=["none", "another", "others"])
def test_an_issuer_trusted_for_any_audience_may_name_any(audience: Any, second: Provider) -> None:
    assert_accepted(second.token("someone", "users", aud=audience))


@pytest.mark.parametrize("audience", [1, {"driftwatch": True}, ["driftwatch", 1]], ids=["number", "object", "mixed"])
def test_an_issuer_trusted_for_any_audience_may_name_no_audience_of_another_type(
    audience: Any, second: Provider
) -> None:
    assert_token_refused(second.token("someone", "users", aud=audience))


@pytest.mark.parametrize(
    "wrong", [{"exp": str(NOW + HOUR)}, {"nbf": str(NOW)}, {"iat": str(NOW)}], ids=["exp", "nbf", "iat"]
)
def test_times_in_digits_are_refused_to_a_registered_user_too(
    wrong: Claims, provider: Provider, manager: Caller
) -> None:
    assert_token_refused(provider.token("manager", "users", **wrong))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_written_in_any_case(scheme: str, provider: Provider, manager: Caller) -> None:
    response = Caller().get("/user/self", headers={"Authorization": f"{scheme} {manager.token}"})
    assert response.json()["id"] == manager.id


# Tokens that the service issued.


@pytest.fixture
def record(manager: Caller) -> ServiceToken:
    """A valid service token. The tests below change one thing of it each."""
    assert manager.user
    return ServiceToken.objects.issue(
        manager.user, "nightly", timedelta(hours=1), entitlements=["users"], issued_by_operator=True
    )


def local_claims(record: ServiceToken, **changes: Any) -> Claims:
    says = {"iss": "driftwatch", "sub": record.user.subject, "token_type": "access", "jti": str(record.id)}
    return present({**says, "iat": NOW, "exp": NOW + HOUR, **changes})


LOCAL_FORGERIES: dict[str, tuple[str, str | None, Claims]] = {
    "another secret": ("HS256", "a secret of somebody else's, long enough for HS256", {}),
    "an empty secret": ("HS256", "", {}),
    "another algorithm": ("HS512", None, {}),
    "no algorithm": ("none", None, {}),
    "expired": ("HS256", None, {"exp": NOW - HOUR}),
    "no expiry": ("HS256", None, {"exp": None}),
    "not for access": ("HS256", None, {"token_type": "refresh"}),
    "of no type": ("HS256", None, {"token_type": None}),
    "an unknown id": ("HS256", None, {"jti": "00000000-0000-4000-8000-000000000000"}),
    "no id": ("HS256", None, {"jti": None}),
    "an id that is an operator": ("HS256", None, {"jti": {"$ne": ""}}),
    "an id that is no UUID": ("HS256", None, {"jti": SURROGATE}),
    "of the time before tokens had records": ("HS256", None, {"jti": "6f1c" * 8, "entitlements": ["users"]}),
}


def raw_key(secret: str) -> bytes:
    """The key of the tokens of earlier releases."""
    return secret.encode()


def derived_key(secret: str) -> bytes:
    return salted_hmac("driftwatch.tokens", "sign", secret=secret, algorithm="sha256").digest()


FORMS = {
    "of an earlier release": ("", raw_key),
    "with the prefix": ("dw_", derived_key),
    "without its prefix": ("", derived_key),
}


@pytest.mark.parametrize(("prefix", "key"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("algorithm", "secret", "changes"), LOCAL_FORGERIES.values(), ids=LOCAL_FORGERIES)
def test_an_invalid_local_token_is_refused(
    algorithm: str,
    secret: str | None,
    changes: Claims,
    prefix: str,
    key: Callable[[str], bytes],
    record: ServiceToken,
    settings: Settings,
) -> None:
    sign = hmac_with(
        key(settings.SECRET_KEY if secret is None else secret), "sha512" if algorithm == "HS512" else "sha256"
    )
    assert_token_refused(prefix + compact({"alg": algorithm}, local_claims(record, **changes), sign))


@pytest.mark.parametrize(("prefix", "key"), FORMS.values(), ids=FORMS)
def test_a_valid_local_token_is_accepted(
    prefix: str, key: Callable[[str], bytes], record: ServiceToken, settings: Settings
) -> None:
    token = prefix + compact({"alg": "HS256"}, local_claims(record), hmac_with(key(settings.SECRET_KEY)))
    assert Caller(token).get("/user/self").status_code == 200


def test_the_key_of_earlier_releases_signs_no_token_with_the_prefix(record: ServiceToken, settings: Settings) -> None:
    token = compact({"alg": "HS256"}, local_claims(record), hmac_with(raw_key(settings.SECRET_KEY)))
    assert_token_refused(f"dw_{token}")


def test_a_token_with_the_prefix_never_goes_to_an_issuer(manager: Caller, provider: Provider) -> None:
    response = Caller(f"dw_{manager.token}").get("/user/self")
    assert response.status_code == 401
    message = response.json()["message"]
    assert message.startswith("A token that begins with dw_ is one of this service, but this one is not complete")
    assert message.endswith("Copy the whole token. Get a new token and try again.")
    assert not provider.requests


# A clock may differ by 30 seconds. Five seconds are for the test itself.


@pytest.mark.parametrize(
    "claims",
    [lambda: {"exp": time.time() - 25}, lambda: {"nbf": time.time() + 25}, lambda: {"iat": time.time() + 25}],
    ids=["exp", "nbf", "iat"],
)
def test_a_token_of_a_clock_within_the_leeway_is_accepted(
    claims: Callable[[], Claims], record: ServiceToken, provider: Provider, manager: Caller, settings: Settings
) -> None:
    sign = hmac_with(settings.SECRET_KEY.encode())
    ServiceToken.objects.update(expires_at=timestamps.now() - timedelta(seconds=25))
    local = compact({"alg": "HS256"}, local_claims(record, **claims()), sign)
    for token in (local, provider.token("manager", "users", **claims())):
        assert Caller(token).get("/user/self").status_code == 200


@pytest.mark.parametrize(
    "claims",
    [lambda: {"exp": time.time() - 31}, lambda: {"nbf": time.time() + 35}, lambda: {"iat": time.time() + 35}],
    ids=["exp", "nbf", "iat"],
)
def test_a_token_of_a_clock_beyond_the_leeway_is_refused(
    claims: Callable[[], Claims], record: ServiceToken, provider: Provider, settings: Settings
) -> None:
    sign = hmac_with(settings.SECRET_KEY.encode())
    assert_token_refused(compact({"alg": "HS256"}, local_claims(record, **claims()), sign))
    assert_token_refused(provider.token("manager", "users", **claims()))


def test_a_revoked_token_is_refused_within_the_leeway(record: ServiceToken) -> None:
    ServiceToken.objects.update(expires_at=timestamps.now() - timedelta(seconds=5))
    token = access_token(record)
    assert Caller(token).get("/user/self").status_code == 200
    ServiceToken.objects.all().revoke()
    assert_token_refused(token)


def test_a_local_token_is_refused_once_its_user_is_deleted(record: ServiceToken) -> None:
    token = access_token(record)
    assert Caller(token).get("/user/self").json()["id"] == str(record.user.id)
    record.user.delete()
    assert_token_refused(token)


def test_a_trusted_issuer_cannot_sign_for_the_service(provider: Provider, record: ServiceToken) -> None:
    assert_token_refused(provider.sign(local_claims(record)))


# Keys.


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
def test_each_asymmetric_algorithm_is_accepted(algorithm: str, second: Provider) -> None:
    second.keys = [SigningKey("labelled", algorithm), SigningKey("bare", algorithm, alg=None, use=None)]
    for key in second.keys:
        assert_accepted(second.token("someone", "users", key=key))


def test_a_token_without_a_key_id_is_accepted_where_one_key_fits(second: Provider) -> None:
    second.keys = [
        SigningKey("first", "ES256"),
        SigningKey("other", "ES384"),
        SigningKey("sealing", "ES256", use="enc"),
    ]
    assert_accepted(second.sign(second.claims("someone", "users"), kid=None))


def test_a_token_without_a_key_id_is_accepted_where_the_key_has_none_either(second: Provider) -> None:
    second.keys = [SigningKey("first", "ES256", kid=None)]
    assert_accepted(second.sign(second.claims("someone", "users"), kid=None))


def test_a_key_for_encryption_signs_nothing(second: Provider) -> None:
    second.keys = [SigningKey("first", "ES256", use="enc")]
    assert_token_refused(second.token("someone", "users"))


@pytest.mark.parametrize("algorithm", ["ES384", "ES512"])
def test_a_key_of_another_curve_than_the_algorithm_s_is_refused(algorithm: str, second: Provider) -> None:
    second.keys = [SigningKey("first", "ES256", alg=None)]
    assert_token_refused(second.sign(second.claims("someone", "users"), alg=algorithm))


# An algorithm, and the published members of its key.
UNUSABLE_KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "without a coordinate": ("ES256", {"x": None}),
    "with a coordinate that is no base64": ("ES256", {"x": "!"}),
    "with a coordinate that is a number": ("ES256", {"x": 5}),
    "with a point that is not on the curve": ("ES256", {"x": "AA"}),
    "of an unknown curve": ("ES256", {"crv": "P-1"}),
    "of a curve for key agreement": ("EdDSA", {"crv": "X25519"}),
    "of no type": ("ES256", {"kty": None}),
    "of a type that is a list": ("ES256", {"kty": ["EC"]}),
    "that is a secret": ("ES256", {"kty": "oct", "k": "c2VjcmV0", "alg": None}),
}


@pytest.mark.parametrize(("algorithm", "members"), UNUSABLE_KEYS.values(), ids=UNUSABLE_KEYS)
def test_an_unusable_key_verifies_nothing_and_stops_no_other(
    algorithm: str, members: dict[str, Any], second: Provider
) -> None:
    good, broken = second.keys[0], SigningKey("broken", algorithm, **members)
    second.keys = [broken, good]
    assert_accepted(second.token("someone", "users", key=good))
    assert_token_refused(second.token("someone", "users", key=broken))


def test_a_new_key_is_accepted_and_a_withdrawn_one_refused_without_a_restart(
    second: Provider, settings: Settings
) -> None:
    settings.OIDC_REFETCH_INTERVAL = 0
    old = second.token("someone", "users")
    assert_accepted(old)
    second.rotate()
    assert_accepted(second.token("someone", "users"))
    assert_token_refused(old)


def test_unknown_key_ids_make_the_service_fetch_keys_at_a_limited_rate(second: Provider, settings: Settings) -> None:
    settings.OIDC_REFETCH_INTERVAL = HOUR
    good = second.token("someone", "users")
    assert_accepted(good)
    fetched = second.requests["/keys"]
    for number in range(10):
        assert_token_refused(second.sign(second.claims("someone", "users"), kid=f"unknown-{number}"))
    assert second.requests["/keys"] <= fetched + 1
    assert_accepted(good)


def test_keys_are_fetched_once_for_many_tokens(second: Provider) -> None:
    for number in range(5):
        assert_accepted(second.token(f"someone-{number}", "users"))
    assert second.requests == {"/.well-known/openid-configuration": 1, "/keys": 1}


# Issuers that are unavailable.


@pytest.mark.parametrize("lifetime", [HOUR, 0], ids=["still fresh", "due for a renewal"])
def test_tokens_are_accepted_by_cached_keys_while_the_issuer_is_down(
    lifetime: int, second: Provider, provider: Provider, settings: Settings
) -> None:
    settings.OIDC_KEYS_LIFETIME = lifetime
    settings.OIDC_REFETCH_INTERVAL = 0
    assert_accepted(second.token("someone", "users"))
    second.stop()
    assert_accepted(second.token("someone", "users"))
    assert_accepted(provider.token("someone", "users"))


def test_cached_keys_of_an_issuer_that_is_down_are_used_for_a_day_at_most(second: Provider, settings: Settings) -> None:
    assert settings.OIDC_KEYS_MAX_AGE <= 24 * HOUR
    settings.OIDC_REFETCH_INTERVAL = 0
    assert_accepted(second.token("someone", "users"))
    second.stop()
    settings.OIDC_KEYS_LIFETIME = settings.OIDC_KEYS_MAX_AGE = 0
    assert_unavailable(second.token("someone", "users"))


def test_keys_that_are_dropped_on_the_command_line_are_used_by_no_process(
    second: Provider, provider: Provider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other_process = TrustedIssuer(second.issuer)
    token = second.token("someone", "users")
    assert_accepted(token)
    other_process.verify(token)
    second.stop()
    call_command("drop_issuer_keys", second.issuer)
    assert f"{second.issuer}: within 12 seconds, no process accepts a token" in capsys.readouterr().out
    monkeypatch.setattr(issuers, "DROP_CHECK_SECONDS", 0)
    assert_unavailable(token)
    with pytest.raises(IssuerUnavailable):
        other_process.verify(token)
    assert_accepted(provider.token("someone", "users"))


def test_keys_are_dropped_once_for_each_command(second: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers, "DROP_CHECK_SECONDS", 0)
    token = second.token("someone", "users")
    for fetches in (1, 2, 3):
        assert_accepted(token)
        assert_accepted(token)
        assert second.requests["/keys"] == fetches
        call_command("drop_issuer_keys")


def test_keys_of_an_unknown_issuer_cannot_be_dropped(provider: Provider) -> None:
    with pytest.raises(CommandError, match=f"is not a configured issuer. Configured issuers: {provider.issuer}"):
        call_command("drop_issuer_keys", "https://login.example.com")


def test_keys_cannot_be_dropped_without_an_issuer(settings: Settings) -> None:
    settings.OIDC_ISSUERS = []
    with pytest.raises(CommandError, match="No issuer is configured"):
        call_command("drop_issuer_keys")


def test_drops_of_keys_are_read_every_few_seconds_not_for_each_request(second: Provider) -> None:
    assert_accepted(second.token("someone", "users"))
    with commands() as entries:
        assert_accepted(second.token("another", "users"))
    assert len(entries) == 1


def http(body: bytes, status: str = "200 OK", *fields: str, length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


def discovery(issuer: str, **members: Any) -> bytes:
    return http(json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/keys", **members}).encode())


# The response of an issuer to every request, in chunks.
UNAVAILABLE: dict[str, Callable[[str], Iterable[bytes]]] = {
    "hangs up": lambda _: [],
    "speaks no HTTP": lambda _: [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "breaks off": lambda issuer: [discovery(issuer)[:-10]],
    "fails": lambda _: [http(b"{}", "500 Internal Server Error")],
    "knows nothing of it": lambda _: [http(b"{}", "404 Not Found")],
    "responds with a page": lambda _: [http(b"<html></html>")],
    "responds with a list": lambda _: [http(b"[]")],
    "responds with JSON nested without end": lambda _: [http(b"[" * 100_000 + b"]" * 100_000)],
    "responds without UTF-8": lambda _: [http(b"\xff\xfe{}")],
    "responds without end": lambda _: [http(b" ", length=10**9), *[b" " * 65_536] * 40],
    "compresses badly": lambda _: [http(b"no gzip", "200 OK", "Content-Encoding: gzip")],
    "is another issuer": lambda issuer: [discovery(f"{issuer}/")],
    "names no keys": lambda issuer: [discovery(issuer, jwks_uri=None)],
    "names keys in a file": lambda issuer: [discovery(issuer, jwks_uri="file:///etc/passwd")],
    "names keys at no address": lambda issuer: [discovery(issuer, jwks_uri="http://[")],
    "names keys without encryption": lambda issuer: [discovery(issuer, jwks_uri="http://keys.example.org/")],
}


@contextlib.contextmanager
def responding(chunks: Callable[[str], Iterable[bytes]]) -> Iterator[str]:
    """Serve these bytes to every connection, and give the server's address."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            with contextlib.suppress(OSError):
                for chunk in chunks(address):
                    self.request.sendall(chunk)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield address
        server.shutdown()


def assert_unavailable(token: str) -> None:
    """Require a 503 in the one error shape, within seconds."""
    started = time.monotonic()
    response = Caller(token).post("/experiment/search", {})
    assert response.status_code == 503, response.content
    assert int(response["Retry-After"]) > 0
    assert response.json()["code"] == 503
    assert time.monotonic() - started < 3.5


@pytest.mark.parametrize("chunks", UNAVAILABLE.values(), ids=UNAVAILABLE)
def test_an_issuer_with_invalid_responses_is_unavailable(
    chunks: Callable[[str], Iterable[bytes]], provider: Provider, settings: Settings
) -> None:
    with responding(chunks) as issuer:
        trust(settings, issuer)
        assert_unavailable(provider.token("someone", "users", iss=issuer))


def test_an_issuer_that_is_down_is_unavailable(second: Provider) -> None:
    second.stop()
    assert_unavailable(second.token("someone", "users"))


def test_an_issuer_that_never_responds_is_unavailable(provider: Provider, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
        trust(settings, issuer)
        assert_unavailable(provider.token("someone", "users", iss=issuer))


def times_of(token: Callable[[], str], number: int) -> list[float]:
    """The seconds that concurrent requests wait for an issuer that does not respond."""

    def wait(bearer: str) -> float:
        started = time.monotonic()
        with pytest.raises(IssuerUnavailable):
            identify(bearer)
        return time.monotonic() - started

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(wait, [token() for _ in range(number)]))


def test_few_requests_wait_for_an_issuer_that_never_responds(provider: Provider, settings: Settings) -> None:
    settings.OIDC_TIMEOUT = 1.5
    with socket.create_server(("127.0.0.1", 0)) as listener:
        issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
        trust(settings, issuer)

        def token() -> str:
            return provider.token("someone", "users", iss=issuer)

        # One fetches, and some wait for it.
        assert sum(seconds > 1.2 for seconds in times_of(token, 40)) <= 1 + MAX_WAITING
        settings.OIDC_REFETCH_INTERVAL = 0
        # The failure is known: one tries again.
        assert sum(seconds > 1.2 for seconds in times_of(token, 40)) <= 1


def test_few_requests_wait_for_a_userinfo_endpoint_that_never_responds(
    second: Provider, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OIDC_TIMEOUT = 1.5
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = f"http://127.0.0.1:{listener.getsockname()[1]}"
        response = second.response
        monkeypatch.setattr(
            second,
            "response",
            lambda path, authorization: (
                {**document, "userinfo_endpoint": silent}
                if isinstance(document := response(path, authorization), dict) and "userinfo_endpoint" in document
                else document
            ),
        )
        times = times_of(lambda: second.token("someone", "users", email=None), 40)
    assert sum(seconds > 1.2 for seconds in times) <= MAX_WAITING


def test_an_issuer_that_redirects_is_unavailable_and_the_redirect_is_not_followed(
    provider: Provider, attacker: Provider, settings: Settings
) -> None:
    there = f"Location: {attacker.issuer}/.well-known/openid-configuration"
    with responding(lambda _: [http(b"", "302 Found", there)]) as issuer:
        trust(settings, issuer)
        assert_unavailable(provider.token("someone", "users", iss=issuer))
    assert not attacker.requests


def test_an_issuer_is_queried_again_once_it_is_available(second: Provider, settings: Settings) -> None:
    settings.OIDC_REFETCH_INTERVAL = 0
    keys, second.keys = second.keys, []
    assert_token_refused(second.token("someone", "users", key=keys[0]))
    second.keys = keys
    assert_accepted(second.token("someone", "users"))


# Userinfo, for claims that the token lacks.

NO_EMAIL: Claims = {"email": None, "email_verified": None}
NO_ENTITLEMENTS: Claims = {"realm_access": None}
INFO: Claims = {
    "sub": "someone",
    "email": "someone@example.com",
    "email_verified": True,
    "realm_access": {"roles": ["users", "more"]},
}


@pytest.mark.parametrize(
    ("lacking", "email", "entitlements"),
    [
        (NO_EMAIL, "someone@example.com", ["users"]),
        (NO_ENTITLEMENTS, "someone@example.org", ["more", "users"]),
        (NO_EMAIL | NO_ENTITLEMENTS, "someone@example.com", ["more", "users"]),
    ],
    ids=["email", "entitlements", "both"],
)
def test_userinfo_adds_missing_claims_and_is_requested_once(
    lacking: Claims, email: str, entitlements: list[str], second: Provider
) -> None:
    second.userinfo = INFO
    caller = Caller(second.token("someone", "users", **lacking))
    assert caller.post("/user").json()["email"] == email
    assert caller.get("/entitlement").json() == {"items": entitlements}
    assert second.requests["/userinfo"] == 1


def test_userinfo_is_not_requested_for_a_token_with_all_claims(second: Provider) -> None:
    second.userinfo = INFO
    assert_accepted(second.token("someone", "users"))
    assert "/userinfo" not in second.requests


def test_userinfo_is_requested_again_for_the_next_token(second: Provider) -> None:
    second.userinfo = INFO
    assert_accepted(second.token("someone", **NO_ENTITLEMENTS))
    second.userinfo = INFO | {"realm_access": {"roles": ["guests"]}}
    refused = Caller(second.token("someone", jti="2", **NO_ENTITLEMENTS)).get("/user/self").json()
    assert "None of your groups" in refused["message"]


WRONG_INFO: dict[str, Claims | int] = {
    "for somebody else": INFO | {"sub": "somebody else"},
    "for nobody": {key: value for key, value in INFO.items() if key != "sub"},
    "without an email": {"sub": "someone"},
    "with an unverified email": INFO | {"email_verified": False},
    "with an email nobody speaks for": INFO | {"email_verified": None},
    "that the token is refused": 401,
    "that the token is not enough": 403,
}


@pytest.mark.parametrize("info", WRONG_INFO.values(), ids=WRONG_INFO)
def test_userinfo_that_does_not_identify_the_owner_is_refused(info: Claims | int, second: Provider) -> None:
    second.userinfo = info
    assert_token_refused(second.token("someone", "users", **NO_EMAIL))


def test_failing_userinfo_makes_the_issuer_unavailable(second: Provider) -> None:
    second.userinfo = 500
    assert_unavailable(second.token("someone", "users", **NO_EMAIL))


# Entitlements, at a path of the claims.

SLASHES = "https://example.org/groups"
ENTITLEMENTS: dict[str, tuple[str, Claims, list[str]]] = {
    "a list": ("groups", {"groups": ["a", "b"]}, ["a", "b"]),
    "one string": ("groups", {"groups": "a"}, ["a"]),
    "a path": ("realm/client/roles", {"realm": {"client": {"roles": ["a"]}}}, ["a"]),
    "a name with slashes": (SLASHES, {SLASHES: ["a"]}, ["a"]),
    "a name with slashes before a path": (SLASHES, {SLASHES: ["a"], "https:": {"": {"example.org": "b"}}}, ["a"]),
    "repetitions": ("groups", {"groups": ["b", "a", "b"]}, ["a", "b"]),
    "names with spaces, colons and dollars": ("groups", {"groups": ["a b", "urn:x", "$ne"]}, ["$ne", "a b", "urn:x"]),
    "missing": ("groups", {}, []),
    "missing on the way": ("realm/roles", {"realm": {}}, []),
    "a path through text": ("realm/roles", {"realm": "roles"}, []),
    "a path through a list": ("realm/0", {"realm": ["a"]}, []),
    "an empty string": ("groups", {"groups": ""}, []),
    "a number": ("groups", {"groups": 1}, []),
    "a boolean": ("groups", {"groups": True}, []),
    "an object": ("groups", {"groups": {"admins": True}}, []),
    "a list of lists": ("groups", {"groups": [["admins"]]}, []),
    "a list of all sorts": ("groups", {"groups": ["a", 1, None, True, {}, ["b"], ""]}, ["a"]),
    "a lone surrogate": ("groups", {"groups": ["a", SURROGATE]}, ["a"]),
}


@pytest.mark.parametrize(("path", "extra", "expected"), ENTITLEMENTS.values(), ids=ENTITLEMENTS)
def test_entitlements_are_the_strings_at_the_configured_path(
    path: str, extra: Claims, expected: list[str], second: Provider, settings: Settings
) -> None:
    settings.OIDC_USER_ENTITLEMENTS = []
    trust(settings, second.issuer, entitlements=path)
    second.userinfo = {"sub": "someone"}
    caller = Caller(second.token("someone", **extra))
    assert caller.post("/user").status_code == 201
    assert caller.get("/entitlement").json() == {"items": expected}
    assert caller.post("/experiment/search", {}).json() == []
