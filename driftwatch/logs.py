"""The text format of the log, in which no text of a client can look like a line of its own or move the cursor."""

import logging
from typing import Any

from gunicorn import glogging  # type: ignore[import-untyped]

from core.printable import escaped


class OneLineFormatter(logging.Formatter):
    """Escapes the control characters of a message. The lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's name
        return indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - the base class's name
        return indented(super().formatStack(stack_info))


class GunicornLogger(glogging.Logger):
    """gunicorn's logs, which keep their formats. With `--access-logfile`, they hold paths and headers of clients."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        # A log configuration of the operator keeps its formatters.
        if cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
            return
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            plain = handler.formatter
            handler.setFormatter(OneLineFormatter(plain._fmt, plain.datefmt))


def indented(text: str) -> str:
    return "\n".join(f"  {escaped(line)}" for line in text.split("\n"))
