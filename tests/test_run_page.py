"""The page of a run: its details, the previous and next runs, commands that read it, and its deletion."""

import datetime
import json
import os
import subprocess
from typing import Any

import pytest
import requests
from bs4 import BeautifulSoup
from pytest_django import Settings

from audit.models import Action, Event
from drifts.models import Drift
from examples.mytoken import mytoken_server
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.crowd import RemoteUser
from tests.live import ROOT, LiveServer
from tests.profiler import reads_of
from tests.session import through_session
from tests.test_observed_at import as_older_record
from tests.test_runs_page import Shown


@pytest.fixture
def client(reader: Caller, settings: Settings) -> Client:
    """The reader's browser."""
    return through_session(reader, settings).client


def address(run: Drift) -> str:
    return f"/experiments/{run.experiment_id}/runs/{run.pk}"


def test_all_details_of_a_run_are_shown(client: Client, experiment: Experiment) -> None:
    run = Drift.objects.create_in(
        experiment,
        job_status="Completed",
        model="forest",
        drift_detected=False,
        model_version="2.1",
        detector="ks",
        environment="lab",
        tags=["nightly", "eu"],
        parameters={"p": 0.5, "test": {"names": ["a", "b"], "steps": [{"size": 1}]}, "none": None, "empty": {}},
    )
    shown = Shown(client.get(address(run)))
    assert shown.status == 200
    facts = dict(zip(shown.texts("dl.facts dt"), shown.texts("dl.facts dd"), strict=True))
    assert facts.pop("Updated") == f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC"
    assert facts == {
        "Verdict": "● No drift",
        "Status": "Completed",
        "Model": "forest",
        "Version": "2.1",
        "Detector": "ks",
        "Environment": "lab",
        "Tags": "nightly eu",
        "Series": "Detector: ks, Environment: lab, Model: forest",
        "Schema": "1.1.0",
        "Id": str(run.pk),
    }
    assert shown.texts("dl.tree dt") == ["p", "test", "names", "steps", "0", "size", "none", "empty"]
    leaves = shown.texts("dl.tree dd:not(:has(dl))")
    assert leaves == ["0.5", '["a", "b"]', "1", "null", "{}"]


@pytest.mark.parametrize("site", [7, 'a "quoted" & <b>site</b>, \\d', "ä" * 200])
def test_the_series_of_a_run_links_to_its_runs(client: Client, experiment: Experiment, site: Any) -> None:
    experiment.series_by = ["model", r"parameters.the\.site"]
    fields = {"job_status": "Completed", "drift_detected": False, "parameters": {"the.site": site}}
    runs = [Drift.objects.create_in(experiment, model=model, **fields) for model in ("forest", "forest", "pine")]
    page = Shown(client.get(address(runs[0])))
    (link,) = page.all('dl.facts a[aria-label^="Runs of this series"]', "href")
    assert Shown(client.get(link)).runs == [str(run.pk) for run in reversed(runs[:2])]


def test_a_series_that_no_filter_can_name_has_no_link(client: Client, experiment: Experiment) -> None:
    experiment.series_by = ["model", "detector", "environment", "feature", "model_version"]
    texts = dict.fromkeys(experiment.series_by, "m" * 255)
    run = Drift.objects.create_in(experiment, job_status="Running", **texts)
    shown = Shown(client.get(address(run)))
    assert not shown.tree.select('dl.facts a[aria-label^="Runs of this series"]')
    assert "m" * 255 in shown.text


def test_the_fields_of_a_backfilled_run_are_shown_with_the_time_of_its_report(
    client: Client, experiment: Experiment
) -> None:
    time = datetime.datetime(2026, 1, 1, 6, tzinfo=datetime.UTC)
    experiment.series_by = ["model", "feature", "parameters.site"]
    run = Drift.objects.create_in(
        experiment,
        job_status="Completed",
        model="forest",
        drift_detected=False,
        observed_at=time,
        window_start=time - datetime.timedelta(days=1),
        window_end=time,
        feature="age",
        p_value=0.123456789,
        statistic=-1e-7,
        sample_size=0,
        note="first line\n  second line",
        run_timeout=60,
        parameters={"site": 7},
    )
    shown = Shown(client.get(address(run)))
    assert shown.texts("h1") == ["Run of forest, 2026-01-01 06:00:00 UTC"]
    facts = dict(zip(shown.texts("dl.facts dt"), shown.tree.select("dl.facts dd"), strict=True))
    assert {name: fact.get_text() for name, fact in facts.items() if name not in ("Updated", "Id", "Verdict")} == {
        "Status": "Completed",
        "Model": "forest",
        "Feature": "age",
        "p-value": "0.123456789",
        "Statistic": "-1e-07",
        "Sample size": "0",
        "Window start": "2025-12-31 06:00:00 UTC",
        "Window end": "2026-01-01 06:00:00 UTC",
        "Note": "first line\n  second line",
        "Series": "Feature: age, Model: forest, parameters.site: 7",
        "Time-out (seconds)": "60",
        "Reported": f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "Schema": "1.1.0",
    }
    assert facts["Note"]["class"] == ["text"]


