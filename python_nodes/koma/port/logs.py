"""Python's log records as ``log`` messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from koma.port.messages import Level, Log

MAX_TRACEBACK = 8_000
"""Characters of a traceback that travel; its end says most."""
MAX_TEXT = 2_000
"""Characters of a log line."""

_LEVELS: Mapping[int, Level] = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}


class WireHandler(logging.Handler):
    """Sends every record to the gateway."""

    def __init__(self, send: Callable[[Log], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send ``record``, with its logger, its job and its traceback where there are any."""
        fields: dict[str, str] = {"logger": record.name}
        if hasattr(record, "job"):
            fields["job"] = str(record.job)
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)[-MAX_TRACEBACK:]
        self._send(Log(_LEVELS.get(record.levelno, "error"), record.getMessage()[:MAX_TEXT], fields))


def forward_logs(send: Callable[[Log], None]) -> None:
    """Send what ``koma`` logs from INFO on and what anybody else logs from WARNING on."""
    logging.getLogger().addHandler(WireHandler(send))
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("koma").setLevel(logging.INFO)
