"""The formats of the log, in which no text of a client can look like a line of its own or move the cursor."""

import logging
from typing import Any

from gunicorn import glogging  # type: ignore[import-untyped]
from pythonjsonlogger.json import JsonEncoder, JsonFormatter

from core.client import request_id, trace_id
from core.printable import escaped

NAMES = {"levelname": "level", "name": "logger"}
ENCODER = JsonEncoder()


class ContextFilter(logging.Filter):
    """Adds the id of the current request and of its trace to each record, and filters nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        if current := request_id():
            record.request_id = current
        if current := trace_id.get():
            record.trace_id = current
        return True


class JSONFormatter(JsonFormatter):
    """One JSON object in a line: time (RFC 3339, UTC), level, logger, message, and what the record has besides."""

    def __init__(self) -> None:
        super().__init__("{levelname}{name}{message}", style="{", timestamp="time", rename_fields=NAMES)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Return the record as ASCII. The base class makes an encoder for each record."""
        return ENCODER.encode(log_data)


class OneLineFormatter(logging.Formatter):
    """Escapes the control characters of a message, and ends it with the request id. Tracebacks are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        current = getattr(record, "request_id", None)
        return escaped(super().formatMessage(record)) + (f" [{current}]" if current else "")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's name
        return indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - the base class's name
        return indented(super().formatStack(stack_info))


class GunicornLogger(glogging.Logger):
    """gunicorn's logs, in the same format. With `--access-logfile`, they hold paths and headers of clients."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        # A log configuration of the operator keeps its formatters.
        if cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
            return
        # Django's own access to the settings needs them to be complete. gunicorn reads its configuration before.
        from driftwatch.settings import LOG_FORMAT  # noqa: PLC0415

        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            plain = handler.formatter
            is_json = LOG_FORMAT == "json"
            handler.setFormatter(JSONFormatter() if is_json else OneLineFormatter(plain._fmt, plain.datefmt))
            handler.addFilter(ContextFilter())


def indented(text: str) -> str:
    return "\n".join(f"  {escaped(line)}" for line in text.split("\n"))
