"""The example that fails a pipeline: `examples/ci/`, against the service behind gunicorn."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUSYBOX, CURL
from tests.crowd import RemoteUser, unique
from tests.live import ROOT, LiveServer
from tests.ports import free_port
from tests.provider import Provider

DIRECTORY = ROOT / "examples/ci"
SCRIPT = DIRECTORY / "check-drift.sh"
PASS, FAIL, NOT_ASKED, UNKNOWN = range(4)
# The programs of a minimal image, all of them busybox.
APPLETS = ("awk", "mktemp", "rm", "sh", "tr")
ODD_NAME = 'petal "length" \\ \\" $.a\n\t\x01é 🌸 \\'

Outcome = tuple[int, str]


class Pipeline:
    """A pipeline that checks the model `forest` in one experiment. `programs` is a directory before its PATH."""

    def __init__(self, live: LiveServer, user: RemoteUser, programs: Path, *, public: bool = False) -> None:
        self.user = user
        experiment = user.call("POST", "/experiment", {"name": unique("wine"), "public": public}).json()
        self.path = f"/experiment/{experiment['id']}"
        self.page = f"{live.url}/experiments/{experiment['id']}"
        self.programs = programs
        self.arguments = programs / "arguments"
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "DRIFT_WATCH_URL": live.url,
            "DRIFT_WATCH_TOKEN": user.authorization["Authorization"].removeprefix("Bearer "),
            "DRIFT_WATCH_EXPERIMENT": experiment["id"],
            "DRIFT_WATCH_MODEL": "forest",
            "DRIFT_WATCH_MAX_AGE_HOURS": "24",
        }

    def report(self, drift: bool | None, hours_ago: float = 0, **fields: Any) -> str:
        """Store a run of the model, Failed if `drift` is None, and return its id."""
        body = {
            "job_status": "Failed" if drift is None else "Completed",
            "model": "forest",
            "drift_detected": bool(drift),
            "observed_at": (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat(),
            **fields,
        }
        response = self.user.call("POST", f"{self.path}/drift", body)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def check(self, shell: tuple[str, ...] = ("sh",), /, **environment: str) -> Outcome:
        """Run the script and return its exit status with its output."""
        done = subprocess.run(
            [*shell, str(SCRIPT)],
            env={**self.environment, **environment},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with a `curl` that notes its arguments, and retries once, not for half a minute."""
    if not CURL:
        pytest.skip("there is no curl here (apt-get install curl)")
    curl = tmp_path / "curl"
    curl.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/arguments"\nexec {CURL} "$@" --retry 1\n')
    curl.chmod(0o755)
    return tmp_path


@pytest.fixture
def pipeline(live: LiveServer, remote_user: RemoteUser, programs: Path) -> Pipeline:
    return Pipeline(live, remote_user, programs)


def test_no_drift_passes(pipeline: Pipeline) -> None:
    pipeline.report(drift=True, hours_ago=5)
    run = pipeline.report(drift=False, hours_ago=2.51)
    status, output = pipeline.check()
    assert status == PASS
    assert output.startswith('No drift: the newest known verdict with "model": "forest" is of 20')
    assert "2 h 30 min ago" in output
    assert f"{pipeline.page}/runs/{run}" in output


def test_drift_fails(pipeline: Pipeline) -> None:
    run = pipeline.report(drift=True, hours_ago=1)
    pipeline.report(drift=False, hours_ago=2)
    status, output = pipeline.check()
    assert status == FAIL
    assert output.startswith("Drift: ")
    assert f"{pipeline.page}/runs/{run}" in output


def test_a_verdict_that_is_too_old_fails(pipeline: Pipeline) -> None:
    run = pipeline.report(drift=False, hours_ago=24.1)
    status, output = pipeline.check()
    assert status == FAIL
    assert output.startswith("Too old: ")
    assert "24 h 6 min ago; at most 24 h are allowed" in output
    assert f"{pipeline.page}/runs/{run}" in output
    assert pipeline.check(DRIFT_WATCH_MAX_AGE_HOURS="25")[0] == PASS


