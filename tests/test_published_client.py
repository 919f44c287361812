"""The published Python client, unmodified, against the service as it runs in production.

Everything is real and over HTTP: gunicorn, MongoDB, an OpenID provider with its authorization-code flow, and the client
in its own environment (`make .venv-client/client`). Only the mytoken server is a stand-in: it exchanges a user's name,
in place of a mytoken, for a new token of that user.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from examples.mytoken import mytoken_server
from tests.live import ROOT, LiveServer
from tests.ports import free_port
from tests.times import time_of

AUDIENCE = "driftwatch"

Facts = dict[str, Any]
Run = Callable[..., Facts]


class OpenIDProvider:
    """An OpenID provider in its own process. It logs any user in without a password."""

    def __init__(self) -> None:
        port = free_port()
        self.issuer = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([sys.executable, "-m", "oidc_provider_mock", "--port", str(port)])

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while not self.responses():
            assert self.process.poll() is None, "The OpenID provider ended."
            assert time.monotonic() < deadline, "The OpenID provider does not respond."
            time.sleep(0.1)

    def responses(self) -> bool:
        try:
            return requests.get(f"{self.issuer}/.well-known/openid-configuration", timeout=2).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def set_claims(self, subject: str, **claims: Any) -> None:
        requests.put(f"{self.issuer}/users/{subject}", json=claims, timeout=5).raise_for_status()

    def sign_in(self, subject: str) -> str:
        """A user's ID token, by the authorization-code flow: the provider's access tokens are opaque, not JWTs."""
        callback = {"client_id": AUDIENCE, "redirect_uri": "http://localhost/callback"}
        redirect = requests.post(
            f"{self.issuer}/oauth2/authorize",
            params={**callback, "response_type": "code", "scope": "openid email"},
            data={"sub": subject},
            allow_redirects=False,
            timeout=5,
        )
        [code] = parse_qs(urlsplit(redirect.headers["Location"]).query)["code"]
        response = requests.post(
            f"{self.issuer}/oauth2/token",
            data={**callback, "grant_type": "authorization_code", "code": code, "client_secret": "any"},
            timeout=5,
        )
        response.raise_for_status()
        return response.json()["id_token"]


@pytest.fixture(scope="module")
def openid() -> Iterator[OpenIDProvider]:
    provider = OpenIDProvider()
    try:
        provider.wait_until_ready()
        yield provider
    finally:
        provider.stop()


@pytest.fixture(scope="module")
def service(openid: OpenIDProvider, testrun_uid: str, worker_id: str) -> Iterator[LiveServer]:
    server = LiveServer(
        MONGODB_NAME=f"published_client_{testrun_uid[:8]}_{worker_id}",
        OIDC_ISSUERS=json.dumps([{"issuer": openid.issuer, "audience": [AUDIENCE], "entitlements": "groups"}]),
        OIDC_USER_ENTITLEMENTS='["users"]',
        OIDC_ADMIN_ENTITLEMENTS='["admins"]',
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def run(openid: OpenIDProvider, service: LiveServer) -> Iterator[Run]:
    """Run a scenario of `tests/client/script.py` as a user with some groups, and return its results."""
    with mytoken_server(openid.sign_in) as mytoken_url:

        def run(scenario: str, person: str, *groups: str, email: str | None = None) -> Facts:
            openid.set_claims(
                person, email=email or f"{person}@example.org", email_verified=True, groups=["users", *groups]
            )
            client = {
                "DRIFT_MONITOR_URL": service.url,
                "DRIFT_MONITOR_MYTOKEN": person,
                "MYTOKEN_SERVER": mytoken_url,
            }
            printed = subprocess.run(
                [ROOT / ".venv-client/bin/python", ROOT / "tests/client/script.py", scenario],
                env={**os.environ, **client},
                stdout=subprocess.PIPE,
                timeout=60,
                check=True,
            ).stdout
            return json.loads(printed)

        yield run


def test_a_newcomer_registers_by_accepting_the_terms(run: Run, openid: OpenIDProvider) -> None:
    facts = run("registration", "newcomer")
    assert facts["terms_not_accepted"] == "You must accept the terms of service."
    assert facts["registered"] is None
    assert facts["user"].keys() == {"id", "created_at", "subject", "issuer", "email"}
    assert facts["user"]["subject"] == "newcomer"
    assert facts["user"]["issuer"] == openid.issuer
    assert facts["user"]["email"] == "newcomer@example.org"


def test_registering_again_refreshes_the_email_of_the_same_user(run: Run) -> None:
    before = run("registration", "mover", email="mover@old.example.org")["user"]
    after = run("registration", "mover", email="mover@new.example.org")["user"]
    assert before["email"] == "mover@old.example.org"
    assert after == before | {"email": "mover@new.example.org"}


def test_users_read_only_their_own_record(run: Run) -> None:
    facts = run("users", "ada", "tasters")
    assert facts["posted"]["subject"] == "ada"
    assert facts["posted_again"] == 409
    assert facts["self"] == facts["updated"] == facts["posted"]
    assert facts["entitlements"] == ["tasters", "users"]
    assert facts["searched"] == 403


def test_an_administrator_searches_users(run: Run) -> None:
    facts = run("administration", "administrator", "admins")
    assert [user["email"] for user in facts["found"]] == ["administrator@example.org"]
    pages = {"total_pages": 1, "first_page": 1, "last_page": 1, "page": 1}
    assert facts["pagination"] == {"total": 1, "total_is_exact": True, **pages}


@pytest.fixture(scope="module")
def experiments(run: Run) -> Facts:
    return run("experiments", "taster")


def test_an_experiment_is_created_with_the_given_permissions_and_its_creators_own(experiments: Facts) -> None:
    made, posted = experiments["made"], experiments["posted"]
    own = {"entity": experiments["user"]["id"], "level": "Manage"}
    assert made["name"] == "wine"
    assert made["description"] == "White wines"
    assert made["public"] is False
    assert made["permissions"] == [{"entity": "tasters", "level": "Read"}, own]
    assert posted["public"] is True
    assert posted["permissions"] == [own]


def test_two_experiments_cannot_share_a_name(experiments: Facts) -> None:
    assert experiments["made_again"] == "Experiment already exists."
    assert experiments["posted_again"] == 409


def test_an_experiment_is_found_by_id_by_name_and_by_filter(experiments: Facts) -> None:
    made = experiments["made"]
    assert experiments["got"] == experiments["found"] == made
    # Two match, newest first: with a page size of one, the older one is on the second page.
    assert experiments["second_page"] == [made]
    pages = {"total_pages": 2, "first_page": 1, "last_page": 2, "page": 2, "previous_page": 1}
    assert experiments["pagination"] == {"total": 2, "total_is_exact": True, **pages}


def test_an_experiment_is_updated_then_deleted(experiments: Facts) -> None:
    made, put = experiments["made"], experiments["put"]
    assert put == made | {"description": "White wines of two years", "updated_at": put["updated_at"]}
    assert time_of(put["updated_at"]) > time_of(made["updated_at"])
    assert experiments["deleted"] is None
    assert experiments["got_deleted"] == 404
    assert experiments["found_deleted"] == []


@pytest.fixture(scope="module")
def monitored_runs(run: Run) -> Facts:
    return run("monitored_runs", "monitor")


def test_a_monitored_run_is_running_until_it_is_completed(monitored_runs: Facts) -> None:
    [running], [completed] = monitored_runs["running"], monitored_runs["completed"]
    assert running["job_status"] == "Running"
    assert running["verdict"] == "unknown"
    assert running["model"] == "forest"
    assert running["tags"] == ["nightly"]
    assert completed["verdict"] == "drift"
    what_the_detector_said = ("job_status", "drift_detected", "parameters", "verdict", "updated_at")
    assert completed == running | {name: completed[name] for name in what_the_detector_said}


def test_numpy_values_are_stored_as_json(monitored_runs: Facts) -> None:
    [completed] = monitored_runs["completed"]
    assert completed["drift_detected"] is True
    assert completed["parameters"] == {
        "p_value": 0.003,
        "window": 500,
        "rejected": True,
        "features": {"statistics": [[0.25, 0.5], [0.75, 1.0]], "order": [2, 1]},
    }


def test_a_monitored_run_that_ends_in_an_exception_has_failed_and_is_not_drift(monitored_runs: Facts) -> None:
    [failed] = monitored_runs["failed"]
    assert failed["model"] == "network"
    assert failed["parameters"] == {"epochs": 3}
    assert failed["drift_detected"] is True
    assert failed["verdict"] == "unknown"
    assert monitored_runs["drifted"] == monitored_runs["completed"]


def test_a_field_map_fills_fields_that_the_client_cannot_send(run: Run) -> None:
    facts = run("mapped_runs", "mapper")
    reported, put, [unsupported] = facts["reported"], facts["put"], facts["unsupported"]
    assert reported["parameters"]["p_value"] == reported["p_value"] == 0.003
    assert (reported["detector"], reported["sample_size"]) == ("ks", 500)
    assert reported["observed_at"] == "2026-01-31T00:00:00Z"
    assert reported["series"] == {"detector": "ks", "model": "forest"}
    assert (put["p_value"], put["detector"], put["sample_size"]) == (None, None, 20)
    assert put["observed_at"] == put["created_at"]
    assert put["series"] == unsupported["series"] == {"model": "forest"}
    assert unsupported["verdict"] == "no_drift"


@pytest.fixture(scope="module")
def drift_runs(run: Run) -> Facts:
    return run("drift_runs", "operator")


def test_a_drift_run_is_created_and_read(drift_runs: Facts) -> None:
    posted = drift_runs["posted"]
    assert posted["job_status"] == "Running"
    assert posted["model"] == "forest"
    assert posted["tags"] == ["nightly"]
    assert posted["drift_detected"] is False
    assert posted["parameters"] == {}
    assert posted["schema_version"]
    assert drift_runs["got"] == posted


def test_a_drift_run_is_replaced_and_found_by_its_parameters(drift_runs: Facts) -> None:
    posted, put = drift_runs["posted"], drift_runs["put"]
    changes = {"job_status": "Completed", "drift_detected": True, "verdict": "drift", "parameters": {"p_value": 0.003}}
    assert put == posted | changes | {"updated_at": put["updated_at"]}
    assert drift_runs["found"] == [put]
    assert drift_runs["pagination"]["total"] == 1


def test_a_deletion_of_a_drift_run_deletes_no_other(drift_runs: Facts) -> None:
    assert drift_runs["deleted"] is None
    assert drift_runs["got_deleted"] == 404
    assert drift_runs["left"] == [drift_runs["posted"]["id"]]
