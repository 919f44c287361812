"""The log in each format: a text of a client never looks like a line of its own."""

import json
import logging
import signal
import time
from collections.abc import Callable
from copy import deepcopy
from logging.config import DictConfigurator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings
from gunicorn.config import Config  # type: ignore[import-untyped]

from driftwatch.logs import GunicornLogger
from tests.live import GUNICORN, LiveServer, gunicorn_configuration

PATIENCE = 20
FORGED = "wine\n2026-11-28 12:00:00,000 ERROR root: \x1b[31mforged\r\u2028\x85\ud800"


def formatted(name: str, message: str, error: Exception | None = None) -> str:
    """The text of a record, in a format of `LOGGING`."""
    # The configurator changes what it is given.
    chosen: Any = deepcopy(settings.LOGGING["formatters"][name])
    formatter: Any = DictConfigurator({}).configure_formatter(chosen)
    caught = (type(error), error, error.__traceback__) if error else None
    return str(formatter.format(logging.LogRecord("test", logging.ERROR, "", 1, message, None, caught)))


def test_the_console_escapes_control_characters() -> None:
    shown = formatted("console", f"Größe: {FORGED}")
    assert shown.isprintable()
    assert "Größe: wine\\n2026-11-28" in shown
    assert "\\x1b[31mforged\\r\\u2028\\x85\\ud800" in shown


def test_the_console_indents_tracebacks() -> None:
    first, *others = formatted("console", "It failed.", ValueError(FORGED)).splitlines()
    assert first.endswith("ERROR test: It failed.")
    assert others
    assert all(line.startswith("  ") for line in others)


def test_json_has_one_line_for_each_record() -> None:
    shown = formatted("json", FORGED, ValueError(FORGED))
    assert shown.isprintable()
    assert json.loads(shown)["message"] == FORGED


def test_a_log_configuration_of_the_operator_keeps_its_formatters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("root", "gunicorn.error", "gunicorn.access"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    configuration = Config()
    formatters = {"theirs": {"format": "{message}", "style": "{"}}
    handlers = {
        "plain": {"class": "logging.StreamHandler"},
        "formatted": {"class": "logging.StreamHandler", "formatter": "theirs"},
    }
    loggers = {"gunicorn.error": {"handlers": ["plain", "formatted"], "propagate": False}}
    own = {"root": {"handlers": []}, "formatters": formatters, "handlers": handlers, "loggers": loggers}
    configuration.set("logconfig_dict", own)
    plain, formatted = GunicornLogger(configuration).error_log.handlers
    assert (plain.formatter, formatted.formatter._fmt) == (None, "{message}")


def test_the_logs_of_gunicorn_escape_control_characters(tmp_path: Path) -> None:
    assert gunicorn_configuration()["logger_class"] == "driftwatch.logs.GunicornLogger"
    configuration = Config()
    configuration.set("accesslog", str(tmp_path / "access"))
    configuration.set("errorlog", str(tmp_path / "error"))
    logger = GunicornLogger(configuration)
    logger.access_log.info("GET /%s", FORGED)
    logger.error("Invalid request: %s", FORGED)
    for handler in (*logger.access_log.handlers, *logger.error_log.handlers):
        handler.close()
    for name in ("access", "error"):
        [line] = (tmp_path / name).read_text().splitlines()
        assert "wine\\n2026-11-28" in line


def test_a_log_file_of_gunicorn_has_the_lines_of_requests_too_also_after_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, testrun_uid: str, worker_id: str
) -> None:
    log = tmp_path / "service.log"
    monkeypatch.setattr("tests.live.GUNICORN", [*GUNICORN, "--error-logfile", str(log)])
    live = LiveServer(MONGODB_NAME=f"log_file_{testrun_uid[:8]}_{worker_id}", LOG_FORMAT="json", WEB_CONCURRENCY="1")
    live.start()
    try:
        send(live, "before-rotation")
        log.rename(tmp_path / "rotated.log")
        live.process.send_signal(signal.SIGUSR1)
        # The worker opens the file after the main process.
        eventually(lambda: sends_to(live, "after-rotation", log))
    finally:
        live.stop()
    assert "before-rotation" in ids(tmp_path / "rotated.log")
    assert "before-rotation" not in ids(log)


def send(live: LiveServer, request_id: str) -> None:
    requests.get(f"{live.api}/user/self", headers={"X-Request-ID": request_id}, timeout=10)


def sends_to(live: LiveServer, request_id: str, log: Path) -> bool:
    send(live, request_id)
    return log.exists() and request_id in ids(log)


def ids(log: Path) -> set[str]:
    """Return the request ids of a log, all of whose lines are JSON."""
    return {json.loads(line).get("request_id") for line in log.read_text().splitlines()}


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
