"""The files of `deploy/prometheus/`, judged by Prometheus and Alertmanager, and one alert from start to end."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pymongo.errors import OperationFailure

from core.background import Worker
from core.mongodb.documents import mongodb
from core.mongodb.embedded import EmbeddedServer
from driftwatch.metrics import state
from driftwatch.tasks import TASKS
from experiments.models import Experiment
from tests.caller import Caller
from tests.conftest import RUN
from tests.live import ROOT, LiveServer
from tests.prometheus import (
    ALERTS,
    DEPLOYED,
    MISSING,
    PROMETHEUS,
    Alertmanager,
    Prometheus,
    Receiver,
    copied,
    judge,
)
from tests.test_database_unavailable import eventually

needs_prometheus = pytest.mark.skipif(not PROMETHEUS, reason=MISSING)

PANELS = json.loads((DEPLOYED / "grafana.json").read_text())["panels"]
DASHBOARD = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
SELECTOR = re.compile(r"(driftwatch_\w+)(?:\{(.*?)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*?)"')
# Prometheus adds these labels to those of the service.
OF_TARGETS = {"job", "instance"}
# The labels whose values the service chooses.
CHOSEN = {"check", "reason", "result", "verdict", "way"}


@needs_prometheus
def test_prometheus_takes_the_rules_and_the_configuration(tmp_path: Path) -> None:
    copied("alerts.yml", tmp_path, {})
    (tmp_path / "metrics_token").touch()
    judge("promtool", "check", "config", "--lint=all", "--lint-fatal", copied("prometheus.yml", tmp_path, {}))


@needs_prometheus
def test_alertmanager_takes_its_configuration() -> None:
    judge("amtool", "check-config", DEPLOYED / "alertmanager.yml")


@needs_prometheus
def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [each.replace("$__rate_interval", "5m").replace("$instance", ".*") for each in DASHBOARD]
    assert not [each for each in expressions if "$" in each], "other variables of Grafana"
    rules = [{"record": f"dashboard:{number}", "expr": each} for number, each in enumerate(expressions)]
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    judge("promtool", "check", "rules", file)


def test_each_alert_says_what_happens_and_where_to_read_more() -> None:
    for alert in ALERTS:
        assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"


def test_the_operations_page_has_a_section_for_each_alert() -> None:
    headings = re.findall(r"^#+ (DriftWatch\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(alert["alert"] for alert in ALERTS)


def test_the_service_has_every_series_of_the_alerts_and_the_dashboard(editor: Caller, experiment: Experiment) -> None:
    for drift_detected in (True, False):
        editor.post(f"/experiment/{experiment.id}/drift", {**RUN, "drift_detected": drift_detected})
    Worker(TASKS).run_once()
    with pytest.raises(OperationFailure):
        mongodb().database.command("nonsense")
    state.shared.forget()
    metrics = text_string_to_metric_families(Client().get("/metrics").content.decode())
    samples = [sample for family in metrics for sample in family.samples]
    for expression in (*(alert["expr"] for alert in ALERTS), *DASHBOARD):
        for name, matchers in SELECTOR.findall(expression):
            labels = [sample.labels for sample in samples if sample.name == name]
            assert labels, f"{name} in {expression}"
            for label, kind, values in MATCHER.findall(matchers):
                if label not in OF_TARGETS:
                    assert label in labels[0], f"{label} in {expression}"
                if label in CHOSEN:
                    existing = {each[label] for each in labels}
                    assert set(values.split("|")) <= existing, f"{label}{kind}{values} in {expression}"


# An alert


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[LiveServer, EmbeddedServer]]:
    """The service and its database, which the test stops."""
    database = EmbeddedServer(tmp_path / "mongodb")
    database.start()
    live = LiveServer(MONGODB_URI=database.uri, MONGODB_NAME="alerts", METRICS_TOKEN="the-token-of-prometheus")
    live.start()
    yield live, database
    live.stop()
    database.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def alertmanager(receiver: Receiver, tmp_path: Path) -> Iterator[Alertmanager]:
    (tmp_path / "alertmanager").mkdir()
    alertmanager = Alertmanager(tmp_path / "alertmanager")
    alertmanager.start(receiver.url)
    eventually(alertmanager.is_ready)
    yield alertmanager
    alertmanager.stop()


@pytest.fixture
def prometheus(
    service: tuple[LiveServer, EmbeddedServer], alertmanager: Alertmanager, tmp_path: Path
) -> Iterator[Prometheus]:
    (tmp_path / "prometheus").mkdir()
    prometheus = Prometheus(tmp_path / "prometheus")
    prometheus.start(service[0].url, service[0].environment["METRICS_TOKEN"], alertmanager.address)
    eventually(prometheus.is_ready)
    yield prometheus
    prometheus.stop()


@needs_prometheus
def test_an_alert_of_an_unavailable_database_fires_and_ends(
    service: tuple[LiveServer, EmbeddedServer], prometheus: Prometheus, receiver: Receiver
) -> None:
    database = service[1]
    eventually(lambda: prometheus.value("driftwatch_database_up") == 1)
    assert receiver.find("DriftWatchDatabaseAway", "firing") is None
    assert database.process
    database.process.kill()
    database.process.wait()
    try:
        eventually(lambda: receiver.find("DriftWatchDatabaseAway", "firing"))
        assert receiver.find("DriftWatchDatabaseAway", "resolved") is None
    finally:
        database.start()
    eventually(lambda: receiver.find("DriftWatchDatabaseAway", "resolved"))
    fired = receiver.find("DriftWatchDatabaseAway", "firing")
    assert fired
    assert fired["receiver"] == "on-call"
    assert fired["annotations"]["summary"] == "MongoDB does not respond to any copy of Drift Watch."