def test_a_run_that_measured_nothing_says_so_beside_its_verdict(client: Client, experiment: Experiment) -> None:
    run = {"job_status": "Completed", "model": "forest", "drift_detected": False}
    sentence = "Nothing was measured: the run has no parameters, p-value, statistic, threshold or sample size."
    without, measured = (Drift.objects.create_in(experiment, **run, p_value=number) for number in (None, 0.5))
    shown = Shown(client.get(address(without)))
    assert shown.texts("dl.facts .verdict") == ["● No drift"]
    assert shown.texts("dl.facts .tag") == [f"Unsupported. {sentence}"]
    assert shown.all("dl.facts .tag", "title") == [sentence]
    assert shown.texts("dl.facts .faint") == [sentence]
    assert "Unsupported" not in Shown(client.get(address(measured))).text


def test_very_many_parameters_are_left_to_the_api(client: Client, experiment: Experiment) -> None:
    many = {f"p{number}": number for number in range(2_001)}
    run = Drift.objects.create_in(experiment, job_status="Failed", model="m", parameters=many)
    shown = Shown(client.get(address(run)))
    assert "Too large to show." in shown.text
    assert not shown.tree.select("dl.tree")


def test_a_run_links_to_the_previous_and_next_run(client: Client, experiment: Experiment) -> None:
    other = Experiment.objects.create(name="another", public=True)
    runs = []
    for number in range(4):
        runs.append(Drift.objects.create_in(experiment, job_status="Failed", model=f"m{number}"))
        Drift.objects.create_in(other, job_status="Failed", model="other")
    # Runs with equal times are sorted by id.
    Drift.objects.filter(pk=runs[2].pk).update(observed_at=runs[1].observed_at)

    def beside(run: Drift) -> dict[str, str]:
        links = Shown(client.get(address(run))).tree.select("nav.pager a")
        return {str(link["rel"][0]): str(link["href"]) for link in links}

    assert beside(runs[0]) == {"next": address(runs[1])}
    assert beside(runs[1]) == {"prev": address(runs[0]), "next": address(runs[2])}
    assert beside(runs[2]) == {"prev": address(runs[1]), "next": address(runs[3])}
    assert beside(runs[3]) == {"prev": address(runs[2])}


def test_the_previous_and_next_run_are_those_of_the_time_in_all_versions(
    client: Client, experiment: Experiment
) -> None:
    runs: dict[int, Drift] = {}
    for day in (3, 0, 4, 1, 2):
        time = datetime.datetime(2026, 1, 1 + day, tzinfo=datetime.UTC)
        runs[day] = Drift.objects.create_in(experiment, job_status="Failed", model=f"day {day}", observed_at=time)
        if day % 2:
            as_older_record(str(runs[day].pk), time)
    for day, run in runs.items():
        links = Shown(client.get(address(run))).texts("nav.pager a")
        names = {-1: "← Previous: ", 1: "Next: "}
        assert [link.partition(":00:00")[0] for link in links] == [
            f"{name}day {day + step}, 2026-01-0{1 + day + step} 00"
            for step, name in names.items()
            if day + step in runs
        ]


def test_the_previous_and_next_run_are_read_by_an_index(client: Client, experiment: Experiment) -> None:
    Drift.objects.create_all_in(experiment, [{"job_status": "Failed", "model": "m"}] * 500)
    run = Drift.objects.order_by("observed_at", "id")[250]
    with reads_of(Drift) as reads:
        client.get(address(run))
    assert reads
    for read in reads:
        assert "IXSCAN" in read.plan or "IDHACK" in read.plan
        assert read.documents <= 2