@pytest.mark.parametrize("time", ["2024-02-29T23:59:59Z", "2025-12-31T00:00:00Z", "2000-03-01T12:00:00.5Z"])
def test_ages_cross_months_and_leap_years(pipeline: Pipeline, time: str) -> None:
    pipeline.report(drift=False, observed_at=time)
    seconds = (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    hours = int(seconds // 3600)
    assert pipeline.check(DRIFT_WATCH_MAX_AGE_HOURS=str(hours - 1))[0] == FAIL
    assert pipeline.check(DRIFT_WATCH_MAX_AGE_HOURS=str(hours + 2))[0] == PASS


def test_a_run_observed_ahead_of_the_service_is_not_old(pipeline: Pipeline) -> None:
    pipeline.report(drift=False, hours_ago=-3)
    status, output = pipeline.check()
    assert status == PASS
    assert "0 h 0 min ago" in output


def test_failed_and_running_runs_are_passed_over(pipeline: Pipeline) -> None:
    pipeline.report(drift=False, hours_ago=3)
    pipeline.report(drift=None)
    pipeline.report(drift=True, job_status="Running")
    assert pipeline.check()[0] == PASS


def test_without_a_known_verdict_the_result_is_unknown(pipeline: Pipeline) -> None:
    pipeline.report(drift=None)
    pipeline.report(drift=True, model="boosting")
    status, output = pipeline.check()
    assert status == UNKNOWN
    assert 'no completed run with "model": "forest"' in output
    assert pipeline.page in output


@pytest.mark.parametrize("field", ["model_version", "detector", "environment", "feature"])
def test_optional_fields_narrow_the_runs(pipeline: Pipeline, field: str) -> None:
    pipeline.report(drift=False, hours_ago=2, **{field: "one"})
    pipeline.report(drift=True, hours_ago=1, **{field: "two"})
    variable = f"DRIFT_WATCH_{field.upper()}"
    assert pipeline.check()[0] == FAIL
    assert pipeline.check(**{variable: "one"})[0] == PASS
    assert pipeline.check(**{variable: "three"})[0] == UNKNOWN


def shells() -> list[Any]:
    no_busybox = pytest.mark.skipif(not BUSYBOX, reason="there is no busybox here (apt-get install busybox)")
    return [
        pytest.param(("sh",), id="sh"),
        pytest.param(("bash", "--posix"), id="bash"),
        pytest.param(("busybox", "sh"), id="busybox", marks=no_busybox),
    ]


@pytest.mark.parametrize("shell", shells())
def test_names_and_parameters_with_odd_characters(pipeline: Pipeline, shell: tuple[str, ...]) -> None:
    if shell[0] == "busybox":
        for applet in APPLETS:
            (pipeline.programs / applet).symlink_to(str(BUSYBOX))
    pipeline.report(drift=False, hours_ago=2)
    decoys = {"id": "x", "verdict": "drift", 'a\\"}],[{': ["\\", '"', {"verdict": "drift", "observed_at": "2001"}]}
    odd = {"model": ODD_NAME, "feature": ODD_NAME, "parameters": decoys}
    status, output = pipeline.check(shell, DRIFT_WATCH_MODEL=ODD_NAME)
    assert status == UNKNOWN, output
    run = pipeline.report(drift=False, hours_ago=1, **odd)
    status, output = pipeline.check(shell, DRIFT_WATCH_MODEL=ODD_NAME, DRIFT_WATCH_FEATURE=ODD_NAME)
    assert status == PASS, output
    assert len(output.splitlines()) == 2
    assert run in output


def test_large_runs_are_read(pipeline: Pipeline) -> None:
    pipeline.report(drift=True, parameters={"text": '"' * 300_000, "numbers": list(range(50_000))})
    assert pipeline.check()[0] == FAIL


def test_the_token_is_not_among_the_arguments_of_curl(pipeline: Pipeline) -> None:
    assert pipeline.check()[0] == UNKNOWN
    assert "drift/search" in pipeline.arguments.read_text()
    assert pipeline.environment["DRIFT_WATCH_TOKEN"] not in pipeline.arguments.read_text()


def test_a_public_experiment_needs_no_token(live: LiveServer, remote_user: RemoteUser, programs: Path) -> None:
    pipeline = Pipeline(live, remote_user, programs, public=True)
    pipeline.report(drift=False)
    assert pipeline.check(DRIFT_WATCH_TOKEN="")[0] == PASS


def test_a_private_experiment_needs_the_token_of_a_reader(pipeline: Pipeline, provider: Provider) -> None:
    stranger = RemoteUser(pipeline.user.api, provider.token(unique("stranger")))
    assert stranger.call("POST", "/user").status_code == 201
    other = stranger.authorization["Authorization"].removeprefix("Bearer ")
    for token, status, reason in (
        ("", "403", "DRIFT_WATCH_TOKEN is empty"),
        (other, "403", "You need Read access to this experiment. Ask one of its managers."),
        ("wrong", "401", "The token is not a JWT"),
    ):
        exit_status, output = pipeline.check(DRIFT_WATCH_TOKEN=token)
        assert exit_status == NOT_ASKED
        assert f"responded with {status}" in output
        assert reason in output


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("DRIFT_WATCH_EXPERIMENT", "00000000-0000-0000-0000-000000000000", "There is no experiment with this id"),
        ("DRIFT_WATCH_EXPERIMENT", "abc", "'abc' is not an id"),
        ("DRIFT_WATCH_EXPERIMENT", "../user", "DRIFT_WATCH_EXPERIMENT is not an id"),
        ("DRIFT_WATCH_EXPERIMENT", "", "DRIFT_WATCH_EXPERIMENT is not set"),
        ("DRIFT_WATCH_MODEL", "", "DRIFT_WATCH_MODEL is not set"),
        ("DRIFT_WATCH_URL", "", "DRIFT_WATCH_URL is not set"),
        ("DRIFT_WATCH_URL", "drift.example.org", "DRIFT_WATCH_URL does not begin with https://"),
        ("DRIFT_WATCH_MAX_AGE_HOURS", "", "DRIFT_WATCH_MAX_AGE_HOURS is not set"),
        ("DRIFT_WATCH_MAX_AGE_HOURS", "1 day", "DRIFT_WATCH_MAX_AGE_HOURS is not a whole number"),
        ("DRIFT_WATCH_MAX_AGE_HOURS", "99999999999999999999", "DRIFT_WATCH_MAX_AGE_HOURS is not a whole number"),
        ("DRIFT_WATCH_MAX_AGE_HOURS", "0", "DRIFT_WATCH_MAX_AGE_HOURS is not a whole number"),
        ("DRIFT_WATCH_TOKEN", "a\nX-Other: b", "DRIFT_WATCH_TOKEN holds a character"),
        ("PATH", "/nonexistent", "there is no curl here"),
    ],
)
def test_wrong_values_do_not_look_like_a_verdict(pipeline: Pipeline, variable: str, value: str, reason: str) -> None:
    pipeline.report(drift=False)
    status, output = pipeline.check((str(shutil.which("sh")),), **{variable: value})
    assert status == NOT_ASKED
    assert output.startswith("Not asked: ")
    assert reason in output


