"""The files of `deploy/prometheus/`, judged by Prometheus and Alertmanager."""

import json
from pathlib import Path

import pytest

from tests.prometheus import ALERTS, DEPLOYED, MISSING, PROMETHEUS, copied, judge

needs_prometheus = pytest.mark.skipif(not PROMETHEUS, reason=MISSING)

PANELS = json.loads((DEPLOYED / "grafana.json").read_text())["panels"]
DASHBOARD = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]


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