@pytest.mark.parametrize("wrong", ["other", "unknown", "malformed"])
def test_a_run_of_another_experiment_is_not_found(
    client: Client, experiment: Experiment, drift: Drift, wrong: str
) -> None:
    other = Drift.objects.create_in(Experiment.objects.create(name="x"), job_status="Failed", model="secret-model")
    pk = {"other": str(other.pk), "unknown": "0" * 32, "malformed": "7"}[wrong]
    for page in ("", "/state"):
        shown = Shown(client.get(f"/experiments/{experiment.pk}/runs/{pk}{page}"))
        assert shown.status == 404
        assert shown.alert == "This run does not exist. It may have been deleted."
        assert "secret-model" not in shown.text
    missing = Shown(client.get(f"/experiments/{'0' * 32}/runs/{pk}"))
    assert missing.alert == "This experiment does not exist. It may have been deleted."


def test_the_current_state_of_a_run_is_read_by_conditional_requests(client: Client, experiment: Experiment) -> None:
    run = Drift.objects.create_in(experiment, job_status="Running", model="forest")
    shown = Shown(client.get(address(run)))
    (state,) = shown.all("[data-live]", "data-live")
    response = client.get(state)
    fragment = BeautifulSoup(response.content, "html.parser")
    assert fragment.select("section") == shown.tree.select("section")
    assert shown.all("section[data-running]", "data-running") == [run.pk.hex]
    headers = {"If-None-Match": response["ETag"]}
    assert client.get(state, headers=headers).status_code == 304
    run.update(job_status="Completed", drift_detected=True)
    now = client.get(state, headers=headers)
    assert now.status_code == 200
    assert "data-running" not in now.content.decode()
    assert "Completed" in now.content.decode()


def test_the_shown_curl_and_python_commands_read_the_run(live: LiveServer, remote_user: RemoteUser) -> None:
    experiment = remote_user.call("POST", "/experiment", {"name": f"shown {os.getpid()}", "public": True}).json()["id"]
    body = {"job_status": "Completed", "model": "forest", "drift_detected": True, "parameters": {"p_value": 0.01}}
    run = remote_user.call("POST", f"/experiment/{experiment}/drift", body).json()
    page = requests.get(f"{live.url}/experiments/{experiment}/runs/{run['id']}", timeout=30).text
    shown = BeautifulSoup(page, "html.parser")
    curl, python = (shown.select_one(selector) for selector in ("#curl", "#python"))
    assert curl
    assert python
    assert json.loads(output("bash", "-c", curl.get_text())) == run
    token = remote_user.authorization["Authorization"].removeprefix("Bearer ")
    with mytoken_server(lambda _: token) as mytoken_url:
        client = {"DRIFT_MONITOR_URL": live.url, "DRIFT_MONITOR_MYTOKEN": "any", "MYTOKEN_SERVER": mytoken_url}
        said = output(str(ROOT / ".venv-client/bin/python"), "-c", python.get_text(), **client)
    assert said == "forest Completed True {'p_value': 0.01}\n"


def output(*command: str, **environment: str) -> str:
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


def test_the_curl_command_of_a_private_run_sends_a_token(client: Client, drift: Drift) -> None:
    (curl,) = Shown(client.get(address(drift))).texts("#curl")
    assert curl == (
        'curl -H "Authorization: Bearer $TOKEN" '
        f"http://testserver/api/v1/experiment/{drift.experiment_id}/drift/{drift.pk}"
    )


def test_an_editor_deletes_a_run_after_confirmation(
    editor: Caller, reader: Caller, settings: Settings, drift: Drift
) -> None:
    browser, other = (through_session(caller, settings).client for caller in (editor, reader))
    assert "Delete run" not in Shown(other.get(address(drift))).text
    assert other.post(f"{address(drift)}/delete").status_code == 403
    link = Shown(browser.get(address(drift))).link("Delete run")
    confirmation = Shown(browser.get(link))
    assert confirmation.texts("h1") == ["Delete this run?"]
    assert Drift.objects.count() == 1
    response = browser.post(link, follow=True)
    assert response.redirect_chain == [(f"/experiments/{drift.experiment_id}", 302)]
    assert "The run of “forest” was deleted." in response.content.decode()
    assert not Drift.objects.exists()
    assert Event.objects.get(action=Action.DRIFT_DELETED).actor.email == "editor@example.org"