def test_a_wrong_path_is_reported(pipeline: Pipeline) -> None:
    status, output = pipeline.check(DRIFT_WATCH_URL=f"{pipeline.environment['DRIFT_WATCH_URL']}/elsewhere")
    assert status == NOT_ASKED
    assert "responded with 404" in output


def test_an_unreachable_service_is_not_asked(pipeline: Pipeline) -> None:
    status, output = pipeline.check(DRIFT_WATCH_URL=f"http://127.0.0.1:{free_port()}")
    assert status == NOT_ASKED
    assert "curl: (7)" in output
    assert "Check DRIFT_WATCH_URL" in output


class Gateway(ThreadingHTTPServer):
    """A gateway in front of the service, with responses of its own. The last one is repeated."""

    def __init__(self, *responses: tuple[int, str]) -> None:
        super().__init__(("127.0.0.1", 0), GatewayHandler)
        self.responses = list(responses)
        self.url = f"http://127.0.0.1:{self.server_port}"


class GatewayHandler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        responses = self.server.responses
        status, body = responses.pop(0) if len(responses) > 1 else responses[0]
        self.send_response(status)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway((503, "busy")) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again(pipeline: Pipeline, gateway: Gateway, status: int) -> None:
    gateway.responses = [(status, "busy"), (200, "[]")]
    assert pipeline.check(DRIFT_WATCH_URL=gateway.url, PATH=os.environ["PATH"])[0] == UNKNOWN


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ((503, '{"code": 503, "message": "Again \\"later\\"."}'), 'responded with 503 .*\nAgain \\\\"later'),
        ((502, "<html>Bad gateway</html>"), "responded with 502 .*\nThe response is not of Drift Watch"),
        ((403, '{"message": "No\x1b[2J\n::error::access"}'), r"responded with 403 .*\nNo \[2J ::error::access\n"),
        ((301, ""), "responded with 301 .*\nThe response is not of Drift Watch"),
        ((200, "<html>Log in</html>"), "not with a run of Drift Watch"),
        ((200, ""), "not with a run of Drift Watch"),
        ((200, '[{"id": "a", "verdict": "no_drift", "observed_at": "lately"}]'), "not with a run of Drift Watch"),
        ((200, '[{"id": "a", "verdict": "no_drift"'), "not with a run of Drift Watch"),
        ((200, '[{"id": "a", "verdict": "calm", "observed_at": "2026-11-28T06:00:00Z"}]'), "the verdict calm"),
    ],
)
def test_other_responses_do_not_look_like_a_verdict(
    pipeline: Pipeline, gateway: Gateway, response: tuple[int, str], reason: str
) -> None:
    gateway.responses = [response]
    status, output = pipeline.check(DRIFT_WATCH_URL=gateway.url)
    assert status == NOT_ASKED
    assert re.search(reason, output)


@pytest.mark.parametrize(
    ("name", "schema"), [("github-workflow.yaml", "github-workflows"), ("gitlab-ci.yaml", "gitlab-ci")]
)
def test_pipelines_are_valid_and_set_what_the_script_reads(name: str, schema: str) -> None:
    path = DIRECTORY / name
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    required = {f"DRIFT_WATCH_{variable}" for variable in ("URL", "TOKEN", "EXPERIMENT", "MODEL", "MAX_AGE_HOURS")}
    assert set(re.findall(r"DRIFT_WATCH_\w+", path.read_text())) == required
